"""Numbers for people to read: milliseconds, points, millions, megabytes, and differences of two."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wdp_edge.runs.results import Limit

SPACE = "\u00a0"
NONE = "–"


def milliseconds(value: float) -> str:
    """Three significant digits, and never fewer than whole milliseconds."""
    return f"{significant(value)}{SPACE}ms"


def significant(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits and no exponent: 0.0123, 1.23, 12.3, 123, 1234."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def share(value: float | None, digits: int = 2) -> str:
    """A share in [0, 1] as per cent."""
    return NONE if value is None else f"{100 * value:.{digits}f}{SPACE}%"


def quantity(value: float, unit: str = "") -> str:
    """Thousands, millions and billions with k, M and G: 21.3 M, 22.8 MB."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{significant(value / factor)}{SPACE}{prefix}{unit}"
    return f"{value:.0f}{SPACE}{unit}" if unit else f"{value:.0f}"


def whole(value: int) -> str:
    """With commas between thousands."""
    return f"{value:,}"


def error(value: float) -> str:
    """Two digits and an exponent: 4.1e-6."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


def points(before: float | None, after: float | None) -> str:
    """Difference of two shares in percentage points."""
    if before is None or after is None:
        return NONE
    return f"{signed(100 * (after - before), '.2f')}{SPACE}points"


def change(before: float, after: float) -> str:
    """Relative difference in per cent."""
    return NONE if before == 0 else f"{signed(100 * (after / before - 1), '.1f')}{SPACE}%"


def signed(value: float, form: str) -> str:
    """`value` with its sign, a real minus, and no sign for what rounds to zero."""
    text = format(abs(value), form)
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def against(limit: Limit) -> str:
    """What was measured and what a [[budget]] allows, such as "3.90 ms of 4.10 ms"."""
    if limit.unit == "ms":
        return f"{milliseconds(limit.measured)} of {milliseconds(limit.limit)}"
    if limit.unit == "bytes":
        return f"{quantity(int(limit.measured), 'B')} of {quantity(int(limit.limit), 'B')}"
    return f"{limit.measured:.2f} of {limit.limit:.2f} {limit.unit}"


def duration(seconds: float) -> str:
    if round(seconds) < 60:
        return f"{significant(seconds, 2)}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}{SPACE}h {minutes}{SPACE}min"
    return f"{minutes}{SPACE}min {rest}{SPACE}s"


def moment(iso: str | None) -> str:
    """An ISO time to the second, as written in the run; what is not one is shown as it stands."""
    if not iso:
        return NONE
    try:
        return datetime.fromisoformat(iso).replace(microsecond=0).isoformat(sep=" ")
    except ValueError:
        return iso


def joined(values: list[int]) -> str:
    """Widths in a row; a run of equal ones is written once: 6, 5×4, 3."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return ", ".join(str(v) if n == 1 else f"{v}×{n}" for v, n in runs)
