"""How far two forms of one model agree on the same real images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wdp_edge.results import Parity


def same_class(reference: Tensor, got: Tensor) -> float:
    """Share of images with the same top-1 class, in [0, 1]. reference, got: [n, classes] logits."""
    return float((reference.argmax(1) == got.argmax(1)).float().mean())


def compare(
    name: str, reference: Tensor, got: Tensor, agreement: Callable[[Tensor, Tensor], float] = same_class
) -> Parity:
    """reference, got: [n, ...] float32 outputs for the same images; agreement: their task's.

    Centred: without the reference's mean output vector. It is the same for every image, so it raises the plain cosine
    of a model that has lost everything that depends on the image.
    """
    alike = agreement(reference, got)
    reference, got = reference.flatten(1), got.flatten(1)
    mean = reference.mean(0)
    return Parity(
        name=name,
        images=len(reference),
        max_error=float((reference - got).abs().max()),
        cosine=float(torch.cosine_similarity(reference, got).min()),
        cosine_centred=float(torch.cosine_similarity(reference - mean, got - mean).min()),
        agreement=alike,
    )


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 share, in [0, 1]. logits: [n, classes]; labels: [n]."""
    return float((logits.argmax(1) == labels).float().mean())
