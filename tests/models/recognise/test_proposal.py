"""models/recognise/: the timm model that a checkpoint is of, from its shapes and from the files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.recognise.proposal import Proposal, propose

SAME = (
    "vit_tiny_patch16_224",
    "vit_tiny_patch16_384",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "vit_small_patch16_dinov3",
    "vit_small_plus_patch16_dinov3_qkvb",
    "swin_tiny_patch4_window7_224",
    "eva02_tiny_patch14_224",
)


def written(name: str, folder: Path, classes: int = 7, **args: Any) -> Path:
    model = timm.create_model(name, num_classes=classes, **args)
    torch.save(model.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def proposed(path: Path, **given: Any) -> Proposal:
    return propose(read_checkpoint(path), path, given)


@pytest.mark.parametrize("name", SAME)
def test_a_model_of_timm_is_proposed_for_its_own_weights(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    found = proposed(path)
    own = timm.create_model(name, num_classes=7).state_dict()
    made = timm.create_model(found.name, num_classes=found.num_classes, **found.args).state_dict()
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in own.items()}
    assert found.args == {} and "keys of timm" in found.why[0]


ODD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("vit_tiny_patch16_224", {"embed_dim": 128, "depth": 3, "img_size": 64, "patch_size": 8, "num_heads": 2}),
    ("vit_base_patch16_224", {"embed_dim": 128, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "global_pool": "avg"}),
    ("vit_tiny_patch16_224", {"embed_dim": 64, "depth": 1, "num_heads": 1, "no_embed_class": True}),
    ("vit_small_patch14_dinov2", {"embed_dim": 64, "depth": 1, "img_size": 28, "num_heads": 1}),
    ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4}),
)


@pytest.mark.parametrize(("name", "args"), ODD)
def test_other_geometries_become_arguments(name: str, args: dict[str, Any], tmp_path: Path) -> None:
    path = written(name, tmp_path, **args)
    found = proposed(path)
    own = timm.create_model(name, num_classes=7, **args).state_dict()
    made = timm.create_model(found.name, num_classes=7, **found.args).state_dict()
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in own.items()}


def test_heads_that_nothing_tells_are_asked_for(tmp_path: Path) -> None:
    path = written("vit_tiny_patch16_224", tmp_path, embed_dim=48, depth=1, num_heads=3)
    with pytest.raises(InputError, match=r"how many attention heads.* 48 channels") as caught:
        proposed(path)
    assert "--model-arg num_heads=N" in caught.value.hint
    assert proposed(path, num_heads=3).args["num_heads"] == 3
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": 3}))
    assert proposed(path).args["num_heads"] == 3


def test_two_that_fit_are_both_named(tmp_path: Path) -> None:
    path = written("vit_base_patch32_clip_224", tmp_path, depth=1)
    with pytest.raises(InputError, match="vit_base_patch32_clip_224 and vit_base_patch32_clip_quickgelu_224"):
        proposed(path)
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {"hidden_act": "quick_gelu"}}))
    assert proposed(path).name == "vit_base_patch32_clip_quickgelu_224"


def test_what_timm_wrote_beside_its_weights_is_taken(tmp_path: Path) -> None:
    """As save_for_hf of today writes it; qk_norm and the rest must come from there, weights alone would not tell."""
    args = {"img_size": [16, 16], "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "qk_norm": True}
    path = written("vit_tiny_patch16_224", tmp_path, **args)
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "vit_tiny_patch16_224", "model_args": {**args, "num_classes": 7, "in_chans": 3}})
    )
    found = proposed(path)
    assert (found.name, found.args, found.num_classes) == ("vit_tiny_patch16_224", args, 7)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"architecture": "hf-hub:somebody/model"}, "cannot make"),
        ({"architecture": "vit_of_next_year"}, "cannot make"),
        ({"architecture": "vit_tiny_patch16_224", "model_args": {"checkpoint_path": "x.pth"}}, "cannot make"),
        ({"architecture": "resnet18"}, "other parts"),
        ({"architecture": "deit3_small_patch16_224", "model_args": {"qk_norm": True}}, "other parts"),
    ],
)
def test_a_config_of_timm_that_does_not_fit(config: dict[str, Any], says: str, tmp_path: Path) -> None:
    """Nothing is fetched, whatever it names."""
    path = written("vit_tiny_patch16_224", tmp_path, depth=1)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=says) as caught:
        proposed(path)
    assert "--model" in caught.value.hint


@pytest.mark.parametrize("content", ["{", "[]", '{"num_attention_heads": "many"}', '{"vision_config": 3}'])
def test_somebody_elses_files_tell_nothing(content: str, tmp_path: Path) -> None:
    path = written("vit_tiny_patch16_224", tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(content)
    found = proposed(path)
    assert (found.name, found.args) == ("vit_tiny_patch16_224", {})
