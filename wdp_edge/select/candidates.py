"""Candidate structures for a budget: which units each keeps, from saliency, learned scores, or evenly.

The widths of all sub-layers are chosen at once: a multiple-choice knapsack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from wdp_edge.cost.table import LatencyTable
from wdp_edge.io.native_output import silent_stdout
from wdp_edge.models.structure import Structure, channels_kept
from wdp_edge.models.surgery import Kept
from wdp_edge.select.rankings import Ranking, moved
from wdp_edge.shrink.saliency import Importance

MAX_OPTIONS = 96
# How far the loss may be from the least one, as a share of it. The rest takes ten times as long, more than the limit
# where other work runs, and then what is found depends on the machine's load.
GAP = 1e-3
_SECONDS = 120.0
# Thresholds are moved by that much at most, in so many halvings.
_FAR, _HALVINGS = 20.0, 40


@dataclass(frozen=True)
class Allowed:
    """Widths that may be chosen. multiple: of hidden units; drop: no heads or no hidden units at all, too."""

    multiple: int
    drop: bool = False

    def heads(self, units: int) -> list[int]:
        """Ascending; a sub-layer that is gone stays so."""
        return list(range(0 if self.drop or not units else 1, units + 1))

    def hidden(self, units: int) -> list[int]:
        """Ascending; a sub-layer that is gone stays so."""
        options = width_options(units, self.multiple)
        return [0, *options] if self.drop and units else options


def width_options(units: int, multiple: int) -> list[int]:
    """Widths worth choosing from, ascending: multiples of the target's alignment, and the full width."""
    step = multiple
    while units / step > MAX_OPTIONS:
        step += multiple
    return sorted({*range(step, units + 1, step), units})


def solve(
    ranking: Ranking,
    dense: Structure,
    depth: int,
    table: LatencyTable,
    limit_ms: float,
    allowed: Allowed,
    like: Structure | None = None,
) -> Kept | None:
    """The best units to keep with the exit after `depth` blocks; None when nothing fits.

    like: a structure of this depth whose heads, their channels and dropped sub-layers stay as they are there.
    The knapsack adds up parts: `around` makes their sum fit exactly when the whole model does. It takes the block
    before the exit for the one with the last attention; where that is dropped, the model is faster than its sum.
    """
    near, choices, attentions = table.around(limit_ms), [], []
    for number, (block, hidden) in enumerate(zip(dense.blocks[:depth], ranking.hidden, strict=False)):
        options = [(w, *kind) for kind in _kinds(ranking, dense, number) for w in allowed.heads(block.heads)]
        widths = allowed.hidden(block.hidden)
        if like is not None:
            own = like.blocks[number]
            options = [o for o in options if o[0] == own.heads and (own.heads == 0 or o[1] == own.head_dim)]
            widths = [w for w in widths if (w > 0) == (own.hidden > 0)]
        attentions.append(options)
        last = number == depth - 1
        parts = enumerate((near.attention_ms(w, head_dim, number, last), lost(w)) for w, head_dim, lost, _ in options)
        choices.append([Option(place, ms, loss) for place, (ms, loss) in parts])
        choices.append([Option(w, near.mlp_ms(w, number, last), hidden.lost(w)) for w in widths])
    if not all(choices):
        return None
    chosen = choose(choices, limit_ms - near.fixed_ms)
    if chosen is None:
        return None
    picked = [options[place] for options, place in zip(attentions, chosen[0::2], strict=True)]
    return Kept(
        tuple(importance.keep(w) for w, _, _, importance in picked),
        tuple(r.keep(w) for r, w in zip(ranking.hidden, chosen[1::2], strict=False)),
        tuple(tuple(range(head_dim if w else 0)) for w, head_dim, _, _ in picked) if ranking.narrow else None,
    )


def _kinds(ranking: Ranking, dense: Structure, number: int) -> list[tuple[int, Callable[[int], float], Importance]]:
    """Channels that a block's heads may have, what a count of such heads loses, and the order in which they go."""
    wide = ranking.heads[number]
    narrow = ranking.narrow[number] if ranking.narrow else ()
    return [(dense.blocks[number].head_dim, wide.lost, wide), *((c.head_dim, c.lost, c.heads) for c in narrow)]


def narrower(units: int, wanted: float, multiple: int) -> int:
    """The widest option of at most `wanted` units, or the narrowest one there is."""
    options = width_options(units, multiple)
    return max([w for w in options if w <= wanted], default=options[0])


def wider(units: int, wanted: float, multiple: int) -> int:
    """The narrowest option of at least `wanted` units, as masks round while they are learned."""
    return min(w for w in width_options(units, multiple) if w >= min(wanted - 1e-9, units))


