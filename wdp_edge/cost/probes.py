"""Which models are timed to learn what a width costs. Pure: structures in, structures out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wdp_edge.config.recipe import TableRecipe
from wdp_edge.cost.table import Scales
from wdp_edge.models.structure import Structure

_MOST_HEADS = 8
_DEPTHS = (5 / 12, 2 / 3)
_NARROW = (1 / 2, 1 / 4)
_WIDTHS = (0.35, 0.45, 0.65, 0.8)
# Selection gives every block its own widths; no pattern in it matters, only that it is not even.
_UNEVEN = (0.6, 1.4, 1.0, 0.8, 1.2, 0.7, 1.3)


@dataclass(frozen=True)
class Probes:
    """heads, hidden: the grids, rising, from the narrowest that may be chosen; heads in those of full width.

    chains: short models of equal blocks.
    sizes: models of several sizes, as they ship: the dense one cut in depth, and uneven ones of full depth.
    """

    heads: tuple[float, ...]
    hidden: tuple[int, ...]
    chains: tuple[Structure, ...]
    sizes: tuple[Structure, ...]

    @property
    def head_dim(self) -> int:
        """Channels of the heads in most probes."""
        return max(b.head_dim for s in self.chains for b in s.blocks)


def plan_probes(
    dense: Structure,
    options: TableRecipe,
    mlp_width_multiple: int,
    narrow: bool = False,
    scales: Scales = (),
    last: bool = False,
) -> Probes:
    """Real models, not loose layers, so that every probe meets the exporter as the shipped model will.

    One chain per head count (at a middle MLP width) and one per MLP width (at a middle head count), one of attention
    and one of MLPs alone, a single block for the part outside the blocks, and whole models of several sizes: what a
    block costs depends on whether all weights together outgrow the caches, and on how wide the model's other blocks
    are. The narrowest sub-layers are among them: what a sub-layer takes however narrow it is lies beyond any line
    through wider ones. narrow: three more chains, of heads with half and with a quarter of their channels and of a
    single one with a quarter. scales: of a model in stages (see `LatencyTable`), whose blocks keep both sub-layers.
    last: whether the last block has a cost of its own, which two more single blocks tell. Chains then have at least two
    blocks, because in a chain of one the others' cost would not be seen.
    """
    each = scales or ((1.0, 1.0),) * dense.depth
    most_heads = round(max(b.heads * s for b, (s, _) in zip(dense.blocks, each, strict=True)))
    most_hidden = round(max(b.hidden * s for b, (_, s) in zip(dense.blocks, each, strict=True)))
    heads = spaced(1, most_heads, min(most_heads, _MOST_HEADS), 1)
    hidden = spaced(max(most_hidden // 8, 1), most_hidden, options.points, mlp_width_multiple)
    middle = (heads[len(heads) // 2], hidden[len(hidden) // 2])
    hidden = tuple(sorted({min(mlp_width_multiple, most_hidden), *hidden}))
    widths = [(h, middle[1]) for h in heads] + [(middle[0], n) for n in hidden if n != middle[1]]
    if not scales:
        widths += [(middle[0], 0), (0, middle[1])]
    depth = min(max(options.chain, 1 + last), dense.depth)
    chains = [uniform(dense, h, n, depth, scales) for h, n in widths]
    if narrow:
        chains += [narrowed(uniform(dense, most_heads, middle[1], depth), share) for share in _NARROW]
        chains.append(narrowed(uniform(dense, 1, middle[1], depth), min(_NARROW)))
    if depth > 1:
        chains.append(uniform(dense, *middle, 1, scales))
    if last:
        chains += [uniform(dense, most_heads, middle[1], 1), uniform(dense, middle[0], most_hidden, 1)]
    depths = sorted({max(1, round(share * dense.depth)) for share in _DEPTHS} - {dense.depth})
    sizes = [uniform(dense, most_heads, most_hidden, d, scales) for d in depths]
    sizes += [uneven(dense, share, mlp_width_multiple) for share in _WIDTHS]
    sizes = [s for s in dict.fromkeys(sizes) if s != dense]
    grid = (min(_NARROW), *heads) if narrow else heads
    return Probes(grid, hidden, tuple(dict.fromkeys(chains)), tuple(sizes))


def uniform(dense: Structure, heads: int, hidden: int, depth: int, scales: Scales = ()) -> Structure:
    """The first `depth` blocks, all with these widths or what costs as much there, but none wider than it was."""
    kept = list(zip(dense.blocks[:depth], scales or ((1.0, 1.0),) * depth, strict=False))
    return dense.with_widths(
        [min(_counted(heads, s), b.heads) for b, (s, _) in kept],
        [min(_counted(hidden, s), b.hidden) for b, (_, s) in kept],
    )


def _counted(width: int, scale: float) -> int:
    """A block's own units that cost as much as `width` of the table's; 0 for 0."""
    return max(1, round(width / scale)) if width else 0


def narrowed(structure: Structure, share: float) -> Structure:
    """The same with this share of every head's channels."""
    blocks = tuple(replace(b, head_dim=max(1, round(share * b.head_dim))) for b in structure.blocks)
    return replace(structure, blocks=blocks)


def uneven(dense: Structure, share: float, multiple: int) -> Structure:
    """All blocks, each with widths of its own around this share of its full ones."""

    def width(full: int, place: int, step: int) -> int:
        wanted = full * share * _UNEVEN[place % len(_UNEVEN)]
        return min(full, max(step, round(wanted / step) * step))

    heads = [width(b.heads, i, 1) for i, b in enumerate(dense.blocks)]
    # Another phase, so that a block with few heads is not always one with few hidden units.
    hidden = [width(b.hidden, i + 3, multiple) for i, b in enumerate(dense.blocks)]
    return dense.with_widths(heads, hidden)


def spaced(low: int, high: int, count: int, multiple: int) -> tuple[int, ...]:
    """About `count` rising widths from low to high, multiples of `multiple` except for high itself."""
    steps = max(count - 1, 1)
    raw = [low + (high - low) * i / steps for i in range(count)]
    aligned = {max(multiple, round(w / multiple) * multiple) for w in raw}
    return tuple(sorted({w for w in aligned if w < high} | {high}))
