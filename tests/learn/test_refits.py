"""Writers refitted in closed form while masks are learned."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from learning import masks_of, narrow_masks
from tiny_families import FORMS, made

from wdp_edge.learn.masked import MaskedForward
from wdp_edge.learn.masks import Masks
from wdp_edge.learn.refits import Refits
from wdp_edge.learn.search import due
from wdp_edge.models import vit


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def error(dense: Any, student: Any, masks: Masks) -> float:
    """Of the outputs under masks, on images that nothing was fitted to."""
    x = images(64, seed=1)
    with torch.no_grad(), MaskedForward(student) as masked:
        masked.heads, masked.hidden = masks.masks()
        masked.head_channels = masks.channel_masks()
        return float((student(x) - dense(x)).norm())


@pytest.mark.parametrize("form", FORMS)
def test_refitted_writers_bring_the_masked_model_nearer(form: str) -> None:
    dense = made(form).eval()
    student, masks = copy.deepcopy(dense), masks_of(dense, 0.0)
    before = error(dense, student, masks)
    Refits(dense, images(256), lambda x: x)(student, masks)
    assert error(dense, student, masks) < 0.9 * before
    changed = {n for n, p in student.state_dict().items() if not torch.equal(p, dense.state_dict()[n])}
    assert changed and all("attn.proj." in n or "mlp.fc2." in n for n in changed)


def test_columns_of_what_is_out_stay_for_when_it_comes_back(tiny_model: Any) -> None:
    student, masks = copy.deepcopy(tiny_model), narrow_masks(tiny_model, 0.5)
    refits = Refits(tiny_model, images(128), lambda x: x)
    refits(student, masks)
    dense, proj = (m.blocks[1].attn.proj.weight.unflatten(1, (4, 8)) for m in (tiny_model, student))
    assert torch.equal(proj[..., 4:], dense[..., 4:]) and not torch.allclose(proj[..., :4], dense[..., :4])
    with torch.no_grad():
        masks.channels_thresholds.fill_(20.0)
        for thresholds in (masks.heads_thresholds, masks.hidden_thresholds):
            thresholds.fill_(20.0)
    refits(student, masks)
    assert torch.allclose(student.blocks[1].attn.proj.weight, tiny_model.blocks[1].attn.proj.weight, atol=2e-2)
    assert len(vit.sublayers(student)) == len(refits.writers)


@pytest.mark.parametrize(("steps", "times"), [(150, 10), (7, 3), (5, 20)])
def test_refits_are_evenly_spread(steps: int, times: int) -> None:
    days = [step for step in range(1, steps + 1) if due(step, steps, times)]
    assert len(days) == min(steps, times) and days[-1] == steps
    assert not any(due(step, steps, 0) for step in range(1, steps + 1))
