"""A table of counts in place of milliseconds: what each sub-layer has of a model's MACs or parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wdp_edge.config.values import CountBudget, Quantity
from wdp_edge.cost.table import LatencyTable, Points, TableKey
from wdp_edge.models.structure import BlockWidths, Counts, Geometry, Structure, attention_counts, count, mlp_counts
from wdp_edge.protocols.device import Kind


@dataclass(frozen=True)
class Counter:
    """What models have of the dense one's MACs or parameters. structure, geometry: of that model."""

    structure: Structure
    geometry: Geometry
    budget: CountBudget

    @property
    def dense(self) -> int:
        """What the dense model has of the quantity."""
        return self.count(self.structure)

    @property
    def limit(self) -> float:
        """The budget, in per cent."""
        return self._percent(self.budget.limit(self.dense))

    def of(self, counts: Counts) -> int:
        return counts.macs if self.budget.quantity is Quantity.MACS else counts.parameters

    def count(self, structure: Structure) -> int:
        """What a model of this structure has."""
        return self.of(count(structure, self.geometry))

    def used(self, structure: Structure) -> float:
        """The same as a share of the budget."""
        return self.count(structure) / self.budget.limit(self.dense)

    def table(self) -> LatencyTable:
        """For solvers, which add up parts. Exact, but for a few biases, in models whose blocks are all alike; in others
        a sub-layer counts in proportion to its width."""
        blocks = self.structure.blocks
        attention = [self._attention(number, block) for number, block in enumerate(blocks)]
        mlp = [self._mlp(number, block) for number, block in enumerate(blocks)]
        alike = len(set(zip(blocks, attention, mlp, strict=True))) == 1
        units = [(a / b.heads, m / b.hidden) for a, m, b in zip(attention, mlp, blocks, strict=True)]
        first, (head, unit) = blocks[0], units[0]
        lines: tuple[Points, Points] = ((float(first.heads), attention[0]),), ((float(first.hidden), mlp[0]),)
        if alike and min(first.heads, first.hidden) > 1:
            one = self._attention(0, replace(first, heads=1)), self._mlp(0, replace(first, hidden=1))
            lines = ((1.0, one[0]), *lines[0]), ((1.0, one[1]), *lines[1])
        return LatencyTable(
            attention=lines[0],
            mlp=lines[1],
            fixed_ms=100.0 - sum(attention) - sum(mlp),
            dense_ms=100.0,
            kind=Kind.ESTIMATED,
            key=TableKey("", "", "", 1, self.structure.embed_dim, first.head_dim, 0, {}),
            context=(),
            scales=() if alike else tuple((a / head, m / unit) for a, m in units),
            unit="% of MACs" if self.budget.quantity is Quantity.MACS else "% of parameters",
        )

    def _attention(self, number: int, block: BlockWidths) -> float:
        return self._percent(self.of(attention_counts(block, self.structure.embed_dim, self.geometry, number)))

    def _mlp(self, number: int, block: BlockWidths) -> float:
        return self._percent(self.of(mlp_counts(block, self.structure.embed_dim, self.geometry, number)))

    def _percent(self, value: int) -> float:
        return 100.0 * value / self.dense
