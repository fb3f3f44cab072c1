"""The whole loop on tiny models of other families: saliency, table, selection, compensation, recovery, verified files.

FAKE: the device's times follow from file sizes (see fake_clock_run.py); everything else is real.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_clock_run import FakeClock, recipe_of
from safetensors.torch import save_file
from tiny_families import FORMS, made, spec_of
from tiny_project import CLASSES, write_images
from tiny_vit import lively

import wdp_edge
import wdp_edge.pruning.toolkit as toolkit_module
from wdp_edge.config.recipe import ModelRecipe, Recipe
from wdp_edge.io.plain import read_as
from wdp_edge.models import vit
from wdp_edge.models.spec import create
from wdp_edge.pruning.prune import prune
from wdp_edge.runs.stages import Verified


def recipe_for(folder: Path, form: str, images: int) -> Recipe:
    name, args = FORMS[form]
    save_file(lively(create(spec_of(form, len(CLASSES)))).state_dict(), folder / "dense.safetensors")
    write_images(folder / "data/train", 24)
    write_images(folder / "data/val", 4)
    recipe = recipe_of(folder, "75%", images)
    model = ModelRecipe(name, args, len(CLASSES), str(folder / "dense.safetensors"))
    return replace(recipe, model=model, prune=replace(recipe.prune, target="onnx"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "images"),
    [
        ("dinov3", 240),
        ("swin", 240),
        ("distilled", 0),
        ("packed swiglu", 0),
        ("eva02 with norms in the MLP", 0),
        ("swin v2", 0),
    ],
)
def test_a_model_is_pruned_shipped_and_verified(
    form: str, images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(toolkit_module, "get_device", lambda *name: FakeClock())
    result = prune(recipe_for(tmp_path, form, images))
    for parity in read_as(result.run / "stages" / "verify.json", Verified).parity:
        assert parity.max_error < 1e-4 and parity.agreement == 1.0
    assert result.shipped.macs < result.dense.macs and result.shipped.bytes < result.dense.bytes
    model = wdp_edge.load(result.run / "model")
    assert type(model) is type(made(form))
    assert sum(p.numel() for p in model.parameters()) == result.shipped.parameters
    assert vit.structure_of(model).depth == result.shipped.exit
