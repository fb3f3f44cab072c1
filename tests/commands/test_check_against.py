"""`init --check-against hf` on a tiny folder of Hugging Face transformers and the user's images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers as hf
from originals import BOTH, drawn
from tiny_project import write_images

from wdp_edge.commands.init import Origin, init
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.errors import InputError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    config = hf.ViTConfig(**BOTH, num_labels=3)
    drawn(hf.ViTForImageClassification(config)).save_pretrained(tmp_path / "hf")  # type: ignore[operator]
    write_images(tmp_path / "data/train", 4)
    write_images(tmp_path / "data/val", 1)
    return tmp_path


def test_a_model_for_other_images_is_compared_at_the_original_s_size(project: Path) -> None:
    model = ModelRecipe(args={"img_size": 48}, checkpoint=str(project / "hf"))
    found = init(model, project / "data", project, origin=Origin("hf"))
    assert found.args["img_size"] == 48 and found.checked is not None
    assert (found.checked.pixels, found.checked.images, found.checked.output) == (32, 8, "logits")
    assert found.checked.difference < 1e-5


def test_another_model_is_refused(project: Path) -> None:
    """Its config.json was mended by hand since: what transformers makes of it is not what the arguments say."""
    checkpoint = str(project / "hf")
    with pytest.raises(InputError, match=r"differ by .* on 8 training images .* first in block 1 of 2") as caught:
        init(ModelRecipe(args={"num_heads": 2}, checkpoint=checkpoint), project / "data", project, origin=Origin("hf"))
    assert "number of heads" in caught.value.hint and not (project / "wdp-edge.toml").exists()


def test_an_epsilon_that_counts_is_named(project: Path) -> None:
    """transformers draws weights so small that a model's activations are as small as an epsilon."""
    config = hf.ViTConfig(**BOTH, num_labels=3, layer_norm_eps=1e-3)
    hf.ViTForImageClassification(config).save_pretrained(project / "hf")
    with pytest.raises(InputError, match="differ by") as caught:
        init(ModelRecipe(checkpoint=str(project / "hf")), project / "data", project, origin=Origin("hf"))
    assert "LayerNorm's epsilon, 0.001 there and 1e-06 in timm's model" in caught.value.hint


@pytest.mark.parametrize(("against", "says"), [("timm", "no original 'timm'"), ("hf", "no Hugging Face folder")])
def test_nothing_to_check_against_is_said_first(against: str, says: str, project: Path) -> None:
    (project / "hf/config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    with pytest.raises(InputError, match=says):
        init(ModelRecipe(checkpoint=str(project / "hf")), project / "data", project, origin=Origin(against))
