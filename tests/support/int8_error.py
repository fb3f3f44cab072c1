"""How far an int8 file may be from its model, in tests as in `[verify]`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from wdp_edge.artifacts.parity import compare
from wdp_edge.artifacts.proof import close, flat, simulated_error, tolerance_of
from wdp_edge.calibration.simulation import scheme_of
from wdp_edge.config.recipe import VerifyRecipe
from wdp_edge.models import vit
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Target


def as_its_scheme(
    target: Target, precision: Precision, model: Any, images: Tensor, calibration: Tensor, got: Tensor
) -> bool:
    """Whether a file's outputs for images, [n, 3, H, W] normalised, are as close to the timm model's as its int8
    scheme, simulated on that model, allows by `factor` of `[verify.int8]`.

    calibration: the same for the ranges of int8-static.
    """
    return _close(target, precision, model, (images, calibration), vit.logits(model, images), got)


def part_as_scheme(
    target: Target,
    precision: Precision,
    model: Any,
    images: Tensor,
    calibration: Tensor,
    streams: tuple[Tensor, Tensor],
) -> bool:
    """The same for a part of the model, by the scheme's error over all of it, as the search for a broken layer does.

    streams: the part's tokens, [n, ..., D], of the model and of the file.
    """
    expected, got = map(flat, streams)
    return _close(target, precision, model, (images, calibration), expected, got)


def _close(
    target: Target, precision: Precision, model: Any, seen: tuple[Tensor, Tensor], expected: Tensor, got: Tensor
) -> bool:
    scheme = scheme_of(target, precision)
    assert scheme is not None, f"{precision} is not simulated"
    parity = compare(precision, expected, got.reshape(expected.shape))
    parity = replace(parity, simulated_error=simulated_error(model, scheme, *seen))
    return close(parity, tolerance_of(VerifyRecipe(), precision))
