from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_families import FORMS, made, spec_of
from tiny_vit import ones_at

from wdp_edge.errors import InputError
from wdp_edge.learn.masked import MaskedForward
from wdp_edge.models import vit
from wdp_edge.models.families import family_of
from wdp_edge.models.spec import create
from wdp_edge.models.surgery import Kept, build, cut
from wdp_edge.structure import BlockWidths, count


def some_kept(data: st.DataObject, model: Any) -> Kept:
    """Any part of the model that its family offers. A stream of one channel would be a constant to LayerNorm."""
    dense, family = vit.structure_of(model), family_of(model)
    head_channels, least = vit.fixed_heads(model) is None, 0 if family.drops else 1
    count = data.draw(st.integers(1, dense.depth))
    subset = lambda n, least=least: st.sets(st.integers(0, n - 1), min_size=least).map(lambda s: tuple(sorted(s)))  # noqa: E731
    blocks = dense.blocks[:count]
    return Kept(
        tuple(data.draw(subset(b.heads)) for b in blocks),
        tuple(data.draw(subset(b.hidden)) for b in blocks),
        tuple(data.draw(subset(b.head_dim, 1)) for b in blocks) if head_channels else None,
        data.draw(st.none() | subset(dense.embed_dim, 2)) if family.narrows_stream else None,
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
        masked.stream = ones_at([kept.stream], [dense.embed_dim])[0] if kept.stream else None
        expected = shallow(images)
        got = small(images)
    assert (expected - got).abs().max() < 1e-4
    structure = vit.structure_of(small)
    assert structure == kept.structure(dense)
    for geometry in (vit.geometry_of(model), vit.geometry_of(small)):
        assert count(structure, geometry).parameters == sum(p.numel() for p in small.parameters())


STRUCTURES = {
    "widths": lambda dense: dense.with_widths([min(3, dense.blocks[0].heads), 1], [40, 56]),
    "without sub-layers": lambda dense: dense.with_widths([0, 1, 4], [40, 0, 0]),
    "nothing but the embedding": lambda dense: dense.with_widths([0], [0]),
    "narrow stream": lambda dense: replace(dense.with_widths([1, 2], [40, 56]), embed_dim=12),
    "narrow heads": lambda dense: replace(dense, blocks=tuple(replace(b, head_dim=4) for b in dense.blocks)),
}


REFUSALS: dict[str, Callable[[Any], bool]] = {
    "widths": lambda model: False,
    "without sub-layers": lambda model: not family_of(model).drops,
    "nothing but the embedding": lambda model: not family_of(model).drops,
    "narrow stream": lambda model: not family_of(model).narrows_stream,
    "narrow heads": lambda model: vit.fixed_heads(model) is not None,
}


@pytest.mark.parametrize("widths", STRUCTURES)
@pytest.mark.parametrize("form", FORMS)
def test_macs_equal_pytorch_own_count(form: str, widths: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    spec = spec_of(form)
    dense = create(spec)
    structure = STRUCTURES[widths](vit.structure_of(dense))
    if REFUSALS[widths](dense):
        with pytest.raises(InputError, match=r"normalised|rotary|in windows|keep"):
            build(spec, structure)
        return
    small = build(spec, structure)
    vit.set_fused_attention(small, False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        small(torch.randn(1, 3, 16, 16))
    assert count(structure, vit.geometry_of(dense)).macs == counter.get_total_flops() / 2


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


def test_a_narrow_stream_is_a_plain_timm_model(tiny_model: Any) -> None:
    small = cut(tiny_model, Kept(((0,), (1, 2)), ((0, 5), (7,)), stream=tuple(range(0, 32, 2))))
    assert (small.embed_dim, small.num_features, small.feature_info[0]["num_chs"]) == (16, 16, 16)
    assert small.forward_features(torch.randn(1, 3, 16, 16)).shape[-1] == 16
    small.reset_classifier(7)
    assert small(torch.randn(1, 3, 16, 16)).shape == (1, 7)
    assert tiny_model.feature_info[0]["num_chs"] == 32
