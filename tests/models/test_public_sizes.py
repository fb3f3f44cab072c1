"""DINOv2's public weights are for 518 px: at other sizes their positions are those that timm itself makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from originals import drawn, images
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.files import load_dense
from wdp_edge.models.recognise.proposal import propose
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.task import Output

PLAIN, REGISTERS = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"
SMALL = {"embed_dim": 64, "depth": 1, "num_heads": 1}


def of_timm(name: str) -> dict[str, Tensor]:
    return drawn(timm.create_model(name, num_classes=0, **SMALL)).state_dict()


def of_meta(name: str) -> dict[str, Tensor]:
    """As the release names them: the class token has a position in both."""
    weights = of_timm(name)
    weights["mask_token"] = torch.zeros(1, SMALL["embed_dim"])
    if "reg_token" in weights:
        weights["register_tokens"] = weights.pop("reg_token")
        weights["pos_embed"] = torch.cat([torch.ones(1, 1, SMALL["embed_dim"]), weights["pos_embed"]], dim=1)
        weights["cls_token"] = weights["cls_token"] - 1
    return weights


def resampled(name: str, size: int) -> Any:
    """timm's model of this size, with the weights for 518 px."""
    weights = of_timm(name)
    prefix = 0 if "reg4" in name else 1
    weights["pos_embed"] = resample_abs_pos_embed(
        weights["pos_embed"], (size // 14, size // 14), num_prefix_tokens=prefix
    )
    model = timm.create_model(name, num_classes=0, img_size=size, **SMALL)
    model.load_state_dict(weights)
    return model.eval()


@pytest.mark.parametrize("size", [224, 448, 518])
@pytest.mark.parametrize("whose", [of_timm, of_meta])
@pytest.mark.parametrize("name", [PLAIN, REGISTERS])
@torch.no_grad()
def test_positions_are_resampled_as_timm_does(name: str, whose: Any, size: int, tmp_path: Path) -> None:
    torch.save(whose(name), tmp_path / "dinov2.pth")
    spec = ModelSpec(name, 0, {**SMALL, "img_size": size}, Output.EMBEDDING)
    ours, theirs = load_dense(spec, tmp_path / "dinov2.pth"), resampled(name, size)
    seen = torch.nn.functional.interpolate(images(), (size, size))
    assert ours.state_dict()["pos_embed"].shape[1] == (size // 14) ** 2 + (name == PLAIN)
    assert torch.allclose(ours(seen), theirs(seen), atol=1e-5)


def test_init_proposes_the_public_size_and_takes_another(tmp_path: Path) -> None:
    torch.save(of_meta(REGISTERS), tmp_path / "dinov2.pth")
    read = read_checkpoint(tmp_path / "dinov2.pth")
    assert "img_size" not in propose(read, tmp_path / "dinov2.pth").args
    found = propose(read, tmp_path / "dinov2.pth", {"img_size": 448})
    assert "reg4_dinov2" in found.name and found.args["img_size"] == 448
