"""Candidate structures for a budget: which units each keeps, from saliency, learned scores, or evenly.

The widths of all sub-layers are chosen at once: a multiple-choice knapsack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp
from statistics import median

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from wdp_edge.cost.table import LatencyTable
from wdp_edge.io.native_output import silent_stdout
from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import Kept
from wdp_edge.runs.stages import Learned
from wdp_edge.shrink.axes import NarrowHeads
from wdp_edge.shrink.saliency import Importance, Saliency

MAX_OPTIONS = 96
SCALE_LIMIT = 30.0


# Per block what heads of fewer channels cost.
Narrow = Sequence[Sequence[NarrowHeads]]
# How far the loss may be from the least one, as a share of it. The rest takes ten times as long, more than the limit
# where other work runs, and then what is found depends on the machine's load.
GAP = 1e-3
_SECONDS = 120.0


@dataclass(frozen=True)
class Ranking:
    """A way to choose: per block the order in which heads and hidden units go, and what each width loses.

    narrow: per block what heads of fewer channels lose, for models in principal axes; empty where none may be.
    """

    name: str
    heads: tuple[Importance, ...]
    hidden: tuple[Importance, ...]
    narrow: Narrow = ()


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


def saliency_ranking(saliency: Saliency) -> Ranking:
    return Ranking("compensation", saliency.heads, saliency.hidden)


def narrow_ranking(saliency: Saliency, narrow: Narrow) -> Ranking:
    """The saliency's curves, with the channels of heads to choose, too."""
    return Ranking("narrow heads", saliency.heads, saliency.hidden, narrow)


def learned_ranking(saliency: Saliency, learned: Learned, table: LatencyTable) -> Ranking:
    """Learned scores give the order of units; learned keep ratios set how much a layer's units are worth.

    Each layer's importance curve is scaled so that at its learned width one millisecond costs the same in every layer:
    under the budget it was learned for, the knapsack then returns the learned widths, and it carries them over to
    other budgets and exits.
    """
    heads = [_reordered(r, scores) for r, scores in zip(saliency.heads, learned.heads_scores, strict=True)]
    hidden = [_reordered(r, scores) for r, scores in zip(saliency.hidden, learned.hidden_scores, strict=True)]
    return _scaled_ranking("learned", Saliency(tuple(heads), tuple(hidden)), learned, table, 1.0)


def blended_ranking(saliency: Saliency, learned: Learned, table: LatencyTable) -> Ranking:
    """The saliency's order of units; layers valued halfway (geometrically) between saliency and learned ratios."""
    return _scaled_ranking("blend", saliency, learned, table, 0.5)


def tilted_ranking(ranking: Ranking, tilt: float) -> Ranking:
    """The ranking with losses of early blocks counted for less: they rise by e^tilt from the first block to the last.

    An importance curve knows one layer alone; when all are cut, later blocks are refitted to make up for earlier ones.
    """
    last = max(1, len(ranking.heads) - 1)
    scales = [exp(tilt * (i / last - 0.5)) for i in range(len(ranking.heads))]
    return Ranking(
        f"{ranking.name}, tilt {tilt:g}",
        tuple(_scaled(r, s) for r, s in zip(ranking.heads, scales, strict=True)),
        tuple(_scaled(r, s) for r, s in zip(ranking.hidden, scales, strict=True)),
        tuple(
            tuple(NarrowHeads(c.head_dim, c.cost * s, _scaled(c.heads, s)) for c in costs)
            for costs, s in zip(ranking.narrow, scales, strict=False)
        ),
    )


def _scaled_ranking(name: str, curves: Saliency, learned: Learned, table: LatencyTable, strength: float) -> Ranking:
    last = len(curves.heads) - 1
    prices = [
        *(
            _price(r, k, partial(table.attention_ms, block=i, last=i == last))
            for i, (r, k) in enumerate(zip(curves.heads, learned.keep_heads, strict=True))
        ),
        *(
            _price(r, k, partial(table.mlp_ms, block=i, last=i == last))
            for i, (r, k) in enumerate(zip(curves.hidden, learned.keep_hidden, strict=True))
        ),
    ]
    middle = median(prices)
    scales = [min(SCALE_LIMIT, max(1 / SCALE_LIMIT, middle / price)) ** strength for price in prices]
    depth = len(curves.heads)
    return Ranking(
        name,
        tuple(_scaled(r, s) for r, s in zip(curves.heads, scales[:depth], strict=True)),
        tuple(_scaled(r, s) for r, s in zip(curves.hidden, scales[depth:], strict=True)),
    )


def _reordered(importance: Importance, scores: Sequence[float]) -> Importance:
    place = {unit: i for i, unit in enumerate(importance.order)}
    order = sorted(range(len(scores)), key=lambda i: (scores[i], place[i]))
    return Importance(tuple(order), importance.cost)


def _price(importance: Importance, keep: float, milliseconds: Callable[[float], float]) -> float:
    """Loss per millisecond at the learned width: the importance curve's slope over the table's."""
    units = len(importance.order)
    reach = max(1, units // 12)
    low = max(1, min(units - 1, round(keep * units) - reach))
    high = min(units, max(low + 1, round(keep * units) + reach))
    saved = milliseconds(float(high)) - milliseconds(float(low))
    return max(importance.lost(low) - importance.lost(high), 1e-12) / max(saved, 1e-9)


def _scaled(importance: Importance, scale: float) -> Importance:
    return Importance(importance.order, tuple(c * scale for c in importance.cost))


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


def keep_best(ranking: Ranking, heads: Sequence[int], hidden: Sequence[int]) -> Kept:
    """The last units to go, per block."""
    return Kept(
        tuple(r.keep(w) for r, w in zip(ranking.heads, heads, strict=False)),
        tuple(r.keep(w) for r, w in zip(ranking.hidden, hidden, strict=False)),
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
