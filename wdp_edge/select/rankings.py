"""Ways to choose widths: in which order units go and what each width loses, by curves, by learned scores, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import exp, log
from statistics import median

from wdp_edge.cost.table import LatencyTable
from wdp_edge.runs.stages import Learned
from wdp_edge.shrink.axes import NarrowHeads
from wdp_edge.shrink.saliency import Importance, Saliency

SCALE_LIMIT = 30.0
# A share of all or of nothing has no threshold.
_LEAST = 1e-6
# A layer's price is its loss over a twelfth of its units, or of its time, to both sides.
_PRICE_REACH = 12
# Per block what heads of fewer channels cost.
Narrow = Sequence[Sequence[NarrowHeads]]


@dataclass(frozen=True)
class Shares:
    """What each block keeps of its heads, hidden units and heads' channels, in (0, 1]. channels: () where all stay."""

    heads: tuple[float, ...]
    hidden: tuple[float, ...]
    channels: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """A way to choose: per block the order in which heads and hidden units go, and what each width loses.

    narrow: per block what heads of fewer channels lose, for models in principal axes; empty where none may be.
    shares: what each block keeps, in place of what the curves say; see `solve_shares`.
    """

    name: str
    heads: tuple[Importance, ...]
    hidden: tuple[Importance, ...]
    narrow: Narrow = ()
    shares: Shares | None = None


def saliency_ranking(saliency: Saliency) -> Ranking:
    return Ranking("compensation", saliency.heads, saliency.hidden)


def narrow_ranking(saliency: Saliency, narrow: Narrow) -> Ranking:
    """The saliency's curves, with the channels of heads to choose, too."""
    return Ranking("narrow heads", saliency.heads, saliency.hidden, narrow)


def learned_ranking(saliency: Saliency, learned: Learned, table: LatencyTable, narrow: Narrow = ()) -> Ranking:
    """Learned scores give the order of units; learned keep ratios set how much a layer's units are worth.

    Each layer's importance curve is scaled so that at its learned width one millisecond costs the same in every layer:
    under the budget it was learned for, the knapsack then returns the learned widths, and it carries them over to
    other budgets and exits. narrow: of a search that learned channels of heads, too.
    """
    heads = [_reordered(r, scores) for r, scores in zip(saliency.heads, learned.heads_scores, strict=True)]
    hidden = [_reordered(r, scores) for r, scores in zip(saliency.hidden, learned.hidden_scores, strict=True)]
    fewer = [
        tuple(replace(c, heads=_reordered(c.heads, scores)) for c in costs)
        for costs, scores in zip(narrow, learned.heads_scores, strict=False)
    ]
    curves = Ranking("learned", tuple(heads), tuple(hidden), tuple(fewer))
    return _scaled_ranking(curves, learned, table, 1.0)


def exact_ranking(saliency: Saliency, learned: Learned, table: LatencyTable, narrow: Narrow = ()) -> Ranking:
    """The widths exactly as learned, which are right together where curves look at each layer alone."""
    shares = Shares(tuple(learned.keep_heads), tuple(learned.keep_hidden), tuple(learned.keep_channels))
    return replace(learned_ranking(saliency, learned, table, narrow), name="exactly as learned", shares=shares)


def blended_ranking(saliency: Saliency, learned: Learned, table: LatencyTable, narrow: Narrow = ()) -> Ranking:
    """The saliency's order of units; layers valued halfway (geometrically) between saliency and learned ratios."""
    return _scaled_ranking(Ranking("blend", saliency.heads, saliency.hidden, narrow), learned, table, 0.5)


def tilted_ranking(ranking: Ranking, tilt: float) -> Ranking:
    """The ranking with losses of early blocks counted for less: they rise by e^tilt from the first block to the last.

    An importance curve knows one layer alone; when all are cut, later blocks are refitted to make up for earlier ones.
    """
    last = max(1, len(ranking.heads) - 1)
    scales = [exp(tilt * (i / last - 0.5)) for i in range(len(ranking.heads))]
    own = ranking.shares
    shares = own and Shares(*(_tilted(kind, scales) for kind in (own.heads, own.hidden, own.channels)))
    return replace(_valued(ranking, scales, scales), name=f"{ranking.name}, tilt {tilt:g}", shares=shares)


