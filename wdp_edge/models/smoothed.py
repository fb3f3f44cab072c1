"""The mark of a LayerNorm whose scale was chosen for quantization."""

from __future__ import annotations

from torch import nn


class SmoothedNorm(nn.LayerNorm):
    """A LayerNorm whose weight stays a product in the exported graph: x [..., D] -> [..., D].

    Lowering moves the weight of every other LayerNorm into the layers that read it. Here that would undo the balance
    between activations and weights that `wdp_edge.calibration.smoothing` struck. As saved weights it is a LayerNorm.
    """
