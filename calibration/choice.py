"""The fastest precision inside an allowed drop of accuracy, found with few exports.

Pure logic: what is exported and measured is the caller's function. Every candidate has an expected latency. They are
tried from the fastest on, until one is inside the allowed drop and no other is expected to be faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wdp_edge.target import Precision

KEPT_LAYERS = (0, 2, 4, 8)


@dataclass(frozen=True)
class Family:
    """A precision whose candidates keep more and more of the most sensitive layers in float.

    speed: expected latency relative to fp32, such as 0.55. ranking: names of layers, most sensitive first; empty for
    precisions that quantize nothing. smoothing: alpha of `smooth`, or None for none.
    """

    precision: Precision
    speed: float
    ranking: tuple[str, ...] = ()
    smoothing: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One way to export. expected: latency relative to fp32; only its order and ratios matter."""

    precision: Precision
    expected: float
    kept: tuple[str, ...] = ()
    smoothing: float | None = None


@dataclass(frozen=True)
class Tried:
    """A candidate that was exported and measured.

    accuracy: share of right answers, 0 to 1. drop: points of accuracy lost against fp32 (0.5 is half a point).
    latency_ms: of one image. allowed: whether the drop is inside the allowed one; `choose` sets it.
    """

    candidate: Candidate
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
    skipped: tuple[Candidate, ...]


def candidates(
    families: Iterable[Family], shares: Mapping[str, float], kept_layers: Sequence[int] = KEPT_LAYERS
) -> tuple[Candidate, ...]:
    """Every family with 0, 2, 4 … layers kept, and fp32; the fastest by expectation first.

    shares: of each layer in the model's multiply-accumulates; a layer in float gives up what its share gained.
    """
    found = {Candidate(Precision.FP32, 1.0): None}
    for family in families:
        for count in sorted({min(count, len(family.ranking)) for count in kept_layers}):
            kept = family.ranking[:count]
            slower = (1 - family.speed) * sum(shares.get(name, 0.0) for name in kept)
            found[Candidate(family.precision, family.speed + slower, kept, family.smoothing)] = None
    return tuple(sorted(found, key=lambda c: c.expected))


def best(tried: Iterable[Tried], allowed_drop: float) -> Tried | None:
    """The fastest inside the allowed drop (points of accuracy), or None."""
    return min((t for t in tried if t.drop <= allowed_drop), key=lambda t: t.latency_ms, default=None)


def choose(
    offered: Sequence[Candidate],
    measure: Callable[[Candidate], Tried],
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
    if all(c.precision is not Precision.FP32 for c in waiting):
        raise ValueError("fp32 must be among the candidates")
    tried: list[Tried] = []
    while wanted := next_candidate(waiting, tried, allowed_drop, margin):
        waiting.remove(wanted)
        got = measure(wanted)
        tried.append(replace(got, allowed=got.drop <= allowed_drop))
    fallback = next((t for t in tried if t.candidate.precision is Precision.FP32), tried[-1])
    return Choice(best(tried, allowed_drop) or fallback, tuple(tried), tuple(waiting))


def next_candidate(
    waiting: Sequence[Candidate], tried: Sequence[Tried], allowed_drop: float, margin: float
) -> Candidate | None:
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


def foreseen_ms(candidate: Candidate, tried: Sequence[Tried]) -> float:
    """Latency by expectation, scaled by what its family took, or else by the family that did best. tried: not empty."""
    family = [t for t in tried if _same_family(t.candidate, candidate)]
    return candidate.expected * min(t.latency_ms / t.candidate.expected for t in family or tried)


def _hopeless(candidate: Candidate, tried: Sequence[Tried]) -> bool:
    """Whether keeping layers of its family in float has been seen not to help."""
    before = sorted((t for t in tried if _keeps_more(candidate, t.candidate)), key=lambda t: len(t.candidate.kept))
    return len(before) > 1 and before[-1].drop >= before[0].drop


def _same_family(a: Candidate, b: Candidate) -> bool:
    return (a.precision, a.smoothing) == (b.precision, b.smoothing)


def _keeps_more(a: Candidate, b: Candidate) -> bool:
    return _same_family(a, b) and len(a.kept) > len(b.kept)