def solve_uniform(
    ranking: Ranking, dense: Structure, depth: int, table: LatencyTable, limit_ms: float, allowed: Allowed
) -> Kept | None:
    """The same share of heads and hidden units in every block, the largest that fits; no sub-layer is dropped."""
    best = None
    for percent in range(1, 101):
        heads = [max(1, round(percent * b.heads / 100)) for b in dense.blocks[:depth]]
        hidden = [narrower(b.hidden, percent * b.hidden / 100, allowed.multiple) for b in dense.blocks[:depth]]
        if table.predict(dense.with_widths(heads, hidden)) <= limit_ms:
            best = keep_best(ranking, heads, hidden)
    return best


def solve_shares(
    ranking: Ranking,
    dense: Structure,
    depth: int,
    table: LatencyTable,
    limit_ms: float,
    allowed: Allowed,
    like: Structure | None = None,
) -> Kept | None:
    """The ranking's shares in every block, all thresholds moved by the same amount to where the model just fits; None
    where it does not fit with the narrowest sub-layers.

    A share is the sigmoid of a threshold. like: as in `solve`.
    """
    shares = ranking.shares
    assert shares is not None
    blocks, narrow = dense.blocks[:depth], [[c.head_dim for c in costs] for costs in ranking.narrow]

    def as_learned(shift: float) -> tuple[list[int], list[int], list[int] | None]:
        heads, hidden, dims = (
            [moved(share, shift) for share in kind] for kind in (shares.heads, shares.hidden, shares.channels)
        )
        return (
            [wider(b.heads, k * b.heads, 1) for k, b in zip(heads, blocks, strict=False)],
            [wider(b.hidden, k * b.hidden, allowed.multiple) for k, b in zip(hidden, blocks, strict=False)],
            [channels_kept(k, b.head_dim, n) for k, b, n in zip(dims, blocks, narrow, strict=False)] if dims else None,
        )

    def widths(shift: float) -> tuple[list[int], list[int], list[int] | None]:
        heads, hidden, channels = as_learned(shift)
        if like is None:
            return heads, hidden, channels
        return [b.heads for b in like.blocks], hidden, channels and [b.head_dim for b in like.blocks]

    def fits(shift: float) -> bool:
        return table.predict(dense.with_widths(*widths(shift))) <= limit_ms

    low, high = -_FAR, _FAR
    if not fits(low):
        return None
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return keep_best(ranking, *widths(low))


def keep_best(
    ranking: Ranking, heads: Sequence[int], hidden: Sequence[int], channels: Sequence[int] | None = None
) -> Kept:
    """The last units to go, per block. channels: of each block's heads, for models in principal axes."""
    return Kept(
        tuple(r.keep(w) for r, w in zip(ranking.heads, heads, strict=False)),
        tuple(r.keep(w) for r, w in zip(ranking.hidden, hidden, strict=False)),
        None if channels is None else tuple(tuple(range(width)) for width in channels),
    )


def smallest(dense: Structure, depth: int, allowed: Allowed) -> Structure:
    """What selection can shrink to at most: the narrowest sub-layers in every block up to the exit."""
    blocks = dense.blocks[:depth]
    return dense.with_widths([allowed.heads(b.heads)[0] for b in blocks], [allowed.hidden(b.hidden)[0] for b in blocks])


@dataclass(frozen=True)
class Option:
    """One width a sub-layer may get: what it takes (ms) and what it loses (any unit, the same for all).

    width: or the place in a list, where one number does not say all.
    """

    width: int
    milliseconds: float
    loss: float


def choose(choices: Sequence[Sequence[Option]], limit_ms: float) -> list[int] | None:
    """One option's width per sub-layer with the least total loss within `limit_ms`, or one within GAP of it; None when
    nothing fits.

    Solved by branch and bound (HiGHS through scipy.optimize.milp).
    """
    choices = [frontier(options) for options in choices]
    if sum(min(o.milliseconds for o in options) for options in choices) > limit_ms:
        return None
    owner = np.repeat(np.arange(len(choices)), [len(options) for options in choices])
    flat = [option for options in choices for option in options]
    loss = np.array([option.loss for option in flat])
    time = np.array([option.milliseconds for option in flat])
    columns = np.arange(len(flat))
    one_each = csr_array((np.ones(len(flat)), (owner, columns)), shape=(len(choices), len(flat)))
    with silent_stdout():  # some builds of the solver print every solution that they polish
        solution = milp(
            # Scaled to one: HiGHS compares with absolute tolerances.
            loss / max(float(np.abs(loss).max()), 1e-30),
            integrality=np.ones(len(flat)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                LinearConstraint(csr_array(time[None, :] / limit_ms), -np.inf, 1.0),
            ],
            options={"mip_rel_gap": GAP, "time_limit": _SECONDS},
        )
    if solution.x is None:
        return None
    taken = np.flatnonzero(solution.x > 0.5)
    return [flat[i].width for i in taken]


def frontier(options: Sequence[Option]) -> list[Option]:
    """Those options that no other beats in both time and loss, from the fastest to the best."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.milliseconds, o.loss)):
        if not kept or option.loss < kept[-1].loss:
            kept.append(option)
    return kept
