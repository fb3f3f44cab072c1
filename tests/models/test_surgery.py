from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wdp_edge.learn.masks import MaskedForward
from wdp_edge.models import vit
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, build, cut
from wdp_edge.structure import count

FAMILY = [
    ("vit_tiny_patch16_224", {}),
    ("vit_small_patch14_dinov2", {"init_values": 0.3}),
    ("vit_small_patch14_reg4_dinov2", {"init_values": 0.3}),
    ("vit_base_patch16_gap_224", {}),
    ("deit3_small_patch16_224", {"init_values": 0.3}),
    ("vit_tiny_patch16_224", {"qk_norm": True}),
    ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}),
]
SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}


def some_kept(data: st.DataObject, depth: int, heads: int, hidden: int) -> Kept:
    blocks = data.draw(st.integers(1, depth))
    subset = lambda n: st.sets(st.integers(0, n - 1), min_size=1).map(lambda s: tuple(sorted(s)))  # noqa: E731
    return Kept(
        tuple(data.draw(subset(heads)) for _ in range(blocks)),
        tuple(data.draw(subset(hidden)) for _ in range(blocks)),
    )


@pytest.mark.parametrize(("name", "args"), FAMILY)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_masked_equals_shrunk_and_counts_are_exact(name: str, args: dict[str, Any], data: st.DataObject) -> None:
    from tiny_vit import lively

    torch.manual_seed(0)
    model = lively(create(ModelSpec(name, 5, {**SMALL, **args})))
    dense = vit.structure_of(model)
    kept = some_kept(data, 3, 4, dense.blocks[0].hidden)
    small = cut(model, kept)
    shallow = cut(
        model, Kept.first(dense.with_widths([4] * len(kept.heads), [dense.blocks[0].hidden] * len(kept.heads)))
    )
    images = torch.randn(3, 3, 16, 16)
    with MaskedForward(shallow) as masked, torch.no_grad():
        masked.heads = [torch.isin(torch.arange(4), torch.tensor(k)).float() for k in kept.heads]
        masked.hidden = [torch.isin(torch.arange(dense.blocks[0].hidden), torch.tensor(k)).float() for k in kept.hidden]
        expected = shallow(images)
    with torch.no_grad():
        got = small(images)
    assert (expected - got).abs().max() < 1e-4
    structure = vit.structure_of(small)
    assert structure == kept.structure(dense)
    counts = count(structure, vit.geometry_of(model))
    assert counts.parameters == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize(("name", "args"), FAMILY)
def test_macs_equal_pytorch_own_count(name: str, args: dict[str, Any]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    spec = ModelSpec(name, 5, {**SMALL, **args})
    dense = create(spec)
    structure = vit.structure_of(dense).with_widths([3, 1], [40, 104])
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
