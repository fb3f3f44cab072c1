"""models/heads.py: a classifier is made from a checkpoint only where it is clear which head is meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from wdp_edge.errors import InputError
from wdp_edge.models.files import load_dense
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.task import Output

NAME, ARGS = "vit_tiny_patch16_224", {"img_size": 16, "patch_size": 4, "embed_dim": 64, "depth": 1, "num_heads": 1}
State = dict[str, Tensor]


def state(prefix: str = "", classes: int = 3) -> State:
    made = timm.create_model(NAME, num_classes=classes, **ARGS).state_dict()
    return {prefix + name: value for name, value in made.items()}


def layer(name: str, classes: int) -> State:
    return {f"{name}.weight": torch.zeros(classes, 64), f"{name}.bias": torch.zeros(classes)}


WRONG: dict[str, tuple[State, str]] = {
    "an auxiliary one": (state() | layer("aux_head", 3), r"2 heads: the model's own \(3 outputs\), aux_head \(3"),
    "a wrapper's own": (state("backbone.", 10) | layer("head", 3), "2 heads: the model's own .10 outputs., head .3"),
    "a list": (state(classes=0) | layer("heads.0", 3) | layer("heads.1", 5), "2 heads: heads.0 .3 .*, heads.1 .5 "),
    "another name": (state("net.", 0) | layer("classifier", 3), "no head .* classifier .3 outputs.*as head.weight"),
    "several layers": (state(classes=0) | layer("head.0", 64) | layer("head.2", 3), "head of several layers.*features"),
}


def dense(weights: State, folder: Path, classes: int = 3) -> None:
    torch.save(weights, folder / "w.pth")
    load_dense(ModelSpec(NAME, classes, ARGS, Output.LOGITS if classes else Output.EMBEDDING), folder / "w.pth")


@pytest.mark.parametrize("what", WRONG)
def test_heads_that_leave_a_question(what: str, tmp_path: Path) -> None:
    weights, said = WRONG[what]
    with pytest.raises(InputError) as caught:
        dense(weights, tmp_path)
    assert re.search(said, f"{caught.value.message} {caught.value.hint}"), str(caught.value)


def test_the_number_of_classes_may_tell(tmp_path: Path) -> None:
    dense(state("backbone.") | layer("projection_head", 128), tmp_path)


def test_embeddings_need_none(tmp_path: Path) -> None:
    dense(state("net.", 0) | layer("head1", 3) | layer("head2", 3), tmp_path, classes=0)
