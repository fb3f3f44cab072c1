"""models/fitting.py: other image sizes and heads, and what is said of weights that are another model's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from heard import Heard
from torch import Tensor

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.models.fitting import fitted
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.protocols.task import Output

NAME, PATH = "vit_tiny_patch16_224", Path("weights.pth")
ARGS = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
State = dict[str, Tensor]


@pytest.fixture
def heard() -> Iterator[Heard]:
    found = Heard()
    progress.use(found)
    yield found
    progress.use(progress.Silent())


def state(classes: int = 7, **args: object) -> State:
    return timm.create_model(NAME, num_classes=classes, **{**ARGS, **args}).state_dict()


def spec(output: Output = Output.LOGITS, **args: object) -> ModelSpec:
    return ModelSpec(NAME, 7 if output is Output.LOGITS else 0, {**ARGS, **args}, output)


def test_position_embeddings_of_another_size_are_resampled_and_said(heard: Heard) -> None:
    given = state(img_size=64)
    found = fitted(create(spec()), given, spec(), PATH)
    assert given["pos_embed"].shape == (1, 65, 32) and found["pos_embed"].shape == (1, 17, 32)
    assert torch.equal(found["pos_embed"][:, 0], given["pos_embed"][:, 0]), "the class token keeps its own"
    (line,) = heard.lines
    assert "pos_embed" in line and "(1, 65, 32)" in line and "(1, 17, 32)" in line


def test_a_pooling_that_is_left_out_is_said(heard: Heard) -> None:
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 1}
    given = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, **args).state_dict()
    gap = ModelSpec("vit_base_patch16_siglip_gap_224", 0, args, Output.EMBEDDING)
    found = fitted(create(gap), given, gap, PATH)
    assert not [key for key in found if key.startswith("attn_pool.")]
    assert [line for line in heard.lines if "takes the mean of the patches" in line]


WRONG: dict[str, tuple[Callable[[], State], str]] = {
    "no head": (lambda: {k: v for k, v in state().items() if "head" not in k}, "has no head.*features.*retrieve"),
    "other classes": (lambda: state(9), "9 classes.*num_classes = 9"),
    "a neck": (lambda: {**state(), "head.weight": torch.ones(7, 64)}, "reads 64 values, the model gives it 32"),
    "mean pooling": (lambda: state(global_pool="avg"), 'global_pool = "avg"'),
    "layer scales": (lambda: state(init_values=1e-5), "init_values"),
    "more blocks": (lambda: state(depth=3), "3 blocks, the model 2"),
    "wider": (lambda: state(embed_dim=64), "64 channels wide, the model 32"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_differs_is_said(what: str) -> None:
    given, said = WRONG[what]
    with pytest.raises(InputError) as caught:
        fitted(create(spec()), given(), spec(), PATH)
    assert re.search(said, f"{caught.value.message} {caught.value.hint}", re.DOTALL), str(caught.value)


def test_counters_of_training_are_left_out() -> None:
    found = fitted(create(spec()), {**state(), "num_batches_tracked": torch.tensor(3)}, spec(), PATH)
    assert found.keys() == state().keys()


def test_embeddings_need_no_head() -> None:
    found = fitted(create(spec(Output.EMBEDDING)), state(), spec(Output.EMBEDDING), PATH)
    assert not [key for key in found if key.startswith("head")]
