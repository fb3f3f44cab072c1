"""Whether two runs have left the same: names, weights, files and records, without what is the clock's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLOCKS = {"seconds", "started", "finished", "measured_at"}


def differences(calm: Path, other: Path) -> list[str]:
    """Names of what differs between two run folders that were made in the same place."""
    ours, theirs = names(calm), names(other)
    wrong = [f"{name} is {'missing' if name in ours else 'left over'}" for name in sorted(ours ^ theirs)]
    for name in sorted(ours & theirs):
        if essence(calm, name) != essence(other, name):
            wrong.append(f"{name} differs")
    return wrong


def names(run: Path) -> set[str]:
    """Of all files, relative to the run."""
    return {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}


def essence(run: Path, name: str) -> Any:
    """What must be the same in every run: a page's end, a record without its times, all bytes of the rest."""
    data = (run / name).read_bytes()
    if name.endswith(".html"):
        return data.rstrip().endswith(b"</html>")
    if name.endswith(".json"):
        return timeless(json.loads(data))
    return data


def timeless(value: Any) -> Any:
    """A record without what the clock decides."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in CLOCKS}
    return [timeless(v) for v in value] if isinstance(value, list) else value
