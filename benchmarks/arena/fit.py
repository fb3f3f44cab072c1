"""Bringing any method to a latency: its one knob is turned until the exported file takes the wanted share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from wdp_edge import progress

FLOOR, AIM = 0.95, 0.985
TRIALS = 7
T = TypeVar("T")


class OutOfReach(Exception):
    """No trial was fast enough."""


def fit(make: Callable[[float], T], share_of: Callable[[T], float], share: float) -> tuple[T, float]:
    """The largest of at most `TRIALS` models that takes at most `share` of the dense latency, and what it takes.

    make: from a keep ratio in (0, 1], 1 being the dense model. share_of: a model's latency over the dense one's. Ends
    early inside [FLOOR, 1] of the share. Latency rises with the keep ratio, so the bracket is narrowed by straight
    lines between what was measured. Raises OutOfReach when every trial is too slow.
    """
    low, high = (0.0, 0.0), (1.0, 1.0)
    best: tuple[T, float] | None = None
    keep, sides = share, list[bool]()
    for _ in range(TRIALS):
        model = make(keep)
        seen = share_of(model)
        progress.say(f"keep ratio {keep:.3f}: {seen:.1%} of the dense latency, wanted {share:.1%}")
        if seen <= share and (best is None or seen > best[1]):
            best = model, seen
        if FLOOR * share <= seen <= share:
            break
        sides.append(seen > share)
        if seen > share:
            high = (keep, seen)
        else:
            low = (keep, seen)
        # Two trials on one side: a curve, or a knob that jumps. Halving narrows the bracket for certain.
        if sides[-2:] in ([True, True], [False, False]):
            keep = (low[0] + high[0]) / 2
        else:
            keep = low[0] + (high[0] - low[0]) * (AIM * share - low[1]) / max(high[1] - low[1], 1e-9)
    if best is None:
        raise OutOfReach(f"no trial came under {share:.0%} of the dense latency")
    return best
