"""How files are timed beside the dense one and alone, on a FAKE device that writes its plans down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wdp_edge.config.recipe import PruneRecipe, TimingRecipe
from wdp_edge.config.values import LatencyBudget
from wdp_edge.errors import InputError
from wdp_edge.protocols.device import Kind, Latency, Timing, TimingPlan
from wdp_edge.protocols.precision import Precision
from wdp_edge.pruning.toolkit import Toolkit, timing_plan

DENSE, FILE = Path("dense.fake"), Path("model.fake")


class Clock:
    """FAKE: each call takes the next of `ms` for the last file; others take 10 ms."""

    name = "clock"

    def __init__(self, *ms: float, kind: Kind = Kind.MEASURED, noise: float = 0.0) -> None:
        self.ms, self.kind, self.noise = list(ms), kind, noise
        self.plans: list[TimingPlan] = []

    def time(
        self, target: str, artifacts: Sequence[Path], plan: TimingPlan, on_round: Callable[[int, int], None]
    ) -> list[Timing]:
        self.plans.append(plan)
        took = [*[10.0] * (len(artifacts) - 1), self.ms.pop(0)]
        return [
            Timing(Latency(ms, ms, ms), tuple(ms * (1 + self.noise * (i % 5 - 2)) for i in range(plan.rounds)))
            for ms in took
        ]


def toolkit(clock: Any, **timing: Any) -> Toolkit:
    target: Any = SimpleNamespace(name="fake")
    return Toolkit(target, Precision.FP32, clock, TimingPlan(rounds=10, runs=15), TimingRecipe(**timing))


def test_a_file_beside_the_dense_one_is_judged_by_the_rounds_of_both() -> None:
    clock = Clock(4.0)
    found = toolkit(clock, seconds=0.0).time_beside(DENSE, FILE, LatencyBudget(share=0.5), 10.0, times=2)
    assert (found.ratio, found.budget_ms, len(found.rounds_shipped)) == (0.4, 5.0, 20)
    assert clock.plans[0].runs < 15, "files take turns after few runs"


def test_a_program_of_the_user_s_starts_anew_for_every_round_so_turns_are_long() -> None:
    clock = Clock(4.0)
    toolkit(clock, seconds=0.0, runner="benchmark_model").time_beside(DENSE, FILE, LatencyBudget(5.0), 10.0)
    assert clock.plans[0] == TimingPlan(rounds=10, runs=15)


def test_an_emulator_is_asked_as_often_as_the_recipe_says() -> None:
    clock = Clock(4.0, kind=Kind.VIRTUAL)
    toolkit(clock, seconds=60.0).time_beside(DENSE, FILE, LatencyBudget(5.0), 10.0)
    assert clock.plans[0] == TimingPlan(rounds=10, runs=15)


@pytest.mark.parametrize(("ms", "timings"), [(4.0, 1), (5.0, 3)])
def test_the_dense_file_alone_is_timed_again_where_the_budget_is_too_near_to_tell(ms: float, timings: int) -> None:
    clock = Clock(*[ms] * 4, noise=0.02)
    found = toolkit(clock, seconds=0.0).time_alone(DENSE, LatencyBudget(5.0))
    assert (found.ratio, found.dense) == (1.0, found.shipped)
    assert [plan.rounds for plan in clock.plans] == [1] + [10] * timings, "the first one counts the rounds"


def test_the_recipe_s_words_become_a_toolkit_or_an_error() -> None:
    prune = PruneRecipe(target="onnx", precision="fp32", threads=2, timing=TimingRecipe(cpus="1,2"))
    tools = Toolkit.of(prune)
    assert (tools.target.name, tools.device.name, tools.precision) == ("onnx", "local", Precision.FP32)
    assert (tools.plan.threads, tools.plan.cpus, tools.plan.rounds) == (2, (1, 2), prune.table.rounds)
    assert replace(tools.plan, rounds=1, runs=1) == replace(timing_plan(prune), rounds=1, runs=1)
    with pytest.raises(InputError, match="int3"):
        Toolkit.of(replace(prune, precision="int3"))
    with pytest.raises(InputError, match=r"'ssh:board' times files of target 'tflite, executorch' only, not of 'onnx'"):
        Toolkit.of(replace(prune, device="ssh:board", timing=TimingRecipe(runner="benchmark_model")))
