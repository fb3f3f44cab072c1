"""Cut models: what the masked one computes, and nothing left of what is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_families import FORMS, made
from tiny_vit import ones_at

from wdp_edge.learn.masked import MaskedForward
from wdp_edge.models import vit
from wdp_edge.models.families import family_of
from wdp_edge.models.structure import BlockWidths, count
from wdp_edge.models.surgery import Kept, cut


def some_kept(data: st.DataObject, model: Any) -> Kept:
    """Any part of the model that its family offers."""
    dense, family = vit.structure_of(model), family_of(model)
    head_channels, least = vit.fixed_heads(model) is None, 0 if family.drops else 1
    count = data.draw(st.integers(1, dense.depth))
    subset = lambda n, least=least: st.sets(st.integers(0, n - 1), min_size=least).map(lambda s: tuple(sorted(s)))  # noqa: E731
    blocks = dense.blocks[:count]
    return Kept(
        tuple(data.draw(subset(b.heads)) for b in blocks),
        tuple(data.draw(subset(b.hidden)) for b in blocks),
        tuple(data.draw(subset(b.head_dim, 1)) for b in blocks) if head_channels else None,
    )


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_masked_equals_shrunk_and_counts_are_exact(form: str, data: st.DataObject) -> None:
    model = made(form)
    dense = vit.structure_of(model)
    kept = some_kept(data, model)
    small = cut(model, kept)
    shallow = cut(model, Kept.first(replace(dense, blocks=dense.blocks[: len(kept.heads)])))
    images = torch.randn(3, 3, 16, 16)
    heads, channels, hidden = zip(*((b.heads, b.head_dim, b.hidden) for b in dense.blocks), strict=True)
    with MaskedForward(shallow) as masked, torch.no_grad():
        masked.heads, masked.hidden = ones_at(kept.heads, heads), ones_at(kept.hidden, hidden)
        masked.head_channels = ones_at(kept.head_channels, channels) if kept.head_channels else None
        expected = shallow(images)
        got = small(images)
    assert (expected - got).abs().max() < 1e-4
    structure = vit.structure_of(small)
    assert structure == kept.structure(dense)
    for geometry in (vit.geometry_of(model), vit.geometry_of(small)):
        assert count(structure, geometry).parameters == sum(p.numel() for p in small.parameters())


def test_the_original_is_not_touched(tiny_model: Any) -> None:
    before = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    cut(tiny_model, Kept(((0,), (1, 2)), ((0, 5), (7,))))
    assert before.keys() == tiny_model.state_dict().keys()
    assert all(torch.equal(before[k], v) for k, v in tiny_model.state_dict().items())


def test_cut_model_has_no_hooks_or_wrappers(tiny_model: Any) -> None:
    small = cut(tiny_model, Kept(((0,), (1, 2)), ((0, 5), (7,))))
    assert type(small) is type(tiny_model)
    assert all(type(m).__module__.startswith(("torch.nn", "timm")) for m in small.modules())


def test_a_dropped_sublayer_leaves_no_trace(tiny_model: Any) -> None:
    small = cut(tiny_model, Kept(((0,), (), ()), ((0, 5), (7,), ())))
    assert [type(b).__name__ for b in small.blocks] == ["Block", "PartialBlock", "PartialBlock"]
    assert {n.split(".")[0] for n in small.blocks[1].state_dict()} == {"norm2", "mlp"}
    assert not small.blocks[2].state_dict()
    again = cut(small, Kept(((0,), (), ()), ((), (0,), ())))
    assert vit.structure_of(again).blocks[0] == BlockWidths(1, 8, 0)
