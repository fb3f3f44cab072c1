"""timm's MLPs seen alike: what is before the activation, and hidden units cut out of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import GluMlp, Mlp, SwiGLU
from torch import nn

from wdp_edge.models import mlps

MADE: dict[str, Any] = {
    "plain": lambda: Mlp(6, 10, norm_layer=nn.LayerNorm),
    "gate first": lambda: GluMlp(6, 20, act_layer=nn.SiLU, gate_last=False, norm_layer=nn.LayerNorm),
    "gate last": lambda: GluMlp(6, 20, act_layer=nn.SiLU, gate_last=True),
    "gate in a layer of its own": lambda: SwiGLU(6, 10, norm_layer=nn.LayerNorm),
    "without biases": lambda: Mlp(6, 10, bias=False),
}


def some_mlp(kind: str) -> Any:
    torch.manual_seed(0)
    mlp = MADE[kind]()
    for parameter in mlp.parameters():
        nn.init.normal_(parameter, std=0.5)
    return mlp.eval()


@pytest.mark.parametrize("kind", MADE)
def test_halves_are_what_the_activation_sees(kind: str) -> None:
    mlp, x = some_mlp(kind), torch.randn(3, 5, 6)
    with torch.no_grad():
        seen = [x @ weight.T + (0 if bias is None else bias) for weight, bias in mlps.halves(mlp)]
        hidden = mlp.act(seen[0]) * seen[1] if len(seen) == 2 else mlp.act(seen[0])
        assert torch.allclose(mlp.fc2(mlp.norm(hidden)), mlp(x), atol=1e-5)
    assert sum(layer.weight.numel() for layer in mlps.readers(mlp)) == sum(w.numel() for w, _ in mlps.halves(mlp))


@pytest.mark.parametrize("kind", ["gate last", "without biases"])
@given(units=st.sets(st.integers(0, 9), min_size=1))
def test_units_that_are_cut_are_as_if_fc2_did_not_read_them(kind: str, units: set[int]) -> None:
    whole, cut, x = some_mlp(kind), some_mlp(kind), torch.randn(3, 5, 6)
    kept = torch.tensor(sorted(units))
    mlps.cut_hidden(cut, kept)
    with torch.no_grad():
        whole.fc2.weight[:, [unit for unit in range(10) if unit not in units]] = 0
        assert torch.allclose(cut(x), whole(x), atol=1e-5)
    assert cut.fc2.in_features == len(units)


@pytest.mark.parametrize("kind", MADE)
def test_every_tensor_shrinks_with_the_units(kind: str) -> None:
    whole, cut = some_mlp(kind), some_mlp(kind)
    mlps.cut_hidden(cut, torch.arange(10))
    assert all(torch.equal(a, b) for a, b in zip(cut.parameters(), whole.parameters(), strict=True)), "all are kept"
    mlps.cut_hidden(cut, torch.tensor([1, 4]))
    vectors = sum(p.numel() for p in whole.parameters()) - (0 if whole.fc2.bias is None else 6)
    assert sum(p.numel() for p in cut.parameters()) - (0 if whole.fc2.bias is None else 6) == vectors * 2 // 10
    assert cut(torch.randn(1, 2, 6)).shape == (1, 2, 6)


def test_other_mlps_are_named() -> None:
    assert mlps.unsupported(None) is None and all(mlps.unsupported(some_mlp(kind)) is None for kind in MADE)
    assert "Sequential" in (mlps.unsupported(nn.Sequential()) or "")
