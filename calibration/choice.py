"""The fastest precision inside an allowed drop of accuracy, found with few exports.

Pure logic: the caller's function exports and measures. Every candidate has an expected latency. They are
tried in that order, the fastest first, until one is inside the allowed drop and no other is expected to be faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wdp_edge.protocols.precision import Precision

KEPT_LAYERS = (0, 2, 4, 8)


@dataclass(frozen=True)
class PrecisionSeries:
    """A precision, and the order in which its layers go back to float.

    speed: expected latency relative to fp32, such as 0.55. ranking: names of layers, most sensitive first; empty for
    precisions that quantize nothing.
    """

    precision: Precision
    speed: float
    ranking: tuple[str, ...] = ()


@dataclass(frozen=True)
class MixedPrecision:
    """A precision, and the layers that stay in float.

    expected: latency relative to fp32; only its order and ratios matter. kept: names of the layers in float.
    """

    precision: Precision
    expected: float
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """A candidate that was exported and measured.

    accuracy: share of right answers, 0 to 1. drop: points of accuracy lost against fp32 (0.5 is half a point).
    latency_ms: of one image. allowed: whether the drop is inside the allowed one; `choose` sets it.
    """

    candidate: MixedPrecision
    accuracy: float
    drop: float
    latency_ms: float
    bytes: int
    allowed: bool = False


@dataclass(frozen=True)
class Choice:
    """best: the fastest that is allowed; fp32 when none is. tried: in the order of trying. skipped: never exported."""

    best: Tried
    tried: tuple[Tried, ...]
    skipped: tuple[MixedPrecision, ...]


def candidates(
    series: Iterable[PrecisionSeries], shares: Mapping[str, float], kept_layers: Sequence[int] = KEPT_LAYERS
) -> tuple[MixedPrecision, ...]:
    """Every precision with 0, 2, 4 … layers in float, and fp32; the one expected to be fastest first.

    shares: of each layer in the model's multiply-accumulates; a layer in float gives up what its share gained.
    """
    found = {MixedPrecision(Precision.FP32, 1.0): None}
    for one in series:
        for count in sorted({min(count, len(one.ranking)) for count in kept_layers}):
            kept = one.ranking[:count]
            slower = (1 - one.speed) * sum(shares.get(name, 0.0) for name in kept)
            found[MixedPrecision(one.precision, one.speed + slower, kept)] = None
    return tuple(sorted(found, key=lambda c: c.expected))


def best(tried: Iterable[Tried], allowed_drop: float) -> Tried | None:
    """The fastest inside the allowed drop (points of accuracy), or None."""
    return min((t for t in tried if t.drop <= allowed_drop), key=lambda t: t.latency_ms, default=None)


def choose(
    offered: Sequence[MixedPrecision],
    measure: Callable[[MixedPrecision], Tried],
    allowed_drop: float,
    margin: float = 0.1,
) -> Choice:
    """Measures candidates until the fastest inside the allowed drop is found; each at most once.

    offered: with an fp32 candidate, the reference for all drops. margin: share by which expectations may be wrong
    before a candidate is left out that might have been the fastest.
    Whatever is inside the drop is preferred to everything that is not: candidates that look hopeless are tried at
    the end rather than taking one outside. Raises ValueError when `offered` has no fp32.
    """
    waiting = sorted(dict.fromkeys(offered), key=lambda c: c.expected)
    if all(c.precision != Precision.FP32 for c in waiting):
        raise ValueError("fp32 must be among the candidates")
    tried: list[Tried] = []
    while wanted := next_candidate(waiting, tried, allowed_drop, margin):
        waiting.remove(wanted)
        got = measure(wanted)
        tried.append(replace(got, allowed=got.drop <= allowed_drop))
    fallback = next((t for t in tried if t.candidate.precision == Precision.FP32), tried[-1])
    return Choice(best(tried, allowed_drop) or fallback, tuple(tried), tuple(waiting))


def next_candidate(
    waiting: Sequence[MixedPrecision], tried: Sequence[Tried], allowed_drop: float, margin: float
) -> MixedPrecision | None:
    """What to measure next, or None when nothing that waits is expected to beat the best so far.

    waiting: the fastest by expectation first.
    """
    found = best(tried, allowed_drop)
    promising = [c for c in waiting if not _hopeless(c, tried)]
    if found is None:
        return next(iter(promising or waiting), None)
    limit = found.latency_ms
    faster = (c for c in promising if foreseen_ms(c, tried) * (1 - margin) < limit)
    return next((c for c in faster if not _keeps_more(c, found.candidate)), None)


def foreseen_ms(candidate: MixedPrecision, tried: Sequence[Tried]) -> float:
    """Expected latency, scaled by what the same precision took, or by the one that did best. tried: not empty."""
    same = [t for t in tried if t.candidate.precision == candidate.precision]
    return candidate.expected * min(t.latency_ms / t.candidate.expected for t in same or tried)


def _hopeless(candidate: MixedPrecision, tried: Sequence[Tried]) -> bool:
    """Whether keeping layers of its precision in float was seen not to help."""
    before = sorted((t for t in tried if _keeps_more(candidate, t.candidate)), key=lambda t: len(t.candidate.kept))
    return len(before) > 1 and before[-1].drop >= before[0].drop


def _keeps_more(a: MixedPrecision, b: MixedPrecision) -> bool:
    return a.precision == b.precision and len(a.kept) > len(b.kept)
