"""wdp_edge/commands/check.py: a run against every [[budget]] of its project, on real files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fake_clock_run import recipe_of
from tiny_project import small_project

from wdp_edge.cli._shared import code_of
from wdp_edge.commands import check as check_module
from wdp_edge.commands.check import CHECK, check
from wdp_edge.commands.source import dense_run
from wdp_edge.config.recipe import BudgetRecipe
from wdp_edge.devices.local import LocalDevice
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import write_json
from wdp_edge.io.plain import read_as
from wdp_edge.protocols.device import Kind, Latency, Timing, TimingPlan
from wdp_edge.protocols.target import Target, get_target
from wdp_edge.report.junit import write_junit
from wdp_edge.runners.runtimes import RUNTIMES
from wdp_edge.runs.figures import BudgetFigures, ModelFigures
from wdp_edge.runs.results import ArtifactFigures, CheckResult, PruneResult, UnjudgedFile

lacking = [name for name in ("cmake", "g++") if shutil.which(name) is None]

EASY = BudgetRecipe(target="onnx", precision="fp32", latency="100s", size="100MB", accuracy_drop=50.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense_run(recipe_of(small_project(tmp_path_factory.mktemp("project")), "80%"))


class Counting(LocalDevice):
    """A fake: a device whose times are counts."""

    kind = Kind.VIRTUAL

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        return [Timing(Latency(2.0, 2.0, 2.0, Kind.VIRTUAL), (2.0,) * plan.rounds) for _ in artifacts]


def test_what_is_missing_is_exported_and_every_limit_is_measured(run: Path, tmp_path: Path) -> None:
    result = check(run, [EASY, BudgetRecipe(target="executorch", precision="fp32", latency="100%", size="1kB")])
    onnx, executorch = result.budgets
    assert onnx.path.name == "model-fp32.onnx" and onnx.met and onnx.verified
    assert [limit.name for limit in onnx.limits] == ["latency", "size", "accuracy_drop"]
    assert onnx.limits[1].measured == onnx.path.stat().st_size
    assert abs(onnx.limits[2].measured) < 10  # fp32 loses next to nothing on twelve images
    share, size = executorch.limits
    # The file is the dense model itself, held against the dense file.
    assert 0.5 < share.measured / share.limit < 2
    assert (run / "artifacts" / "dense-fp32.pte").exists()
    assert not size.met and not executorch.met and not result.met
    assert read_as(run / CHECK, CheckResult) == result
    assert not (run / "scratch").exists()

    before = onnx.path.stat().st_mtime_ns
    assert check(run, [EASY]).met
    assert onnx.path.stat().st_mtime_ns == before

    write_junit(result, tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    failed = [case.get("name") for case in suite if len(case)]
    assert suite.get("tests") == "7" and suite.get("failures") == str(len(failed)) and "size" in failed


def test_the_class_that_loses_most_is_held_to_a_limit_of_its_own(run: Path) -> None:
    (budget,) = check(run, [BudgetRecipe(target="onnx", precision="fp32", max_class_drop=20.0)]).budgets
    (limit,) = budget.limits
    assert limit.name == "max_class_drop" and limit.met and limit.measured == 0.0
    # Four images of each class are too few to judge by points alone, and the file is the dense model itself.
    assert limit.note is not None and "of 3" in limit.note and "blue, green, red" in limit.note
    assert budget.drops is not None and [part.images for part in budget.drops.parts] == [4, 4, 4]
    assert budget.drops.overall.points is not None and abs(budget.drops.overall.points) < 10
    assert read_as(run / CHECK, CheckResult).budgets == [budget]


def test_virtual_times_pass_only_where_they_are_accepted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "get_device", lambda name: Counting())
    budget = BudgetRecipe(target="onnx", precision="fp32", latency="3ms")
    with pytest.raises(InputError, match="virtual, not measured"):
        check(run, [budget])
    (latency,) = check(run, [replace(budget, accept="virtual")]).budgets[0].limits
    assert latency.met and latency.kind is Kind.VIRTUAL
    with pytest.raises(InputError, match="emulated and does not report how much memory"):
        check(run, [replace(budget, accept="virtual", peak_memory="4MB")])


@pytest.mark.skipif(bool(lacking), reason=f"{', '.join(lacking)} not installed: no runner can be built")
def test_memory_is_that_of_the_native_runner_here(run: Path) -> None:
    budgets = [BudgetRecipe(target=name, precision="fp32", peak_memory="200MB") for name in RUNTIMES]
    budgets.append(BudgetRecipe(target="onnx", precision="fp32", latency="100%", peak_memory="1MB"))
    *each, missed = check(run, budgets).budgets
    for checked in each:
        (memory,) = checked.limits
        # A Python process with torch takes more.
        assert memory.met and checked.met and 1_000_000 < memory.measured < memory.limit == 200_000_000
    assert not missed.met and not missed.limits[1].met and missed.limits[1].name == "peak_memory"


def test_memory_needs_what_builds_a_runner(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"g\+\+ is not installed.*sudo apt-get install g\+\+"):
        check(run, [BudgetRecipe(target="onnx", precision="fp32", peak_memory="200MB")])


def test_a_device_that_vanishes_takes_nothing_along(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(LocalDevice):
        """A fake: a device that is lost as soon as it is asked."""

        def time(self, *args: object) -> list[Timing]:
            raise SetupError("The device is gone.", "Plug it in.")

    monkeypatch.setattr(check_module, "get_device", lambda name: Gone() if name == "local" else LocalDevice())
    size_only = BudgetRecipe(target="onnx", precision="fp32", size="100MB")
    result = check(run, [EASY, size_only])
    assert read_as(run / CHECK, CheckResult) == result
    assert [budget.limits[0].name for budget in result.budgets] == ["size"] and result.budgets[0].met
    (lost,) = result.unjudged
    assert (lost.where, lost.reason, lost.state) == ("local", "The device is gone.", "not judged on local")
    assert not result.met and code_of(result) == 2
    assert not (run / "scratch").exists()
    with pytest.raises(SetupError, match="gone"):
        check(run, [EASY])


def test_a_file_that_cannot_be_made_keeps_no_other_from_its_budget(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAKE: every export of int8 fails as a toolkit's does, and tflite's packages are not installed."""

    def make_all_but_int8(*words: object, **options: object) -> tuple[list[ArtifactFigures], list[UnjudgedFile]]:
        return [], [UnjudgedFile(None, "onnx", "int8-static", "It has an odd layer.", "Take another.")]

    def get_all_but_tflite(name: str) -> Target:
        if name == "tflite":
            raise SetupError("Target 'tflite' needs litert.", "Install it.")
        return get_target(name)

    monkeypatch.setattr(check_module, "make", make_all_but_int8)
    monkeypatch.setattr(check_module, "get_target", get_all_but_tflite)
    size_only = BudgetRecipe(target="onnx", precision="fp32", size="100MB")
    odd, missing = replace(size_only, precision="int8-static"), replace(size_only, target="tflite")
    result = check(run, [odd, missing, size_only])
    assert [budget.precision for budget in result.budgets] == ["fp32"] and result.budgets[0].met
    assert [(u.target, u.reason) for u in result.unjudged] == [
        ("tflite", "Target 'tflite' needs litert."),
        ("onnx", "It has an odd layer."),
    ]
    assert not result.met and code_of(result) == 2
    assert code_of(check(run, [odd, replace(size_only, size="1kB")])) == 1, "a missed budget weighs more"

    write_junit(result, tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "0", "2")
    assert "odd layer" in str([error.get("message") for error in suite.iter("error")])


