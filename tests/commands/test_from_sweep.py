"""wdp_edge/commands/from_sweep.py: which run of a sweep serves a [[budget]], by the runs' own figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_run import build_run

from wdp_edge.commands.from_sweep import choose_run
from wdp_edge.config.recipe import BudgetRecipe
from wdp_edge.errors import InputError
from wdp_edge.runs.places import read_result
from wdp_edge.runs.stages import RESULT
from wdp_edge.runs.sweeps import Member, SweepResult, read_sweep, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> SweepResult:
    """Files of 1, 2 and 3 ms, of a dense model of 4 ms, of which the slowest is the largest and the worst on the
    validation images."""
    for name, ms in (("fast", 1.0), ("middle", 2.0), ("slow", 3.0)):
        path = build_run(tmp_path / name) / RESULT
        result = json.loads(path.read_text())
        result["budget"] |= {"latency_ms": ms, "measured_ms": ms}
        result["dense"]["latency_ms"]["p50"] = 4.0
        result["shipped"] |= {"accuracy": 1 - 0.1 * ms, "bytes": int(1000 * ms)}
        path.write_text(json.dumps(result))
    write_sweep(tmp_path, "origin", [Member(name, name) for name in ("fast", "middle", "slow")])
    return read_sweep(tmp_path)


def budget_of(sweep: SweepResult, **limits: str) -> BudgetRecipe:
    result = read_result(sweep.entries[0].run)
    return BudgetRecipe(target=result.target, precision=result.precision, device=result.device, **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "run"),
    [
        ({"latency": "2.5ms"}, "middle"),
        ({"latency": "75%"}, "slow"),
        ({"latency": "74%"}, "middle"),
        ({"latency": "9ms", "size": "1kB"}, "fast"),
        ({}, "slow"),
        ({"latency": "0.5ms"}, "fast"),
    ],
)
def test_the_slowest_file_inside_serves(sweep: SweepResult, limits: dict[str, str], run: str) -> None:
    assert choose_run(sweep, budget_of(sweep, **limits)).run.name == run


@pytest.mark.parametrize("other", [{"device": "qemu:cortex-a76"}, {"precision": "fp32"}, {"threads": 3}])
def test_no_run_of_another_kind_serves(sweep: SweepResult, other: dict[str, object]) -> None:
    asked = replace(budget_of(sweep, latency="50%"), **other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="No run of") as raised:
        choose_run(sweep, asked)
    assert "wdp-edge prune --latency-budget 50%" in raised.value.hint
