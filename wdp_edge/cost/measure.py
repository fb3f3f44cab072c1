"""Measuring a latency table: export probes with the adapter, time them on the device, fit, cache."""

from __future__ import annotations

import hashlib
import json
import queue
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wdp_edge import progress
from wdp_edge.config.recipe import TableRecipe
from wdp_edge.cost.fit import Grid, Observation, fit_table
from wdp_edge.cost.probes import Probes, plan_probes
from wdp_edge.cost.table import TABLE_VERSION, LatencyTable, Scales, TableKey
from wdp_edge.devices.local import usable_cores
from wdp_edge.errors import InputError
from wdp_edge.io.files import cache_root, write_json
from wdp_edge.io.plain import read_as
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import Structure, attention_counts, mlp_counts
from wdp_edge.models.vit import drops_unread, fixed_heads, geometry_of, structure_of, tokens_of
from wdp_edge.protocols.device import Device, DeviceInfo, Kind, TimingPlan, ratio
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Target, imports_of
from wdp_edge.workers.process import WorkerProcess

EXPORT_WORKER = "wdp_edge.cost.export_worker"
# Raised whenever probes or fit change, so that cached tables made the old way are not used.
METHOD_VERSION = 7
_USUAL_SHARE = 0.5
# A large model on a busy machine exports for many minutes without a word.
_EXPORT_SECONDS = 3600.0
Jobs = queue.SimpleQueue[tuple[Structure, Path]]


@dataclass(frozen=True)
class Setting:
    """What a table is measured for. structure: of the dense model."""

    spec: ModelSpec
    structure: Structure
    target: Target
    precision: Precision
    device: Device
    plan: TimingPlan
    options: TableRecipe

    @property
    def timing(self) -> TimingPlan:
        """The plan with the table's own rounds and runs."""
        return replace(self.plan, rounds=self.options.rounds, runs=self.options.runs)

    def probes(self) -> Probes:
        """The models to time."""
        model = create(self.spec)
        narrow, last = fixed_heads(model) is None, drops_unread(model)
        multiple = self.target.mlp_width_multiple
        return plan_probes(self.structure, self.options, multiple, narrow, scales_of(model), last)


def cache_folder() -> Path:
    """`tables` in $WDP_EDGE_CACHE, or ~/.cache/wdp-edge/tables."""
    return cache_root() / "tables"


def measure_table(setting: Setting, cache: Path | None = None, dense_artifact: Path | None = None) -> LatencyTable:
    """The latency table of a model family on a device, from the cache where one of the same key is.

    cache: folder, `cache_folder()` when None.
    dense_artifact: the dense model already exported for this target and precision: saves exporting it again.
    Raises SetupError when the cache cannot be written or a worker fails.
    """
    info = setting.device.probe()
    path = (cache or cache_folder()) / f"{digest(setting, info)}.json"
    if (table := read_cached(path)) is not None:
        return table
    with tempfile.TemporaryDirectory(prefix="wdp-edge-") as folder:
        observations, kind = observe(setting, Path(folder), dense_artifact)
    table = make_table(setting, info, observations, kind)
    write_json(path, table)
    return table


