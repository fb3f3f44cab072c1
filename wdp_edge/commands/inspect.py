"""What is inside an artifact."""

from __future__ import annotations

import contextlib
from pathlib import Path

from wdp_edge.artifacts.about import read_about
from wdp_edge.artifacts.sidecar import read_sidecar, sidecar_path
from wdp_edge.devices.local import WORKER
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import size_of
from wdp_edge.io.plain import from_plain
from wdp_edge.protocols.target import (
    CPU,
    Contents,
    Target,
    get_target,
    on_unit,
    target_class,
    target_names,
    targets_of,
)
from wdp_edge.runs.results import InspectResult
from wdp_edge.workers.process import WorkerProcess


def inspect(path: Path, target: str | None = None, unit: str | None = None) -> InspectResult:
    """Operators, weights, inputs, outputs and origin of an artifact, wherever it was made.

    target: needed where the file's name does not tell. unit: of the device, such as gpu, for which the operators are
    counted that it takes; the file's own by default.
    Raises InputError when the file is missing, damaged or of no target that is known.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Name an artifact, such as runs/…/artifacts/model.pte.")
    name = target or target_by_name(path)
    adapter = get_target(name if unit is None else on_unit(name.partition(":")[0], unit))
    contents = contents_of(adapter, path)
    proven = read_sidecar(path).proven_on if sidecar_path(path).exists() else []
    return InspectResult(path, adapter.name, size_of(path), contents, read_about(contents.metadata), proven)


def contents_of(adapter: Target, path: Path) -> Contents:
    """What is inside the artifact. Raises as `Target.inspect` does.

    A driver of another unit than the CPU may take the process with it, so there it is asked in one of its own.
    """
    if adapter.name in targets_of(CPU):
        return adapter.inspect(path)
    what = f"looking at {path.name}"
    request = {"verb": "inspect", "what": what, "target": adapter.name, "artifact": str(path)}
    with WorkerProcess(WORKER, request) as worker:
        return from_plain(Contents, worker.receive()[0]["contents"])


def target_by_name(path: Path) -> str:
    """The target whose suffix ends the file's name; the longest one where several do."""
    known = known_suffixes()
    fitting = [t for t in known if path.name.endswith(t[0])]
    if not fitting:
        suffixes = sorted({suffix for suffix, _ in known})
        raise InputError(f"No target makes files like {path.name}.", f"Names end with: {', '.join(suffixes)}.")
    return max(fitting, key=lambda t: len(t[0]))[1]


def known_suffixes() -> list[tuple[str, str]]:
    """Suffix and name of every target that can be imported; `doctor` tells of the others."""
    known = []
    for name in target_names():
        with contextlib.suppress(SetupError):
            known.append((target_class(name).suffix, name))
    return known
