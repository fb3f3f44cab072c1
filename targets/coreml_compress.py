"""Small weights in a Core ML model: which form each layer's weight gets, by precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wdp_edge.target import Precision

_BITS = {Precision.PALETTE4: 4, Precision.PALETTE6: 6, Precision.PALETTE8: 8}
_INT8 = (Precision.INT8_WEIGHT, Precision.W8A8)
_BLOCKS = (32, 16)  # inputs that share one scale in int4
_GROUPS = {4: 4, 6: 16}  # by bits: output channels that share one palette; with 8 bits all of them
_EVERY = 0  # weights above this size are compressed: all of them


@dataclass(frozen=True)
class Weight:
    """A layer's weight in the converted model. name: of its constant. shape: [out, in, ...]."""

    name: str
    shape: tuple[int, ...]


def compress(model: Any, precision: Precision, weights: Iterable[Weight]) -> Any:
    """A copy of the converted model (MLModel) in which these weights are small; fp32 and fp16 leave it as it is."""
    import coremltools.optimize.coreml as optimize

    if precision in (Precision.FP32, Precision.FP16):
        return model
    configs = {w.name: config(precision, w) for w in weights}
    if not configs:
        return model
    chosen = optimize.OptimizationConfig(global_config=None, op_name_configs=configs)
    if precision in _BITS:
        return optimize.palettize_weights(model, chosen)
    return optimize.linear_quantize_weights(model, chosen)


def config(precision: Precision, weight: Weight) -> Any:
    """How one weight is stored.

    int4 shares a scale between 32 or 16 inputs; a weight that cannot be divided so (the patch embedding has three
    input channels) is int8. Palettes are shared by a few output channels, where these divide so: fewer for four bits,
    whose error is the largest.
    """
    import coremltools.optimize.coreml as optimize

    outputs, inputs = weight.shape[:2]
    if bits := _BITS.get(precision):
        group = _GROUPS.get(bits)
        fits = group is not None and outputs % group == 0
        grouped = {"granularity": "per_grouped_channel", "group_size": group} if fits else {}
        return optimize.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=_EVERY, **grouped)
    block = next((b for b in _BLOCKS if inputs % b == 0), None)
    if precision in _INT8 or block is None:
        return optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=_EVERY)
    return optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=block, weight_threshold=_EVERY
    )
