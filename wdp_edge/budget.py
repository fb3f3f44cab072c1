"""A latency budget: milliseconds, or a share of the dense model's measured latency."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from wdp_edge.errors import InputError

_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|us|µs|%)\s*", re.IGNORECASE)
_MILLISECONDS = {"ms": 1.0, "s": 1000.0, "us": 0.001, "µs": 0.001}


@dataclass(frozen=True)
class LatencyBudget:
    """Exactly one of the two is set. milliseconds: > 0. share: of the dense latency, in (0, 1]."""

    milliseconds: float | None = None
    share: float | None = None

    def resolve(self, dense_ms: float) -> float:
        """The budget in milliseconds, given the dense model's latency from the same timing run."""
        return self.milliseconds if self.milliseconds is not None else (self.share or 0.0) * dense_ms


def parse_budget(text: str) -> LatencyBudget:
    """Parses "20ms", "0.02s" or "50%".

    Raises InputError for anything else, for zero, and for more than 100%.
    """
    match = _FORM.fullmatch(text)
    value = float(match[1]) if match else math.nan
    if match and value > 0:
        unit = match[2].lower()
        if unit in _MILLISECONDS:
            return LatencyBudget(milliseconds=value * _MILLISECONDS[unit])
        if value <= 100:
            return LatencyBudget(share=value / 100)
    raise InputError(
        f"'{text}' is not a latency budget.", "Write milliseconds (20ms) or a share of the dense model (50%)."
    )
