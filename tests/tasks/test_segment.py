"""A class for every pixel: figures by their definitions, and what does not count."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from wdp_edge.data.worker import IGNORED
from wdp_edge.protocols.task import get_task
from wdp_edge.tasks.segment import class_shares, confusion

TASK = get_task("segment")


def some_masks(count: int = 3, side: int = 8, classes: int = 4) -> torch.Tensor:
    masks = torch.randint(0, classes, (count, side, side), generator=torch.Generator().manual_seed(0))
    masks[0, :2, 3:] = IGNORED
    return masks.to(torch.uint8)


def some_maps(seed: int = 1) -> torch.Tensor:
    return torch.randn(3, 4, 2, 4, generator=torch.Generator().manual_seed(seed))


def test_every_pixel_counts_with_the_logits_of_its_patch() -> None:
    masks, outputs = some_masks(), some_maps()
    large = outputs.repeat_interleave(4, 2).repeat_interleave(2, 3)
    expected = F.cross_entropy(large, masks.long(), ignore_index=IGNORED)
    assert float(TASK.loss(outputs, outputs, masks, 0.0, 1.0)[0]) == pytest.approx(float(expected), rel=1e-5)


def test_shares_of_classes_add_up_to_the_known_pixels() -> None:
    masks = some_masks()
    shares = class_shares(masks, 4, (2, 4))
    assert shares.shape == (3, 4, 2, 4)
    assert float(shares[1, 2, 0, 3]) == pytest.approx(float((masks[1, :4, 6:] == 2).float().mean()))
    assert torch.allclose(shares.sum(1)[1:], torch.ones(2, 2, 4))
    assert torch.allclose(shares.sum(1)[0, 0], torch.tensor([1, 0.75, 0.5, 0.5]))


def test_a_batch_of_ignored_pixels_has_no_loss_and_no_figures() -> None:
    masks, outputs = torch.full((3, 8, 8), IGNORED, dtype=torch.uint8), some_maps().requires_grad_(True)
    loss = TASK.loss(outputs, outputs.detach(), masks, 0.0, 1.0)[0]
    loss.backward()
    assert float(loss.detach()) == 0.0 and outputs.grad is not None and not outputs.grad.any()
    figures = TASK.metrics(outputs.detach(), masks, None)
    assert figures.keys() == {"mIoU", "pixel accuracy"} and all(map(math.isnan, figures.values()))


def test_intersection_over_union_is_that_of_all_pixels_together() -> None:
    masks, outputs = some_masks(), some_maps()
    found = F.interpolate(outputs, size=(8, 8), mode="bilinear", align_corners=False).argmax(1)
    known = masks != IGNORED
    overlaps = []
    for number in range(4):
        wanted, got = (masks == number) & known, (found == number) & known
        overlaps.append(float((wanted & got).sum() / (wanted | got).sum()))
    figures = TASK.metrics(outputs, masks, None)
    assert figures["mIoU"] == pytest.approx(sum(overlaps) / 4, rel=1e-6)
    assert figures["pixel accuracy"] == pytest.approx(float((found == masks)[known].float().mean()), rel=1e-6)
    assert int(confusion(outputs, masks).sum()) == int(known.sum())


def test_classes_that_are_in_no_mask_do_not_count() -> None:
    masks = torch.zeros(1, 4, 4, dtype=torch.uint8)
    masks[:, :, 2:] = 2
    outputs = torch.full((1, 3, 1, 2), -5.0)
    outputs[0, 0, 0, 0] = outputs[0, 2, 0, 1] = 5.0
    assert TASK.metrics(outputs, masks, None) == {"mIoU": 1.0, "pixel accuracy": 1.0}


def test_agreement_is_a_share_of_patches() -> None:
    before, after = some_maps(), some_maps()
    after[0, :, 0, 0] = -before[0, :, 0, 0]
    assert TASK.agreement(before, after) == pytest.approx(1 - 1 / 24)
