"""How far two forms of one model agree on the same real images."""

from __future__ import annotations

import torch
from torch import Tensor

from wdp_edge.results import Parity


def compare(name: str, reference: Tensor, got: Tensor) -> Parity:
    """reference, got: [n, classes] float32 logits of the same images.

    Centred: without the reference's mean logit vector. It is the same for every image, so it raises the plain cosine
    of a model that has lost everything that depends on the image.
    """
    mean = reference.mean(0)
    return Parity(
        name=name,
        images=len(reference),
        max_error=float((reference - got).abs().max()),
        cosine=float(torch.cosine_similarity(reference, got).min()),
        cosine_centred=float(torch.cosine_similarity(reference - mean, got - mean).min()),
        agreement=float((reference.argmax(1) == got.argmax(1)).float().mean()),
    )


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 share, in [0, 1]. logits: [n, classes]; labels: [n]."""
    return float((logits.argmax(1) == labels).float().mean())