def digest(setting: Setting, info: DeviceInfo) -> str:
    """The cache key: SHA-256 of everything that a table depends on."""
    parts = {
        "table": TABLE_VERSION,
        "method": METHOD_VERSION,
        "spec": setting.spec.to_json(),
        "structure": setting.structure.to_json(),
        "target": setting.target.name,
        "versions": setting.target.versions(),
        "precision": setting.precision,
        "device": info.key,
        "timing": asdict(setting.timing),
        "options": asdict(setting.options),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_cached(path: Path) -> LatencyTable | None:
    """The cached table, or None where there is none; a damaged one is measured again and replaced."""
    if not path.is_file():
        return None
    try:
        return read_as(path, LatencyTable)
    except InputError as error:
        progress.say(f"{error.message} Measuring the latency table again.")
        return None


def observe(setting: Setting, folder: Path, dense_artifact: Path | None) -> tuple[list[Observation], Kind]:
    """Exports and times all probes. The dense model is the first and the reference of every round."""
    probes = setting.probes()
    sizes = [setting.structure, *probes.sizes]
    structures = [*sizes, *probes.chains]
    paths = [folder / f"{i}{setting.target.suffix}" for i in range(len(structures))]
    jobs = list(zip(structures, paths, strict=True))
    if dense_artifact is not None:
        jobs, paths = jobs[1:], [dense_artifact, *paths[1:]]
    export_all(setting.spec, setting.target, setting.precision, jobs, "latency table: export")
    with progress.task("latency table: time", setting.timing.rounds) as advance:
        timings = setting.device.time(setting.target.name, paths, setting.timing, lambda done, total: advance(1))
    dense = timings[0].latency.p50
    times = [dense * ratio(t, timings[0]) for t in timings]
    seen = [Observation(s, ms, size=i < len(sizes)) for i, (s, ms) in enumerate(zip(structures, times, strict=True))]
    return seen, timings[0].latency.kind


def make_table(setting: Setting, info: DeviceInfo, observations: Sequence[Observation], kind: Kind) -> LatencyTable:
    """The table that explains the observations; the first one is the dense model."""
    probes = setting.probes()
    model = create(setting.spec)
    scales = scales_of(model)
    fit = fit_table(observations, Grid(probes.heads, probes.hidden, probes.head_dim, scales, drops_unread(model)))
    table = LatencyTable(
        attention=tuple(zip(map(float, probes.heads), map(float, fit.attention), strict=True)),
        mlp=tuple(zip(map(float, probes.hidden), map(float, fit.mlp), strict=True)),
        context=fit.context,
        fixed_ms=fit.fixed,
        head_ms=fit.head,
        dense_ms=observations[0].ms,
        kind=kind,
        key=TableKey(
            target=setting.target.name,
            precision=setting.precision,
            device=info.key,
            threads=setting.plan.threads,
            embed_dim=setting.structure.embed_dim,
            head_dim=probes.head_dim,
            tokens=tokens_of(model),
            versions=setting.target.versions(),
        ),
        scales=scales,
        last=fit.last,
    )
    # Where most budgets are, so that whoever adds up parts without asking for a limit is near the truth.
    return table.around(_USUAL_SHARE * table.dense_ms)


def scales_of(model: Any) -> Scales:
    """How much a head and a hidden unit of every block count by MACs, against the largest; empty where all do alike."""
    dense, geometry = structure_of(model), geometry_of(model)
    each = [
        (
            attention_counts(b, dense.embed_dim, geometry, i).macs / max(1, b.heads),
            mlp_counts(b, dense.embed_dim, geometry, i).macs / max(1, b.hidden),
        )
        for i, b in enumerate(dense.blocks)
    ]
    heads, hidden = (max(values) for values in zip(*each, strict=True))
    scales = tuple((a / heads, m / hidden) for a, m in each)
    return () if len(set(each)) == 1 else scales


def export_all(
    spec: ModelSpec,
    target: Target,
    precision: Precision,
    jobs: Sequence[tuple[Structure, Path]],
    title: str,
    processes: int = 2,
) -> None:
    """Exports models of these structures, with random weights, in parallel worker processes.

    Largest first, so that no worker ends with a long job while the other is idle.
    """
    waiting: Jobs = queue.SimpleQueue()
    for job in sorted(jobs, key=lambda j: -j[0].depth):
        waiting.put(job)
    request = {"spec": spec.to_json(), "target": target.name, "precision": precision}
    count = max(1, min(processes, usable_cores(), len(jobs)))
    with progress.task(title, len(jobs)) as advance, ThreadPoolExecutor(count) as pool:

        def work() -> None:
            what = {**request, "what": f"exporting {spec.name}"}
            imports = imports_of(target.name)
            with WorkerProcess(EXPORT_WORKER, what, silence_seconds=_EXPORT_SECONDS, imports=imports) as worker:
                while (job := next_job(waiting)) is not None:
                    worker.send({"structure": job[0].to_json(), "path": str(job[1])})
                    worker.receive()
                    advance(1)

        try:
            for finished in [pool.submit(work) for _ in range(count)]:
                finished.result()
        finally:
            while next_job(waiting) is not None:
                pass


def next_job(waiting: Jobs) -> tuple[Structure, Path] | None:
    try:
        return waiting.get_nowait()
    except queue.Empty:
        return None
