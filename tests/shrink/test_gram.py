"""Ridge regression from streamed moments."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.shrink.gram import Moments, damped


def test_moments_are_least_squares_and_do_not_grow_with_the_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(5, 7, generator=generator), torch.randn(5, generator=generator)
    moments = Moments(7, 5)
    size = {name: value.numel() for name, value in vars(moments).items() if isinstance(value, torch.Tensor)}
    for _ in range(20):
        z = torch.randn(50, 7, generator=generator) + 3
        moments.add(z, z @ weight.T + bias)
    got_weight, got_bias = moments.solve(1e-9)
    assert torch.allclose(got_weight, weight, atol=1e-4)
    assert torch.allclose(got_bias, bias, atol=1e-3)
    assert size == {name: value.numel() for name, value in vars(moments).items() if isinstance(value, torch.Tensor)}


@given(st.integers(0, 99), st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_batches_add_up_to_the_moments_of_all(seed: int, sizes: list[int]) -> None:
    torch.manual_seed(seed)
    z, t = torch.randn(sum(sizes), 4) + 2, torch.randn(sum(sizes), 3)
    moments = Moments(4, 3)
    for part_z, part_t in zip(z.split(sizes), t.split(sizes), strict=True):
        moments.add(part_z[None], part_t[None])
    assert moments.count == len(z)
    assert torch.allclose(moments.covariance(), torch.cov(z.double().T, correction=0), atol=1e-4)
    centred = (z - z.mean(0)).double().T @ (t - t.mean(0)).double() / len(z)
    assert torch.allclose(moments.cross(), centred, atol=1e-4)


def test_a_ridge_holds_weights_back_and_leaves_the_mean_alone() -> None:
    torch.manual_seed(0)
    z = torch.randn(200, 5) + 1
    t = z @ torch.randn(5, 2) + 3
    moments = Moments(5, 2)
    moments.add(z, t)
    free, held = moments.solve(1e-9), moments.solve(1.0)
    assert held[0].norm() < 0.8 * free[0].norm()
    for weight, bias in (free, held):
        assert torch.allclose((z @ weight.T + bias).mean(0), t.mean(0), atol=1e-3)
    straight = Moments(5, 2)
    straight.add(z, z @ free[0].T)
    assert torch.allclose(straight.solve_linear(1e-9), free[0], atol=1e-3)


@pytest.mark.parametrize(("count", "noise"), [(60, 5.0), (60, 0.01), (20000, 1.0)])
def test_the_best_ridge_is_near_the_best_one_on_other_samples(count: int, noise: float) -> None:
    """Few noisy samples want a large one, many or clean ones a small one."""
    generator = torch.Generator().manual_seed(1)
    mixing, weight = torch.randn(40, 40, generator=generator) / 6, torch.randn(3, 40, generator=generator)

    def samples(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.randn(number, 40, generator=generator) @ mixing + 2
        return z, z @ weight.T + noise * torch.randn(number, 3, generator=generator)

    moments, ridges = Moments(40, 3), [10.0**k for k in range(-4, 2)]
    for _ in range(5):  # batches add up
        moments.add(*samples(count // 5))
    others, wanted = samples(4000)
    errors = {}
    for ridge in ridges:
        found, bias = moments.solve(ridge)
        errors[ridge] = float((others @ found.T + bias - wanted).square().mean())
    best = moments.best_ridge(ridges)
    assert errors[best] < 1.1 * min(errors.values())
    assert best >= 0.1 if noise == 5.0 else best <= 0.01
    assert moments.best_ridge(ridges[::-1]) == best, "in whatever order they are given"


def test_fewer_samples_than_inputs_have_a_best_ridge() -> None:
    moments = Moments(40, 2)
    moments.add(torch.randn(3, 40, generator=torch.Generator().manual_seed(0)), torch.randn(3, 2))
    assert moments.best_ridge([1e-3, 1.0]) == 1.0


def test_inputs_that_never_change_can_still_be_solved() -> None:
    moments = Moments(3, 1)
    moments.add(torch.ones(10, 3), torch.full((10, 1), 2.0))
    weight, bias = moments.solve(1e-2)
    assert torch.isfinite(weight).all() and (weight.sum() + bias).item() == pytest.approx(2.0, abs=1e-4)
    assert (damped(torch.zeros(3, 3, dtype=torch.float64), 1e-2).diagonal() > 0).all()
