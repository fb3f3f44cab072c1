"""`init --from-python` in a tiny project: what is written, and what is refused before any code runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_project import ARGS, MODEL, write_images

from wdp_edge.commands.init import InitResult, Origin, init
from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.errors import InputError
from wdp_edge.models.files import load_dense
from wdp_edge.models.spec import ModelSpec

CODE = f"""
import pathlib
import timm
pathlib.Path("ran").touch()
def make():
    return timm.create_model("{MODEL}", num_classes=3, **{ARGS})
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    write_images(Path("data/train"), 4)
    write_images(Path("data/val"), 1)
    return tmp_path


def started(model: ModelRecipe | None = None, force: bool = False, check_against: str = "") -> InitResult:
    origin = Origin(check_against, from_python="./mine.py:make")
    return init(model or ModelRecipe(), Path("data"), force=force, origin=origin)


def test_weights_name_and_arguments_are_written(project: Path) -> None:
    found = started()
    assert "./mine.py:make makes timm's vit_tiny_patch16_224" in found.notes[0]
    model = load_recipe(Path("wdp-edge.toml")).model
    assert (model.name, model.args, model.num_classes, model.checkpoint) == (MODEL, ARGS, 3, "from_python.safetensors")
    load_dense(ModelSpec.of(model), Path(model.checkpoint))
    features = started(ModelRecipe(task="features"), force=True)
    assert features.num_classes == 0


@pytest.mark.parametrize(
    ("model", "against", "says"),
    [
        (ModelRecipe(checkpoint="x.pth"), "", "--checkpoint names others"),
        (ModelRecipe(), "hf", "--from-python has none"),
        (ModelRecipe(task="segment"), "", "outputs maps"),
    ],
)
def test_what_makes_no_sense_runs_no_code(model: ModelRecipe, against: str, says: str, project: Path) -> None:
    with pytest.raises(InputError, match=says):
        started(model, check_against=against)
    assert not Path("ran").exists()


def test_weights_that_are_there_stay(project: Path) -> None:
    Path("from_python.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        started()
    assert Path("from_python.safetensors").read_bytes() == b"mine" and not Path("ran").exists()


def test_a_model_has_to_come_from_somewhere(project: Path) -> None:
    with pytest.raises(InputError, match="neither a checkpoint nor a function"):
        init(ModelRecipe(MODEL), Path("data"))
