"""Number formats of artifacts, and what follows from them: how a file is judged, and how fast it is thought to be."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, ClassVar


class PrecisionFamily(StrEnum):
    """The table of [verify] that says how near to the model files of a precision must stay.

    int8: all 8-bit ones. low_bit: those below 8 bits.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    LOW_BIT = "low_bit"


class Precision(str):
    """A number format of artifacts: its name, as users and records write it, and what follows from it.

    A target lists those it can do: of the constants below, of its own, or both. Two with the same name are equal.
    family: by which its files are judged. speed: expected latency relative to fp32, such as 0.5, by which
    `--precision auto` orders what it tries; None keeps it out of that. integer: its layers multiply integers, by
    kernels that differ between processors.
    Raises ValueError for a name that a file's name cannot hold.
    """

    family: PrecisionFamily
    speed: float | None
    integer: bool

    FP32: ClassVar[Precision]
    FP16: ClassVar[Precision]
    INT8_DYNAMIC: ClassVar[Precision]
    """int8 weights, activations quantized while running."""
    INT8_STATIC: ClassVar[Precision]
    """int8 weights, activations quantized by calibrated ranges."""
    INT8_WEIGHT: ClassVar[Precision]
    """Only weights are small."""
    INT4_WEIGHT: ClassVar[Precision]
    PALETTE4: ClassVar[Precision]
    """Weights are indices into a table of 2^n values."""
    PALETTE6: ClassVar[Precision]
    PALETTE8: ClassVar[Precision]
    W8A8: ClassVar[Precision]
    """int8 weights and activations, as Core ML calls it."""

    def __new__(
        cls, name: str, family: PrecisionFamily, speed: float | None = None, integer: bool = False
    ) -> Precision:
        if not _NAME.fullmatch(name) or name in _WORDS:
            raise ValueError(f"'{name}' cannot be the name of a precision")
        # One object for one precision, also for one that another process sent.
        if (known := _MADE.get((name, family, speed, integer))) is not None:
            return known
        made = super().__new__(cls, name)
        made.family, made.speed, made.integer = family, speed, integer
        return _MADE.setdefault((name, family, speed, integer), made)

    def __getnewargs__(self) -> tuple[Any, ...]:  # type: ignore[override]
        return str(self), self.family, self.speed, self.integer


_MADE: dict[tuple[str, PrecisionFamily, float | None, bool], Precision] = {}
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_WORDS = ("default", "auto")
Precision.FP32 = Precision("fp32", PrecisionFamily.FP32)
Precision.FP16 = Precision("fp16", PrecisionFamily.FP16, speed=0.8)
Precision.INT8_DYNAMIC = Precision("int8-dynamic", PrecisionFamily.INT8, speed=0.5, integer=True)
Precision.INT8_STATIC = Precision("int8-static", PrecisionFamily.INT8, speed=0.5, integer=True)
Precision.INT8_WEIGHT = Precision("int8-weight", PrecisionFamily.INT8, speed=0.95)
Precision.INT4_WEIGHT = Precision("int4-weight", PrecisionFamily.LOW_BIT)
Precision.PALETTE4 = Precision("palette4", PrecisionFamily.LOW_BIT)
Precision.PALETTE6 = Precision("palette6", PrecisionFamily.LOW_BIT)
Precision.PALETTE8 = Precision("palette8", PrecisionFamily.INT8)
Precision.W8A8 = Precision("w8a8", PrecisionFamily.INT8, integer=True)
PRECISIONS = (
    *(Precision.FP32, Precision.FP16, Precision.INT8_DYNAMIC, Precision.INT8_STATIC, Precision.INT8_WEIGHT),
    *(Precision.INT4_WEIGHT, Precision.PALETTE4, Precision.PALETTE6, Precision.PALETTE8, Precision.W8A8),
)
"""Those that targets of wdp-edge have."""