def _tilted(shares: Sequence[float], scales: Sequence[float]) -> tuple[float, ...]:
    """Thresholds are logarithms of odds, so these are multiplied by the scale of the block."""
    return tuple(moved(share, log(scale)) for share, scale in zip(shares, scales, strict=False))


def moved(share: float, shift: float) -> float:
    """The share whose threshold is higher by `shift`."""
    share = min(1 - _LEAST, max(_LEAST, share))
    odds = share / (1 - share) * exp(shift)
    return odds / (1 + odds)


def _scaled_ranking(curves: Ranking, learned: Learned, table: LatencyTable, strength: float) -> Ranking:
    last, narrow = len(curves.heads) - 1, bool(curves.narrow and learned.keep_channels)
    prices = [
        *(
            _narrow_price(curves, i, learned, table)
            if narrow and r.order
            else _price(r, k, partial(table.attention_ms, block=i, last=i == last))
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
    return _valued(curves, scales[:depth], scales[depth:])


def _valued(curves: Ranking, attentions: Sequence[float], mlps: Sequence[float]) -> Ranking:
    """With the losses of each block's attention and MLP times these."""
    return replace(
        curves,
        heads=tuple(_scaled(r, s) for r, s in zip(curves.heads, attentions, strict=True)),
        hidden=tuple(_scaled(r, s) for r, s in zip(curves.hidden, mlps, strict=True)),
        narrow=tuple(
            tuple(NarrowHeads(c.head_dim, c.cost * s, _scaled(c.heads, s)) for c in costs)
            for costs, s in zip(curves.narrow, attentions, strict=False)
        ),
    )


def _reordered(importance: Importance, scores: Sequence[float]) -> Importance:
    place = {unit: i for i, unit in enumerate(importance.order)}
    order = sorted(range(len(scores)), key=lambda i: (scores[i], place[i]))
    return Importance(tuple(order), importance.cost)


def _price(importance: Importance, keep: float, milliseconds: Callable[[float], float]) -> float:
    """Loss per millisecond at the learned width: the importance curve's slope over the table's."""
    units = len(importance.order)
    reach = max(1, units // _PRICE_REACH)
    low = max(1, min(units - 1, round(keep * units) - reach))
    high = min(units, max(low + 1, round(keep * units) + reach))
    saved = milliseconds(float(high)) - milliseconds(float(low))
    return max(importance.lost(low) - importance.lost(high), 1e-12) / max(saved, 1e-9)


def _narrow_price(curves: Ranking, number: int, learned: Learned, table: LatencyTable) -> float:
    """Loss per millisecond of a block's attention at the learned heads and channels: what a little less time loses at
    least, over a little more."""
    wide, narrow, dim = curves.heads[number], curves.narrow[number], table.key.head_dim
    takes = partial(table.attention_ms, block=number, last=number == len(curves.heads) - 1)
    kinds = [(dim, wide.lost), *((c.head_dim, c.lost) for c in narrow)]
    options = [(takes(w, d), lost(w)) for d, lost in kinds for w in range(1, len(wide.order) + 1)]
    fastest = min(options)
    whole = takes(len(wide.order))
    learned_ms = takes(learned.keep_heads[number] * len(wide.order), learned.keep_channels[number] * dim)
    reach = whole / _PRICE_REACH
    low = min(max(learned_ms, fastest[0] + reach), whole - reach)

    def least(ms: float) -> float:
        return min((lost for taken, lost in options if taken <= ms), default=fastest[1])

    return max(least(low - reach) - least(low + reach), 1e-12) / max(2 * reach, 1e-9)


def _scaled(importance: Importance, scale: float) -> Importance:
    return Importance(importance.order, tuple(c * scale for c in importance.cost))
