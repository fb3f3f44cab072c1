"""What a limit of a [[budget]] allows and what was measured, as people read it."""

from __future__ import annotations

from wdp_edge.report.units import milliseconds, quantity
from wdp_edge.results import Limit


def words(limit: Limit) -> str:
    """Such as "3.9 ms of 4.1 ms"."""
    if limit.unit == "ms":
        return f"{milliseconds(limit.measured)} of {milliseconds(limit.limit)}"
    if limit.unit == "bytes":
        return f"{quantity(int(limit.measured), 'B')} of {quantity(int(limit.limit), 'B')}"
    return f"{limit.measured:.2f} of {limit.limit:.2f} {limit.unit}"
