from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from wdp_edge import cli
from wdp_edge.config.file import dump_recipe, load_recipe, merge
from wdp_edge.demo import run as demo_run
from wdp_edge.demo.run import Length, demo
from wdp_edge.demo.train import SPEC, TrainOptions, train_dense
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_json, write_text
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.device import Latency
from wdp_edge.runs.figures import BudgetFigures, ModelFigures
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import MANIFEST, RECIPE, RESULT

TINY = ModelSpec(SPEC.name, 10, {**SPEC.args, "embed_dim": 32, "depth": 2, "num_heads": 2})
FIGURES = ModelFigures(0.97, Latency(2.0, 2.1, 1.9), 10, 10, 10, path=Path("runs/model.pte"))


class FakePrune:
    """FAKE: stands in for prune, profile and report, which take minutes here; init is the real one, in this process."""

    def __init__(self, met: bool = True, fails: str = "") -> None:
        self.met, self.fails = met, fails
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
        words = command[command.index("wdp_edge") + 1 :]
        self.commands.append(words)
        if words[0] == self.fails:
            return subprocess.CompletedProcess(command, 2)
        if words[0] == "init":
            with contextlib.chdir(cwd):
                return subprocess.CompletedProcess(command, cli.main(words))
        if words[0] == "prune":
            self.write(cwd, words[words.index("--latency-budget") + 1], int(words[-1]))
            return subprocess.CompletedProcess(command, 0 if self.met else 1)
        return subprocess.CompletedProcess(command, 0)

    def write(self, folder: Path, budget: str, images: int) -> None:
        settings = {"prune.latency_budget": budget, "prune.images": images}
        run = folder / "runs" / f"run-{images}"
        recipe = merge(load_recipe(folder / "wdp-edge.toml"), settings)
        write_text(run / RECIPE, dump_recipe(recipe, comments=False))
        write_json(run / MANIFEST, {})
        figures = BudgetFigures(1.0, 0.9 if self.met else 1.1, 0.9 if self.met else 1.1, self.met)
        relative = Path("runs") / run.name
        write_json(
            run / RESULT,
            PruneResult(relative, "executorch", "fp32", "local", figures, dense=FIGURES, shipped=FIGURES),
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePrune:
    """The demo with a tiny model, hardly trained, and a fake prune."""
    fake = FakePrune()
    patch(monkeypatch, fake)
    return fake


def patch(monkeypatch: pytest.MonkeyPatch, fake: FakePrune) -> None:
    monkeypatch.setattr("wdp_edge.demo.run.subprocess.run", fake)
    monkeypatch.setattr(demo_run, "FULL", Length(steps=2, images=200))
    monkeypatch.setattr(demo_run, "SHORT", Length(steps=1, images=100))
    monkeypatch.setattr("wdp_edge.demo.train.SPEC", TINY)

    def train(train: Any, val: Any, checkpoint: Path, options: TrainOptions) -> Any:
        return train_dense(train, val, checkpoint, TINY, options)

    monkeypatch.setattr("wdp_edge.demo.train.train_dense", train)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FakePrune, str]:
    """A short demo in a folder that did not exist: the folder, its commands, and what was printed."""
    fake, out = FakePrune(), io.StringIO()
    folder = tmp_path_factory.mktemp("demo") / "new"
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(out):
        patch(monkeypatch, fake)
        result = demo(folder, short=True)
    assert result.run == folder / "runs" / "run-100"
    assert result.report.parent == result.run
    assert result.shipped.path == result.dense.path == folder / "runs" / "model.pte"
    assert result.budget.met
    return folder, fake, out.getvalue()


@pytest.fixture
def project(finished: tuple[Path, FakePrune, str], tmp_path: Path) -> Path:
    """A copy of the finished short demo."""
    return shutil.copytree(finished[0], tmp_path / "copy")


def test_runs_and_prints_the_ordinary_commands(finished: tuple[Path, FakePrune, str]) -> None:
    _, fake, out = finished
    assert [words[0] for words in fake.commands] == ["init", "prune", "profile", "report"]
    assert fake.commands[1] == ["prune", "--latency-budget", "50%", "--images", "100"]
    assert fake.commands[2:] == [["profile"], ["report"]]
    shown = [line for line in out.splitlines() if line.startswith("$ ")]
    assert shown[0].startswith("$ wdp-edge init --model vit_tiny_patch16_224 --model-arg img_size=32 ")
    assert shown[1] == "$ wdp-edge prune --latency-budget 50% --images 100"


def test_digits_are_not_mirrored(finished: tuple[Path, FakePrune, str]) -> None:
    recipe = load_recipe(finished[0] / "wdp-edge.toml")
    assert recipe.data.flip is False
    assert recipe.data.min_crop == 0.7
    assert recipe.model.name == "vit_tiny_patch16_224"
    assert "# mirror" in (finished[0] / "wdp-edge.toml").read_text(), "the file's comments stay"


def test_goes_on_with_what_is_there(fake: FakePrune, project: Path) -> None:
    checkpoint = (project / "dense.safetensors").read_bytes()
    full = demo(project)
    assert [words[0] for words in fake.commands] == ["prune", "profile", "report"]
    assert (project / "dense.safetensors").read_bytes() == checkpoint
    assert full.run.name == "run-200"


def test_reports_the_run_it_made_when_another_is_later(fake: FakePrune, project: Path) -> None:
    fake.write(project, "50%", 200)
    fake.write = lambda *_: None  # type: ignore[method-assign]
    assert demo(project, short=True).run.name == "run-100"
    assert fake.commands[1:] == [["profile", "runs/run-100"], ["report", "runs/run-100"]]


def test_a_missed_budget_is_a_result(fake: FakePrune, project: Path) -> None:
    fake.met = False
    assert not demo(project).budget.met


def test_a_failing_command_is_named(fake: FakePrune, project: Path) -> None:
    fake.fails = "profile"
    with pytest.raises(InputError, match="`wdp-edge profile` ended with status 2"):
        demo(project)


def test_the_result_serialises_like_that_of_prune(fake: FakePrune, project: Path) -> None:
    write_json(project / "out.json", demo(project))
    data = json.loads((project / "out.json").read_text())
    assert data["version"] == 1
    assert {"run", "budget", "dense", "shipped", "report"} <= data.keys()
