"""wdp_edge/artifacts/parity.py: how far two forms of one model agree on the same images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.artifacts.parity import accuracy, compare, same_class, spread_error
from wdp_edge.artifacts.proof import within
from wdp_edge.config.recipe import Tolerance, VerifyRecipe


def outputs(seed: int, n: int = 16, classes: int = 4) -> torch.Tensor:
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 99), st.floats(0.1, 100.0))
def test_the_same_outputs_agree_in_every_figure(seed: int, scale: float) -> None:
    one = outputs(seed) * scale
    parity = compare("same", one, one.clone())
    assert (parity.images, parity.max_error, parity.relative_error, parity.spread_error) == (16, 0.0, 0.0, 0.0)
    assert parity.agreement == parity.clear_agreement == 1.0
    assert parity.cosine == pytest.approx(1.0, abs=1e-5) and parity.cosine_centred == pytest.approx(1.0, abs=1e-5)


@given(st.integers(0, 99), st.floats(0.1, 100.0))
def test_shares_do_not_hang_on_the_size_of_the_outputs(seed: int, scale: float) -> None:
    one, two = outputs(seed), outputs(seed + 100)
    small, large = compare("x", one, two), compare("x", scale * one, scale * two)
    assert large.max_error == pytest.approx(scale * small.max_error, rel=1e-4)
    for name in ("cosine", "cosine_centred", "agreement", "relative_error", "spread_error"):
        assert getattr(large, name) == pytest.approx(getattr(small, name), rel=1e-3, abs=1e-4), name


def test_a_model_that_lost_all_that_hangs_on_the_image_is_told_by_centred_outputs() -> None:
    one = outputs(0) + torch.tensor([50.0, 0.0, -50.0, 10.0])
    dead = one.mean(0).expand_as(one)
    parity = compare("dead", one, dead)
    assert parity.cosine > 0.98 and parity.agreement == 1.0, "as good as nothing is to be seen without centring"
    assert abs(parity.cosine_centred) < 0.01 and parity.spread_error == pytest.approx(1.0, abs=1e-4)


def test_one_wrong_image_is_not_averaged_away() -> None:
    one = outputs(0, n=200)
    wrong = one.clone()
    wrong[7] = -wrong[7]
    assert compare("one", one, wrong).cosine == pytest.approx(-1.0, abs=1e-5)
    assert compare("one", one, wrong).agreement == pytest.approx(199 / 200)


def test_outputs_that_are_all_the_same_divide_by_nothing() -> None:
    flat = torch.ones(4, 3)
    assert spread_error(flat, flat) == 0.0 and spread_error(flat, flat + 1) > 0
    parity = compare("flat", 0 * flat, 0 * flat)
    assert (parity.relative_error, parity.spread_error) == (0.0, 0.0)


def test_the_best_of_classes_counts() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 0.5]])
    assert accuracy(logits, torch.tensor([1, 0, 0])) == pytest.approx(2 / 3)
    other = torch.tensor([[1.0, 2.0], [1.0, 3.0], [0.5, 0.0]])
    assert same_class(logits, other) == pytest.approx(1 / 3)
    assert same_class(logits, other, unsure=0.5) == pytest.approx(2 / 3)
    assert same_class(logits[:, :1], other[:, 1:], unsure=9.0) == 1.0, "one output has no second"


def test_an_image_counts_where_the_model_is_clear() -> None:
    logits = torch.tensor([[10.0, -10.0, 0.0], [5.0, 5.0005, -5.0], [1.0, 2.0, 3.0]])
    swapped = logits.clone()
    swapped[1, 0] += 0.0008
    assert compare("near tie", logits, swapped).agreement == pytest.approx(2 / 3)
    assert compare("near tie", logits, swapped).clear_agreement == 1.0
    assert within(compare("near tie", logits, swapped), Tolerance(1.0, 0.999)) is False
    assert within(compare("near tie", logits, swapped), VerifyRecipe().fp32)
    swapped[1, 0] = 6.0
    assert compare("clear", logits[:, [0, 2]], swapped[:, [2, 0]]).clear_agreement == 0.0
