"""wdp_edge/artifacts/proof.py: what counts as the same model, and where an artifact goes wrong."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wdp_edge.artifacts.parity import compare
from wdp_edge.artifacts.proof import (
    BISECT_IMAGES,
    Reference,
    close,
    first_broken,
    part_name,
    spread,
    spread_pairs,
    tolerance_of,
    within,
)
from wdp_edge.config.recipe import Tolerance, VerifyRecipe
from wdp_edge.data.preprocess import Preprocessing, normalise
from wdp_edge.io.plain import from_plain
from wdp_edge.models.vit import Prefix
from wdp_edge.protocols.precision import PRECISIONS, Precision
from wdp_edge.runs.results import Parity

PREPROCESSING = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", 1.0)
PARTS = [
    "patch_embed",
    "blocks.0.attn",
    "blocks.0.mlp",
    "blocks.1.attn",
    "blocks.1.mlp",
    "blocks.2.attn",
    "blocks.2.mlp",
]


def reference_of(model: Any) -> Reference:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return Reference.of(model, images, torch.zeros(24, dtype=torch.int64), PREPROCESSING)


@pytest.mark.parametrize("part", [*PARTS, "norm and head"])
def test_the_first_wrong_part_is_found(tiny_model: Any, part: str) -> None:
    """FAULT: the weights of one part are other ones, as if its export had gone wrong."""
    reference, wrong = reference_of(tiny_model), copy.deepcopy(tiny_model)
    with torch.no_grad():
        if part in PARTS:
            for parameter in wrong.get_submodule(part).parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))

    def run_prefix(sublayers: int) -> Tensor:
        images = normalise(reference.images[:BISECT_IMAGES], PREPROCESSING)
        with torch.no_grad():
            return Prefix(wrong, sublayers)(images) + 0.5  # lowering may change the mean over channels

    assert first_broken(tiny_model, reference, lambda p: close(p, Tolerance(0.0, 0.999)), run_prefix) == part


def test_parts_are_named_in_their_order() -> None:
    assert [part_name(n, 3) for n in range(8)] == [*PARTS, "norm and head"]


def test_no_number_is_not_within(tiny_model: Any) -> None:
    logits = torch.randn(8, 4)
    assert within(compare("same", logits, logits), Tolerance(1.0, 0.99999))
    broken = logits.clone()
    broken[3] = float("nan")
    assert not within(compare("broken", logits, broken), Tolerance(0.0, 0.0))


def test_a_float32_file_is_the_model_to_the_fourth_digit() -> None:
    logits, tolerance = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 50, VerifyRecipe().fp32
    assert within(compare("rounded", logits, logits.half().float()), Tolerance(0.99, 0.999))
    assert not within(compare("rounded", logits, logits.half().float()), tolerance)
    largest = float(logits.abs().max())
    off = logits.clone()
    off[7, 1] += 0.9e-4 * largest
    assert within(compare("off by less", logits, off), tolerance)
    off[7, 1] += 0.2e-4 * largest
    assert not within(compare("off by more", logits, off), tolerance)


def test_an_int8_file_may_be_as_far_as_its_scheme_takes_the_model() -> None:
    generator, tolerance = torch.Generator().manual_seed(0), VerifyRecipe().int8
    logits = torch.randn(64, 4, generator=generator)
    parity = compare("int8", logits, logits + 0.02 * torch.randn(64, 4, generator=generator))
    assert within(parity, tolerance)  # as earlier versions judged it
    assert within(replace(parity, simulated_error=0.02), tolerance)
    assert not within(replace(parity, simulated_error=0.004), tolerance)
    assert within(replace(compare("int8", logits, logits), simulated_error=0.0), tolerance)
    assert not within(replace(compare("int8", logits, logits * float("nan")), simulated_error=1.0), tolerance)


def test_runs_of_earlier_versions_are_read() -> None:
    old = {"name": "x", "images": 8, "max_error": 1.0, "cosine": 1.0, "cosine_centred": 0.9995, "agreement": 1.0}
    assert within(from_plain(Parity, old), VerifyRecipe().fp32)


def test_every_precision_has_a_tolerance() -> None:
    recipe = VerifyRecipe()
    assert {p: tolerance_of(recipe, p) for p in PRECISIONS}[Precision.FP32] == recipe.fp32
    assert tolerance_of(recipe, Precision.INT8_STATIC) == tolerance_of(recipe, Precision.W8A8) == recipe.int8
    assert tolerance_of(recipe, Precision.PALETTE4) == recipe.low_bit
    assert tolerance_of(recipe, Precision.PALETTE8) == recipe.int8


@given(st.integers(1, 5000), st.integers(1, 600))
def test_places_are_spread_and_differ(count: int, wanted: int) -> None:
    places = spread(count, wanted).tolist()
    assert len(places) == min(count, wanted) == len(set(places))
    assert places == sorted(places) and 0 <= places[0] <= places[-1] < count


@pytest.mark.parametrize(
    ("sizes", "wanted"), [([10] * 30, 16), ([3, 1, 5, 2], 4), ([2, 1], 2), ([4, 4], 100), ([3], 1)]
)
def test_images_of_a_class_come_in_twos_where_they_are_compared(sizes: list[int], wanted: int) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    places = spread_pairs(labels, wanted)
    assert len(set(places.tolist())) == len(places)
    assert len(places) == min(wanted + wanted % 2, sum(sizes))
    if wanted < sum(sizes):
        assert (labels[places].unique(return_counts=True)[1] % 2 == 0).all()


def test_without_any_two_the_places_are_spread() -> None:
    assert spread_pairs(torch.arange(9), 3).tolist() == [0, 4, 8]


def test_a_metric_that_counts_nothing_is_none() -> None:
    images = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    outputs = torch.eye(3)
    reference = Reference(images, torch.arange(3), outputs, PREPROCESSING, "retrieve")
    assert reference.metric(outputs) is None
    assert replace(reference, labels=torch.tensor([0, 0, 1])).metric(outputs) is not None
