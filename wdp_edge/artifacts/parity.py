"""How far two forms of one model agree on the same real images."""

from __future__ import annotations

import sys
from typing import Protocol

import torch
from torch import Tensor

from wdp_edge.runs.results import Parity

# Far above what float32 rounds away, whatever the order of operators; far below what any smaller format does.
EXACT = 1e-4


class Agreement(Protocol):
    """`wdp_edge.protocols.task.Task.agreement`."""

    def __call__(self, reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float: ...


def same_class(reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
    """Share of images with the same top-1 class, in [0, 1]. reference, outputs: [n, classes, ...] logits.

    unsure: where the reference's two best outputs differ by no more than this, any class is right.
    """
    same = reference.argmax(1) == outputs.argmax(1)
    if unsure > 0 and reference.shape[1] > 1:
        best = reference.topk(2, 1).values
        same |= best[:, 0] - best[:, 1] <= unsure
    return float(same.float().mean())


def spread_error(reference: Tensor, got: Tensor) -> float:
    """Root mean square of the differences as a share of how far the reference's outputs are spread over the images.

    reference, got: [n, ...].
    """
    spread = float((reference - reference.mean(0)).square().mean().sqrt())
    return float((reference - got).square().mean().sqrt()) / max(spread, sys.float_info.min)


def compare(
    name: str, reference: Tensor, got: Tensor, agreement: Agreement = same_class, exact: float = EXACT
) -> Parity:
    """reference, got: [n, ...] float32 outputs for the same images; agreement: their task's.

    Centred: without the reference's mean output vector. It is the same for every image, so it raises the plain cosine
    of a model that has lost everything that depends on the image.
    exact: share of the largest output by which outputs of the same function may differ.
    """
    largest = float(reference.abs().max())
    alike, clear = agreement(reference, got), agreement(reference, got, exact * largest)
    reference, got = reference.flatten(1), got.flatten(1)
    mean, max_error = reference.mean(0), float((reference - got).abs().max())
    return Parity(
        name=name,
        images=len(reference),
        max_error=max_error,
        cosine=float(torch.cosine_similarity(reference, got).min()),
        cosine_centred=float(torch.cosine_similarity(reference - mean, got - mean).min()),
        agreement=alike,
        relative_error=max_error / max(largest, sys.float_info.min),
        clear_agreement=clear,
        spread_error=spread_error(reference, got),
    )


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 share, in [0, 1]. logits: [n, classes]; labels: [n]."""
    return float((logits.argmax(1) == labels).float().mean())
