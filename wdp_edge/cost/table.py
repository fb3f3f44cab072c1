"""The latency table: what attention and MLP of one block cost on a device, by width, and everything else."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal

from wdp_edge.errors import InputError
from wdp_edge.models.structure import Structure
from wdp_edge.protocols.device import Kind

TABLE_VERSION: Final = 2
_STORED = [
    "version",
    "kind",
    "dense_ms",
    "fixed_ms",
    "attention",
    "mlp",
    "head_ms",
    "last",
    "context",
    "scales",
    "key",
    "unit",
]
Points = tuple[tuple[float, float], ...]
# Per block how many of the table's heads and hidden units one of its own costs as much as; empty: one, everywhere.
Scales = tuple[tuple[float, float], ...]
# ms for each head of full width of the last attention, and for each hidden unit of an MLP after it.
Last = tuple[float, float]
Unit = Literal["ms", "% of MACs", "% of parameters"]


@dataclass(frozen=True)
class TableKey:
    """What a table's figures depend on. versions: of the packages that shape the artifact."""

    target: str
    precision: str
    device: str
    threads: int
    embed_dim: int
    head_dim: int
    tokens: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds for one image, or per cent of a count where the budget is one (`unit`).

    attention: (heads, ms) of one block's attention, rising in heads of full width. mlp: (hidden units, ms) of
    one MLP. head_ms: what a head costs without its channels; heads of fewer channels cost this in full and the rest
    by their channels. fixed_ms: everything outside the blocks. dense_ms: the dense model, measured in the same run.
    context: (sum of the parts, ms of the whole model), rising; empty when a model takes as long as its parts. A model
    whose weights outgrow the caches takes longer: twice as long for 86 MB of float32 as for 26 MB, per weight.
    scales: of models in stages, where a head of a later block passes over fewer and wider tokens. last: of models whose
    files compute what follows the last attention for a few tokens alone; None: that costs what it costs elsewhere.
    """

    attention: Points
    mlp: Points
    fixed_ms: float
    dense_ms: float
    kind: Kind
    key: TableKey
    context: Points
    head_ms: float = 0.0
    scales: Scales = ()
    last: Last | None = None
    version: Literal[2] = TABLE_VERSION
    unit: Unit = "ms"

    def __post_init__(self) -> None:
        lines = [number for points in (self.attention, self.mlp, self.scales) for point in points for number in point]
        figures = [*lines, self.fixed_ms, self.head_ms, self.dense_ms, *(self.last or ())]
        if not all(0 <= number < math.inf for number in figures) or not self.dense_ms:
            raise InputError(
                "A latency table needs finite figures of at least 0, and a dense model that takes time.",
                "Measure the table again.",
            )
        for points in (self.attention, self.mlp):
            widths = [w for w, _ in points]
            if not points or widths[0] <= 0 or any(a >= b for a, b in pairwise(widths)):
                raise InputError(
                    f"A latency table needs rising positive widths, not {widths}.", "Measure the table again."
                )
        line = ((0.0, 0.0), *self.context)
        if not all(a[0] < b[0] < math.inf and a[1] < b[1] < math.inf for a, b in pairwise(line)):
            raise InputError(
                f"A latency table needs a context that rises from zero, not {self.context}.",
                "Measure the table again.",
            )

    def attention_ms(self, heads: float, head_dim: float | None = None, block: int = 0, last: bool = False) -> float:
        """The attention of a block, from 0, with this many heads; none of them: there is no attention.

        head_dim: channels of each; the dense model's when None. last: whether no block after it has an attention.
        """
        if not heads:
            return 0.0
        heads *= self.scales[block][0] if self.scales else 1
        full = heads if head_dim is None else heads * head_dim / self.key.head_dim
        if last and self.last:
            return self.last[0] * full
        return interpolate(self.attention, full) + self.head_ms * (heads - full)

    def mlp_ms(self, hidden: float, block: int = 0, last: bool = False) -> float:
        """The MLP of a block, from 0, with this many hidden units; none of them: there is no MLP.

        last: whether no attention comes after it.
        """
        hidden *= self.scales[block][1] if self.scales else 1
        if last and self.last:
            return self.last[1] * hidden
        return interpolate(self.mlp, hidden) if hidden else 0.0

    def predict(self, structure: Structure) -> float:
        """The latency of a model of this structure in ms."""
        return along(self.context, self.part_sum(structure))

    def part_sum(self, structure: Structure) -> float:
        """The plain sum of the parts in ms, which is what solvers add up: see `around`."""
        last = structure.last_attention
        return self.fixed_ms + sum(
            self.attention_ms(b.heads, b.head_dim, i, i >= last) + self.mlp_ms(b.hidden, i, i >= last)
            for i, b in enumerate(structure.blocks)
        )

    def around(self, ms: float) -> LatencyTable:
        """The same predictions, with parts whose plain sum is exact for models that take `ms` and near for others.

        For a solver that adds up parts under the limit `ms`: the sum is within it exactly when the prediction is,
        because the context rises.
        """
        ratio = ms / along(tuple((y, x) for x, y in self.context), ms)
        return replace(
            self,
            attention=tuple((w, ms * ratio) for w, ms in self.attention),
            mlp=tuple((w, ms * ratio) for w, ms in self.mlp),
            fixed_ms=self.fixed_ms * ratio,
            head_ms=self.head_ms * ratio,
            last=self.last and (self.last[0] * ratio, self.last[1] * ratio),
            context=tuple((x * ratio, y) for x, y in self.context),
        )

    def amount(self, value: float) -> str:
        """In words: "4.3 ms", "51.2% of MACs"."""
        return f"{value:.3g} ms" if self.unit == "ms" else f"{value:.3g}{self.unit}"

    def to_json(self) -> dict[str, Any]:
        """In the order that tables are stored in."""
        return {name: getattr(self, name) for name in _STORED}


def along(line: Points, x: float) -> float:
    """y at x on the line through the origin and these rising points, with the last segment's slope beyond; x itself
    when there are none."""
    if not line:
        return x
    return on_line(((0.0, 0.0), *line), x)


def on_line(points: Points, x: float) -> float:
    """y at x, linear between these rising points, and beyond them along the outermost segment."""
    right = min(max(bisect_right(points, x, key=lambda p: p[0]), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) / (x1 - x0) * (x - x0)


def interpolate(points: Points, width: float) -> float:
    """Milliseconds at `width`: linear between points, and beyond them along the outermost segment.

    Never less than half of the first point's share: below the grid a line through noise could turn negative.
    """
    if len(points) == 1:
        return points[0][1] * width / points[0][0]
    value = on_line(points, width)
    first_width, first_ms = points[0]
    return max(value, 0.5 * first_ms * width / first_width) if width < first_width else value
