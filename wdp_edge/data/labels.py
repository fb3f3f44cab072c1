"""Labels as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wdp_edge.data.folder import ImageFolder


def labels_of(folder: ImageFolder, indices: Sequence[int]) -> Tensor:
    """What is known of these images: the class of each, [n] int64, or ones for all its classes, [n, K] float32."""
    if not folder.several:
        return torch.tensor([folder.labels[i] for i in indices], dtype=torch.int64)
    labels = torch.zeros(len(indices), len(folder.classes))
    for row, index in zip(labels, indices, strict=True):
        row[list(folder.several[index])] = 1.0
    return labels
