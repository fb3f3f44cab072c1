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
# Per block what heads of fewer channels cost.
Narrow = Sequence[Sequence[NarrowHeads]]
Shares = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Ranking:
    """A way to choose: per block the order in which heads and hidden units go, and what each width loses.

    narrow: per block what heads of fewer channels lose, for models in principal axes; empty where none may be.
    shares: of heads and of hidden units that each block keeps, in place of what the curves say; see `solve_shares`.
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


def learned_ranking(saliency: Saliency, learned: Learned, table: LatencyTable) -> Ranking:
    """Learned scores give the order of units; learned keep ratios set how much a layer's units are worth.

    Each layer's importance curve is scaled so that at its learned width one millisecond costs the same in every layer:
    under the budget it was learned for, the knapsack then returns the learned widths, and it carries them over to
    other budgets and exits.
    """
    heads = [_reordered(r, scores) for r, scores in zip(saliency.heads, learned.heads_scores, strict=True)]
    hidden = [_reordered(r, scores) for r, scores in zip(saliency.hidden, learned.hidden_scores, strict=True)]
    return _scaled_ranking("learned", Saliency(tuple(heads), tuple(hidden)), learned, table, 1.0)


def exact_ranking(saliency: Saliency, learned: Learned, table: LatencyTable) -> Ranking:
    """The widths exactly as learned, which are right together where curves look at each layer alone."""
    shares = tuple(learned.keep_heads), tuple(learned.keep_hidden)
    return replace(learned_ranking(saliency, learned, table), name="exactly as learned", shares=shares)


def blended_ranking(saliency: Saliency, learned: Learned, table: LatencyTable) -> Ranking:
    """The saliency's order of units; layers valued halfway (geometrically) between saliency and learned ratios."""
    return _scaled_ranking("blend", saliency, learned, table, 0.5)


def tilted_ranking(ranking: Ranking, tilt: float) -> Ranking:
    """The ranking with losses of early blocks counted for less: they rise by e^tilt from the first block to the last.

    An importance curve knows one layer alone; when all are cut, later blocks are refitted to make up for earlier ones.
    """
    last = max(1, len(ranking.heads) - 1)
    scales = [exp(tilt * (i / last - 0.5)) for i in range(len(ranking.heads))]
    shares = ranking.shares and (_tilted(ranking.shares[0], scales), _tilted(ranking.shares[1], scales))
    return Ranking(
        f"{ranking.name}, tilt {tilt:g}",
        tuple(_scaled(r, s) for r, s in zip(ranking.heads, scales, strict=True)),
        tuple(_scaled(r, s) for r, s in zip(ranking.hidden, scales, strict=True)),
        tuple(
            tuple(NarrowHeads(c.head_dim, c.cost * s, _scaled(c.heads, s)) for c in costs)
            for costs, s in zip(ranking.narrow, scales, strict=False)
        ),
        shares,
    )


def _tilted(shares: Sequence[float], scales: Sequence[float]) -> tuple[float, ...]:
    """Thresholds are logarithms of odds, so these are multiplied by the scale of the block."""
    return tuple(moved(share, log(scale)) for share, scale in zip(shares, scales, strict=True))


def moved(share: float, shift: float) -> float:
    """The share whose threshold is higher by `shift`."""
    share = min(1 - _LEAST, max(_LEAST, share))
    odds = share / (1 - share) * exp(shift)
    return odds / (1 + odds)


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
