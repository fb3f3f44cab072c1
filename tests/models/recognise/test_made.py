"""models/recognise/made.py: modules in memory, and the timm models that they are or are not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import timm
import torch
import transformers as hf
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.recognise.made import Made, timm_model

ARGS = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
TINY = "vit_tiny_patch16_224"
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def vit(**args: Any) -> Any:
    return timm.create_model(TINY, num_classes=3, **{**ARGS, **args}).eval()


def found(model: nn.Module) -> Made:
    return timm_model(model.eval(), "mine:make")


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"qk_norm": True, "class_token": False, "global_pool": "avg", "act_layer": nn.ReLU},
        {"init_values": 0.1, "reg_tokens": 2, "drop_path_rate": 0.5},
        {"num_classes": 0},
    ],
)
def test_a_model_of_timm_is_made_again(args: dict[str, Any]) -> None:
    made = found(timm.create_model(TINY, **{"num_classes": 3, **ARGS, **args}))
    assert made.proposal.name == TINY and "drop_path_rate" not in made.proposal.args
    assert made.difference(IMAGES, "images") < 1e-5


def test_one_made_without_create_model_is_told_by_its_shapes() -> None:
    made = found(VisionTransformer(num_classes=3, num_heads=8, **{k: v for k, v in ARGS.items() if k != "num_heads"}))  # type: ignore[arg-type]
    assert made.proposal.args["num_heads"] == 8
    assert made.difference(IMAGES, "images") < 1e-5


def test_the_preprocessing_of_its_own_weights_is_kept() -> None:
    made = found(timm.create_model("vit_base_patch16_224.dino", num_classes=3, depth=1, img_size=32))
    assert made.preprocess["mean"] == [0.485, 0.456, 0.406] and "crop_mode" not in made.preprocess


class Around(nn.Module):
    def __init__(self, model: nn.Module, factor: float = 1.0, table: bool = False) -> None:
        super().__init__()
        self.model, self.factor, self.table = model, factor, table

    def forward(self, x: Tensor) -> Any:
        out = self.model(x * self.factor)
        return {"logits": out} if self.table else out


class Own(VisionTransformer):
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return super().forward_head(x, pre_logits).tanh()


def test_a_wrapper_that_changes_nothing_is_taken_off() -> None:
    made = found(Around(vit()))
    assert made.difference(IMAGES, "images") < 1e-5 and "blocks.0.norm1.weight" in made.ours.state_dict()


def with_part(model: Any, name: str, part: nn.Module) -> Any:
    model.set_submodule(name, part)
    return model


CUSTOM: dict[str, tuple[Any, str]] = {
    "wrapper": (lambda: Around(vit(), 0.5), "returns a Around around a timm model, and it changes the outputs"),
    "table": (lambda: Around(vit(), table=True), "outputs a dict"),
    "forward": (lambda: Own(num_classes=3, **ARGS), "Own computes something of its own"),  # type: ignore[arg-type]
    "norm": (
        lambda: vit(norm_layer=partial(nn.LayerNorm, eps=0.1)),
        "norm_layer of its arguments cannot stand in wdp-edge.toml",
    ),
    "part": (lambda: with_part(vit(), "blocks.1.mlp", nn.Identity()), r"blocks\.1\.mlp\.fc1\.bias differs"),
    "head": (
        lambda: with_part(vit(), "head", nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 3))),
        r"head\.0\.bias differs",
    ),
    "no attention": (lambda: with_part(vit(), "blocks.0.attn", nn.Identity()), "has blocks that timm's"),
    "two": (lambda: nn.ModuleList([vit(), vit()]), "2 Vision Transformers"),
    "no forward": (lambda: nn.ModuleList([vit()]), "missing the required"),
    "another": (lambda: nn.Sequential(nn.Linear(2, 2)), "is no timm model"),
    "transformers": (lambda: hf.ViTModel(hf.ViTConfig(hidden_size=32, num_hidden_layers=1)), "is no timm model"),
}


@pytest.mark.parametrize("case", CUSTOM)
def test_what_timm_does_not_make_again_is_refused(case: str) -> None:
    make, says = CUSTOM[case]
    with pytest.raises(InputError, match=says) as caught:
        found(make()).difference(IMAGES, "a random image")
    assert ("--checkpoint" in caught.value.hint) == (case == "transformers")
