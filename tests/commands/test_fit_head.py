"""commands/fit_head.py: the same input gives the same file, and the model is found without its name."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_project import ARGS, MODEL, small_project

from wdp_edge.commands.fit_head import fit_head
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.models.fitting import without_head


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose checkpoint has no head."""
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "cache"))
    small_project(tmp_path)
    save_file(without_head(load_file(tmp_path / "dense.safetensors")), tmp_path / "bare.safetensors")
    return tmp_path


def test_the_same_input_gives_the_same_file(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelRecipe(MODEL, ARGS, 0, str(bare / "bare.safetensors"))
    first = fit_head(model, bare / "data", bare / "one.safetensors")
    monkeypatch.setenv("WDP_EDGE_CACHE", str(bare / "another"))
    fit_head(model, bare / "data", bare / "other.safetensors")
    assert (bare / "one.safetensors").read_bytes() == (bare / "other.safetensors").read_bytes()
    assert (first.num_classes, first.class_order, first.why) == (3, "alphabetical", [])


def test_at_another_image_size_of_a_model_that_is_not_named(bare: Path) -> None:
    model = ModelRecipe(args={"num_heads": 4, "img_size": 24}, checkpoint=str(bare / "dense.safetensors"))
    found = fit_head(model, bare / "data", bare / "large.safetensors", class_order="natural")
    assert found.why and found.args["img_size"] == 24 and found.class_order == "natural"
    assert load_file(bare / "large.safetensors")["pos_embed"].shape[1] == 37
