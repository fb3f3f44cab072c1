"""A class for every pixel: logits of every patch, cross entropy, mean intersection over union."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from wdp_edge.artifacts.parity import same_class
from wdp_edge.data.worker import IGNORED
from wdp_edge.runs.drops import Drops
from wdp_edge.tasks.by_class import Floats, resampled_drops
from wdp_edge.tasks.classify import PROBE_TEMPERATURE, distillation
from wdp_edge.tasks.kinds import SEGMENT
from wdp_edge.workers.parallel import mean

_IMAGES = 32


class Segment:
    """`wdp_edge.protocols.task.Task` for segmentation.

    Outputs: logits of every patch, [n, K, h, w]; labels: [n, H, W] uint8.
    """

    facts = SEGMENT

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """KL divergence of a patch's class probabilities, in nats, mean over patches; see `distillation`."""
        return distillation(patches(outputs), patches(teacher), temperature)

    def loss(
        self, outputs: Tensor, teacher: Tensor, labels: Tensor, share: float, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """share · distillation + (1 - share) · cross entropy with the classes of the patch's pixels.

        Every pixel counts with the logits of its patch: exactly the cross entropy of a map enlarged without
        interpolation, at the cost of the small map. Of several processes, each counts all their known pixels.
        """
        distilled = self.divergence(outputs, teacher, temperature)
        known = class_shares(labels, outputs.shape[1], outputs.shape[2:])
        surprise = -(known * F.log_softmax(outputs.float(), 1)).sum() / mean(known.sum()).clamp_min(1)
        return share * distilled + (1 - share) * surprise, distilled.detach()

    def probe(self, outputs: Tensor, generator: Generator) -> Tensor:
        """Cross entropy with labels of patches drawn from the model's own softened predictions.

        Over the root of the number of patches: labels are drawn for each on its own, so squared gradients add up, and
        the divergence is their mean.
        """
        logits = patches(outputs) / PROBE_TEMPERATURE
        drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
        count = outputs.shape[2] * outputs.shape[3]
        return F.cross_entropy(logits, drawn, reduction="sum") / count**0.5

    def agreement(self, reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
        """Share of patches with the same class on top."""
        return same_class(reference, outputs, unsure)

    def metrics(self, outputs: Tensor, labels: Tensor, dense: Tensor | None) -> dict[str, float]:
        """mIoU over the classes that occur in the masks, from the pixels of all images together, and pixel accuracy.

        NaN where the masks hold no pixel of a class.
        """
        counts = confusion(outputs, labels).double()
        right, wanted, found = counts.diagonal(), counts.sum(1), counts.sum(0)
        shown = wanted > 0
        if not shown.any():
            return {self.facts.metric: math.nan, "pixel accuracy": math.nan}
        overlap = (right / (wanted + found - right).clamp_min(1))[shown].mean()
        return {self.facts.metric: float(overlap), "pixel accuracy": float(right.sum() / wanted.sum())}

    def drops(self, dense: Tensor, shipped: Tensor, labels: Tensor, names: Sequence[str]) -> Drops:
        """Drops in IoU of each class of pixels. Whole images are resampled: pixels of one image are alike."""
        sides = [pixels_by_image(outputs, labels) for outputs in (dense, shipped)]
        wanted = sides[0][1]

        def measure(weights: Floats) -> tuple[Floats, Floats]:
            before, after = (overlaps(*(weights @ counts for counts in side)) for side in sides)
            return before, after

        return resampled_drops(measure, (wanted > 0).sum(0).astype(np.int64), len(labels), names, "IoU")


def patches(outputs: Tensor) -> Tensor:
    """[n, K, h, w] -> [n · h · w, K]."""
    return outputs.movedim(1, -1).flatten(0, 2)


def class_shares(masks: Tensor, classes: int, grid: tuple[int, ...]) -> Tensor:
    """What share of each patch's pixels every class has: [n, classes, h, w] float32, together 1 without IGNORED ones.

    masks: [n, H, W] uint8, H and W multiples of h and w. Counted, not from one-hot maps, which would be large.
    """
    (height, width), (count, rows, columns) = grid, masks.shape
    number, row, column = (torch.arange(size, device=masks.device) for size in masks.shape)
    row, column = row * height // rows, column * width // columns
    patch = number[:, None, None] * (height * width) + row[:, None] * width + column
    # One class more, for IGNORED: so that no shape depends on numbers, for which a GPU would have to wait.
    place = (patch * (classes + 1) + masks.clamp_max(classes)).flatten()
    counts = torch.zeros(count * height * width * (classes + 1), device=masks.device)
    counts.scatter_add_(0, place, torch.ones_like(place, dtype=counts.dtype))
    shares = counts.reshape(count, height, width, classes + 1)[..., :classes] * (height * width / (rows * columns))
    return shares.movedim(-1, 1)


def confusion(outputs: Tensor, masks: Tensor) -> Tensor:
    """Pixels by class in the mask and class found: [K, K] int64, without IGNORED ones.

    outputs: [n, K, h, w], enlarged bilinearly to the masks' size, some images at a time; masks: [n, H, W] uint8.
    """
    classes = outputs.shape[1]
    counts = torch.zeros(classes * classes, dtype=torch.int64)
    for part, wanted in zip(outputs.split(_IMAGES), masks.split(_IMAGES), strict=True):
        large = F.interpolate(part.float(), size=wanted.shape[1:], mode="bilinear", align_corners=False)
        known = wanted != IGNORED
        pairs = wanted[known].long() * classes + large.argmax(1)[known]
        counts += torch.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes)


def pixels_by_image(outputs: Tensor, masks: Tensor) -> tuple[Floats, Floats, Floats]:
    """For each image, the pixels of each class that are right, in the mask, and found: [n, K] each."""
    counts = [confusion(outputs[i : i + 1], masks[i : i + 1]) for i in range(len(masks))]
    right, wanted, found = (
        torch.stack(parts).double().numpy()
        for parts in zip(*((c.diagonal(), c.sum(1), c.sum(0)) for c in counts), strict=True)
    )
    return right, wanted, found


def overlaps(right: Floats, wanted: Floats, found: Floats) -> Floats:
    """Intersection over union; NaN for classes that are in no mask."""
    return np.where(wanted > 0, right / np.maximum(wanted + found - right, 1), np.nan)


TASK = Segment()
