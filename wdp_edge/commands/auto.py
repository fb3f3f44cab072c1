"""`--precision auto`: the fastest artifact of a target that loses no more accuracy than allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wdp_edge import progress
from wdp_edge.artifacts.export_job import Exporter
from wdp_edge.artifacts.proof import artifact_path
from wdp_edge.calibration.choice import Choice, MixedPrecision, PrecisionSeries, Tried, candidates, choose
from wdp_edge.calibration.fake_quant import DYNAMIC, STATIC
from wdp_edge.calibration.sensitivity import LayerSensitivity, sensitivity
from wdp_edge.calibration.simulation import scheme_of
from wdp_edge.commands.source import Source
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.io.files import remove, size_of
from wdp_edge.protocols.device import Latency, check_pair, get_device, ratio
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, Target, check_timed, get_target
from wdp_edge.pruning.toolkit import timing_plan
from wdp_edge.runs.results import ArtifactFigures, ExportResult, TriedFigures
from wdp_edge.runs.run import Run

SENSITIVITY_IMAGES = 128
_SCHEMES = {Precision.INT8_DYNAMIC: DYNAMIC, Precision.INT8_STATIC: STATIC}


def export_auto(run: Path, target: str | None, accuracy_drop: float, pixels: bool = False) -> ExportResult:
    """Tries precisions, and the most sensitive layers in float, on held-back images; keeps the fastest inside the drop.

    accuracy_drop: points of accuracy that may be lost against the target's fp32 file (0.5 is half a point).
    Raises InputError when the target's files cannot be timed on this machine.
    """
    source = Source.of(run)
    source.data.check_choosable()
    adapter = get_target(target or source.recipe.prune.target)
    check_timed(adapter)
    check_pair(get_device(source.recipe.prune.device), adapter.name)
    with Run(run, source.recipe) as held, Exporter(adapter.name, source.folder) as exporter:
        search = Search(source, adapter, exporter, pixels)
        ranked = search.ranking()
        series = [PrecisionSeries(p, p.speed, ranked.get(p, ())) for p in adapter.precisions if p.speed is not None]
        choice = choose(candidates(series, search.shares), search.measure, accuracy_drop)
        figures = search.keep(held, choice)
    tried = [tried_figures(t) for t in choice.tried]
    metric, held_back = source.data.task.facts.metric, source.data.proves_on_held_back
    doubts, memorised = source.doubts(), source.memorised
    return ExportResult(
        run, [figures], figures.verified, tried, metric, doubts, held_back=held_back, memorised=memorised
    )


def tried_figures(tried: Tried) -> TriedFigures:
    return TriedFigures(
        precision=tried.candidate.precision,
        kept_float=list(tried.candidate.kept),
        accuracy=tried.accuracy,
        drop=tried.drop,
        latency_ms=tried.latency_ms,
        bytes=tried.bytes,
        allowed=tried.allowed,
    )


class Search:
    """Exports and measures candidates of one target, each against the fp32 file."""

    def __init__(self, source: Source, target: Target, exporter: Exporter, pixels: bool) -> None:
        self.source, self.target, self.exporter, self.pixels = source, target, exporter, pixels
        self.plan = timing_plan(source.recipe.prune)
        self.device = get_device(source.recipe.prune.device)
        self.shares: dict[str, float] = {}
        self.float_path = self.path(MixedPrecision(Precision.FP32, 1.0))
        self.float_accuracy, self.float_latency = 0.0, Latency(0.0, 0.0, 0.0)
        self.measure_float()

    def path(self, candidate: MixedPrecision) -> Path:
        name = f"auto-{candidate.precision}-{len(candidate.kept)}{self.target.suffix}"
        return self.source.run / "scratch" / name

    def export(self, candidate: MixedPrecision) -> Path:
        path = self.path(candidate)
        job = self.source.job(path, candidate.precision, self.pixels)
        self.exporter.export(replace(job, keep_float=list(candidate.kept)))
        return path

    def measure_float(self) -> None:
        """The fp32 file: what drops are counted from, and the partner of every timing."""
        self.export(MixedPrecision(Precision.FP32, 1.0))
        self.float_accuracy = self.accuracy_of(self.float_path)
        (timing,) = self.device.time(self.target.name, [self.float_path], self.plan)
        self.float_latency = timing.latency

    def accuracy_of(self, path: Path) -> float:
        """On all held-back training images."""
        data = self.source.data
        images = data.holdout[0]
        inputs = (part if self.pixels else data.prepare(part) for part in images.split(32))
        title = f"{path.name} on held-back images"
        return self.source.inputs.held_back.metric(run_artifact(self.target.name, path, inputs, len(images), title))

    def measure(self, candidate: MixedPrecision) -> Tried:
        """The candidate's file: its accuracy on held-back images, and its time as a share of the fp32 file's."""
        if candidate.precision == Precision.FP32:
            size = size_of(self.float_path)
            return Tried(candidate, self.float_accuracy, 0.0, self.float_latency.p50, size)
        path = self.export(candidate)
        got = self.accuracy_of(path)
        timings = self.device.time(self.target.name, [self.float_path, path], self.plan)
        # As a share of the fp32 file's time in the same rounds: a busy machine slows both alike.
        latency = self.float_latency.p50 * ratio(timings[1], timings[0])
        drop = 100 * (self.float_accuracy - got)
        kept = f", {len(candidate.kept)} layers in float" if candidate.kept else ""
        progress.say(f"{candidate.precision}{kept}: {drop:+.2f} points lost, {latency:.3g} ms")
        return Tried(candidate, got, drop, latency, size_of(path))

    def ranking(self) -> dict[Precision, tuple[str, ...]]:
        """Layers from the most sensitive on, for every precision that quantizes activations."""
        from wdp_edge.lowering.vit import lower

        lowered: Any = lower(self.source.model)
        data = self.source.data
        images = data.prepare(self.source.images[0][:SENSITIVITY_IMAGES])
        calibration = data.prepare(data.calibration[:32])
        found = {}
        for precision in self.target.precisions:
            scheme = _SCHEMES.get(precision) or scheme_of(self.target, precision)
            if precision.speed is not None and scheme is not None and scheme.activations != "float":
                layers = sensitivity(lowered, images, calibration, scheme, self.source.recipe.model.task)
                self.shares = shares_of(layers)
                found[precision] = tuple(s.name for s in layers)
        return found

    def keep(self, run: Run, choice: Choice) -> ArtifactFigures:
        """The chosen artifact in the run's folder, proven like any other."""
        candidate = choice.best.candidate
        final = artifact_path(run.path, f"-auto{self.target.suffix}", candidate.precision, self.pixels)
        final.parent.mkdir(exist_ok=True)
        remove(final)
        self.path(candidate).replace(final)
        artifact = Artifact.of(final, self.target.name, candidate.precision)
        self.source.record(artifact, self.pixels)
        run.add_artifact(final)
        remove(self.source.run / "scratch")
        return replace(self.source.judge(artifact, self.pixels), kept_float=list(candidate.kept))


def shares_of(layers: Sequence[LayerSensitivity]) -> dict[str, float]:
    """Each layer's share of all weights, which in a linear layer is that of the multiply-accumulates."""
    total = sum(layer.parameters for layer in layers)
    return {layer.name: layer.parameters / total for layer in layers}