def test_words_that_mean_nothing(run: Path) -> None:
    with pytest.raises(InputError, match=r"no \[\[budget\]\]"):
        check(run)
    with pytest.raises(InputError, match="no precision 'palette4'"):
        check(run, [BudgetRecipe(target="onnx", precision="palette4")])
    with pytest.raises(InputError, match="how much memory a file of target 'coreml' takes"):
        check(run, [BudgetRecipe(target="coreml", precision="fp32", peak_memory="1GB")])


def test_a_run_folder_that_was_moved(run: Path, tmp_path: Path) -> None:
    """As a CI system moves it; the run's own figures still name the files where they were."""
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    figures = ModelFigures(0.5, Latency(1.0, 1.0, 1.0), 1, 1, 1, path=run / "artifacts" / "gone.onnx")
    shutil.copy(moved / "artifacts" / "model-fp32.onnx", moved / "artifacts" / "gone.onnx")
    shutil.copy(moved / "artifacts" / "model-fp32.onnx.json", moved / "artifacts" / "gone.onnx.json")
    budget = BudgetFigures(1.0, 1.0, 1.0, True)
    write_json(moved / "result.json", PruneResult(run, "onnx", "fp32", "local", budget, figures, figures))
    checked = check(moved, [replace(EASY, latency="100%", accuracy_drop=100.0)]).budgets[0]
    assert checked.path == moved / "artifacts" / "gone.onnx" and checked.verified
