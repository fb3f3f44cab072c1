"""Labels as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wdp_edge.data.folder import ImageFolder


def labels_of(folder: ImageFolder, indices: Sequence[int], masks: Tensor | None = None) -> Tensor:
    """What is known of these images: their masks, [n, H, W] uint8, ones for all classes of each, [n, K] float32, or the
    class of each, [n] int64.

    masks: where the images have them, as they were decoded with the images.
    """
    if masks is not None:
        return masks
    if not folder.several:
        return torch.tensor([folder.labels[i] for i in indices], dtype=torch.int64)
    labels = torch.zeros(len(indices), len(folder.classes))
    for row, index in zip(labels, indices, strict=True):
        row[list(folder.several[index])] = 1.0
    return labels
