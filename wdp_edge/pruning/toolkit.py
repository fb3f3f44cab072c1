"""Target, precision and device of a recipe: what makes files of models, and what times them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wdp_edge import progress
from wdp_edge.config.recipe import PruneRecipe, TableRecipe, TimingRecipe
from wdp_edge.config.values import LatencyBudget, parse_cpus
from wdp_edge.cost.measure import Setting
from wdp_edge.errors import InputError
from wdp_edge.models.spec import ModelSpec
from wdp_edge.models.structure import Structure
from wdp_edge.protocols.device import Device, Kind, Timing, TimingPlan, check_pair, get_device, ratio
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, ExportOptions, Target, get_target, parse_precision
from wdp_edge.pruning.data import Data
from wdp_edge.pruning.timing import alternating, pooled, repeated, spread_over, value_of
from wdp_edge.runs.stages import Measured

STATIC_CALIBRATION = 128
_MOST_ALONE = 3  # timings of the dense file alone


@dataclass(frozen=True)
class Toolkit:
    """Target, precision and device of a recipe; no model and no images. plan: with the rounds and runs of its table."""

    target: Target
    precision: Precision
    device: Device
    plan: TimingPlan
    timing: TimingRecipe

    @classmethod
    def of(cls, prune: PruneRecipe) -> Toolkit:
        """Raises InputError for several targets or devices, and for names that are not known or do not go together,
        SetupError where packages are missing."""
        for name, text in (("target", prune.target), ("device", prune.device)):
            if "," in text:
                raise InputError(
                    f"This is for one {name}, not {text}.",
                    f"Write one as {name} in [prune] of wdp-edge.toml.",
                    {f"--{name}": f"Name one with --{name}."},
                )
        target = get_target(prune.target)
        device = get_device(prune.device, prune.timing.runner)
        check_pair(device, target.name)
        plan = replace(timing_plan(prune), rounds=prune.table.rounds, runs=prune.table.runs)
        return cls(target, parse_precision(prune.precision, target), device, plan, prune.timing)

    def table_setting(self, spec: ModelSpec, structure: Structure, options: TableRecipe) -> Setting:
        """What the latency table of a model is measured for. structure: of the dense model."""
        return Setting(spec, structure, self.target, self.precision, self.device, self.plan, options)

    def export(self, model: Any, data: Data, path: Path, texts: Mapping[str, str] | None = None) -> Artifact:
        """`model` as a file. data: has the images that a precision with fixed ranges is calibrated on. texts: what the
        file says about itself."""
        calibration = data.prepare(data.calibration[:STATIC_CALIBRATION])
        options = ExportOptions(self.precision, calibration, metadata=texts or {})
        return self.target.export(model, data.example(), path, options)

    def time_beside(self, dense: Path, path: Path, budget: LatencyBudget, dense_ms: float, times: int = 1) -> Measured:
        """Times the dense file and another one in turn in one run, and resolves the budget by it.

        dense_ms: about what the dense file takes, by which the rounds are counted. times: how many times as many.
        """
        plan = replace(self.plan, rounds=times * self.plan.rounds)
        if self.device.kind is Kind.MEASURED:
            if not self.timing.runner:  # the user's program starts anew for every round
                plan = alternating(plan)
            plan = spread_over(plan, times * self.timing.seconds, 2 * dense_ms)
        of_dense, timing = self._time([dense, path], plan, "time on the device")
        return Measured(
            dense=of_dense.latency,
            shipped=timing.latency,
            ratio=ratio(timing, of_dense),
            budget_ms=budget.resolve(of_dense.latency.p50),
            rounds_dense=list(of_dense.rounds),
            rounds_shipped=list(timing.rounds),
        )

    def time_alone(self, dense: Path, budget: LatencyBudget) -> Measured:
        """The dense file, in the place of both; again where the budget is within what its timing may be wrong by."""
        plan, title = self.plan, "time the dense file"

        def once() -> Measured:
            (timing,) = self._time([dense], plan, title)
            latency, rounds = timing.latency, list(timing.rounds)
            return Measured(latency, latency, 1.0, budget.resolve(latency.p50), rounds, rounds)

        def in_doubt(seen: Sequence[Measured]) -> bool:
            value = value_of(budget, seen)
            return len(seen) < _MOST_ALONE and abs(value.used - 1.0) <= 2 * value.spread and value.spread > 0

        (quick,) = self._time([dense], replace(plan, rounds=1), title)
        if self.device.kind is Kind.MEASURED:
            plan = spread_over(plan, self.timing.seconds, quick.latency.p50)
        return pooled(repeated(once, in_doubt), budget)

    def _time(self, files: list[Path], plan: TimingPlan, title: str) -> list[Timing]:
        with progress.task(title, plan.rounds) as advance:
            return self.device.time(self.target.name, files, plan, lambda done, total: advance(1))


def timing_plan(prune: PruneRecipe) -> TimingPlan:
    """Threads, cores, warm-up and rests of the recipe; rounds and runs are the caller's to set."""
    timing = prune.timing
    return TimingPlan(
        warmup=timing.warmup,
        threads=prune.threads,
        cpus=parse_cpus(timing.cpus),
        cooldown_seconds=timing.cooldown_seconds,
    )
