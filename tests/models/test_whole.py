"""models/whole.py: weights of a part of a model, and weights that are no plain numbers, are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from tiny_families import FORMS, spec_of
from torch import Tensor

from wdp_edge.errors import InputError
from wdp_edge.models.spec import create
from wdp_edge.models.whole import check_tensors

State = dict[str, Tensor]
SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 64, "depth": 3, "num_heads": 1}


def state() -> State:
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, **SMALL).state_dict()


def without(pattern: str) -> State:
    return {name: value for name, value in state().items() if not re.match(pattern, name)}


def with_weights(dtype: torch.dtype) -> State:
    return {k: v.to(dtype) if v.ndim == 2 and "blocks" in k else v for k, v in state().items()}


def of_torchao() -> State:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **SMALL)
    quantize_(model, Int8WeightOnlyConfig())
    return model.state_dict()


WRONG: dict[str, tuple[Callable[[], State], str]] = {
    "a block lacks": (lambda: without(r"blocks\.1\."), r"lacks blocks\.1\.attn\.proj\.bias and 11 more"),
    "the first half": (lambda: dict(list(state().items())[:20]), "only a part of a model: it lacks .* and 7 more"),
    "int8": (lambda: with_weights(torch.int8), r"quantized weights \(blocks\.0\.attn\.qkv\.weight: int8"),
    "float8": (lambda: with_weights(torch.float8_e4m3fn), "quantized weights .*float8_e4m3fn"),
    "torchao": (of_torchao, "quantized weights .*Int8"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(what: str) -> None:
    make, said = WRONG[what]
    with pytest.raises(InputError, match=said) as caught:
        check_tensors(Path("weights.pth"), make())
    assert caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_weights(dtype: torch.dtype) -> None:
    check_tensors(Path("weights.pth"), with_weights(dtype))


@pytest.mark.parametrize("form", FORMS)
def test_whole_models_pass(form: str) -> None:
    check_tensors(Path("weights.pth"), create(spec_of(form)).state_dict())
