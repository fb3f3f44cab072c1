"""Widths of what is left of a model, and the counts that follow from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_families import FORMS, spec_of

from wdp_edge.errors import InputError
from wdp_edge.io.plain import from_plain
from wdp_edge.models import vit
from wdp_edge.models.families import family_of
from wdp_edge.models.spec import create
from wdp_edge.models.structure import (
    AttentionGeometry,
    BlockWidths,
    Counts,
    Geometry,
    MlpGeometry,
    Structure,
    count,
)
from wdp_edge.models.surgery import build

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
    "narrow stream": lambda model: True,
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
        with pytest.raises(InputError, match=r"normalised|rotary|in windows|keep|residual stream"):
            build(spec, structure)
        return
    small = build(spec, structure)
    vit.set_fused_attention(small, False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        small(torch.randn(1, 3, 16, 16))
    assert count(structure, vit.geometry_of(dense)).macs == counter.get_total_flops() / 2


widths = st.builds(BlockWidths, st.integers(0, 16), st.integers(1, 64), st.integers(0, 4096))
structures = st.builds(Structure, st.integers(1, 1024), st.lists(widths, min_size=1, max_size=6).map(tuple))


@given(structures, structures)
def test_a_structure_comes_back_from_json_and_is_told_apart_by_its_digest(one: Structure, other: Structure) -> None:
    again = from_plain(Structure, json.loads(json.dumps(one.to_json())))
    assert again == one and again.digest == one.digest
    assert (one.digest == other.digest) == (one == other)


@given(structures, st.data())
def test_what_is_narrower_is_a_part_and_what_is_wider_is_named(whole: Structure, data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, whole.depth))
    heads = [data.draw(st.integers(0, b.heads)) for b in whole.blocks[:depth]]
    hidden = [data.draw(st.integers(0, b.hidden)) for b in whole.blocks[:depth]]
    part = whole.with_widths(heads, hidden)
    assert part.depth == depth and part.excess(whole) == ""
    number = data.draw(st.integers(0, depth - 1))
    hidden[number] = whole.blocks[number].hidden + 1
    said = whole.with_widths(heads, hidden).excess(whole)
    assert f"{hidden[number]} hidden units" in said and f"block {number + 1}" in said
    deeper = replace(whole, blocks=whole.blocks + whole.blocks[:1])
    assert deeper.excess(whole) == f"{deeper.depth} blocks of {whole.depth}"
    assert "channels" in replace(whole, embed_dim=whole.embed_dim + 1).excess(whole)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"embed_dim": 0},
        {"embed_dim": True},
        {"embed_dim": 2**30},
        {"blocks": []},
        {"blocks": [{"heads": 1, "head_dim": 0, "hidden": 4}]},
        {"blocks": [{"heads": 1, "head_dim": 8, "hidden": 4, "more": 1}]},
        {"blocks": [{"heads": -1, "head_dim": 8, "hidden": 4}]},
        {"blocks": 3},
    ],
)
def test_what_is_no_structure_is_refused(change: dict[str, Any]) -> None:
    sound = Structure(8, (BlockWidths(1, 8, 4),)).to_json()
    assert from_plain(Structure, sound).depth == 1
    with pytest.raises(InputError):
        from_plain(Structure, {**sound, **change})
    with pytest.raises(InputError, match="embed_dim"):
        from_plain(Structure, {key: value for key, value in sound.items() if key != "embed_dim"})


def test_a_sublayer_that_is_gone_counts_nothing() -> None:
    geometry = Geometry((AttentionGeometry(17, 17, per_channel=3),), (MlpGeometry(17, per_channel=3),), 11, 13)
    gone = count(Structure(8, (BlockWidths(0, 8, 0),)), geometry)
    assert gone == Counts(11, 13)
    assert count(Structure(8, (BlockWidths(0, 8, 3),)), geometry).parameters == gone.parameters + 2 * 8 * 3 + 3 * 8
