"""Ranges from calibration images, by every observer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wdp_edge.calibration.fake_quant import round_activations
from wdp_edge.calibration.ranges import input_and_output_ranges, least_error_range, percentile_range
from wdp_edge.protocols.target import Observer


class Tail(nn.Module):
    """One layer after something that is not a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1) ** 3).relu()


def bell(outlier: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normal values and one far away: the values, their histogram and its ends."""
    x = torch.cat([torch.randn(100_000, generator=torch.Generator().manual_seed(0)), torch.tensor([outlier])])
    low, high = x.min(), x.max()
    return x, torch.histc(x, 2048, float(low), float(high)), low, high


def error(x: Tensor, low: Tensor, high: Tensor) -> float:
    return float((round_activations(x, low, high) - x).square().mean())


@pytest.mark.parametrize("observer", Observer)
def test_ranges_of_inputs_and_outputs(observer: Observer) -> None:
    model = Tail().eval()
    images = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    (low, high), (out_low, out_high) = input_and_output_ranges(model, ["fc"], images, observer)["fc"]
    with torch.no_grad():
        x = images.flatten(1) ** 3
        y = model.fc(x)
    exact = observer is Observer.MINMAX
    for (a, b), seen in (((low, high), x), ((out_low, out_high), y)):
        assert a < 0 < b
        assert a >= seen.min() - 1e-4 and b <= seen.max() + 1e-4
        assert not exact or torch.allclose(torch.stack([a, b]), torch.stack([seen.min(), seen.max()]))
    assert not model.fc._forward_hooks


def test_least_error_is_not_beaten_by_any_other_range() -> None:
    x, counts, low, high = bell(12.0)
    ends = torch.linspace(0.1, 1, 46)
    others = [error(x, a * low, b * high) for a in ends for b in ends]
    assert error(x, *least_error_range(counts, low, high)) < 1.02 * min(others)


def test_least_error_cuts_what_min_max_spends_on_outliers() -> None:
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    x[0] = 12.0
    chosen = least_error_range(torch.histc(x, 2048), x.min(), x.max())
    assert chosen[1] < 8 and error(x, *chosen) < 0.8 * error(x, x.min(), x.max())


def test_least_error_keeps_a_range_without_outliers() -> None:
    x = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) - 0.3
    chosen = least_error_range(torch.histc(x, 2048), x.min(), x.max())
    assert torch.allclose(torch.stack(chosen), torch.tensor([-0.3, 0.7]), atol=0.02)


def test_percentile_cuts_the_same_share_off_both_ends() -> None:
    x, counts, low, high = bell(40.0)
    wanted = torch.quantile(x, torch.tensor([0.00005, 0.99995]))
    assert torch.allclose(torch.stack(percentile_range(counts, low, high)), wanted, atol=0.15)


@pytest.mark.parametrize("shrink", [least_error_range, percentile_range])
def test_a_constant_activation_has_a_range(shrink) -> None:  # type: ignore[no-untyped-def]
    x = torch.zeros(100)
    low, high = shrink(torch.histc(x, 2048, 0.0, 0.0), x.min(), x.max())
    assert torch.equal(round_activations(x, low, high), x)
