"""Whether two runs have left the same: names, weights, files and records, without what is the clock's."""

from __future__ import annotations

import hashlib
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


EXPORTED = "artifacts/model-fp32.onnx"
"""What `wdp-edge export` adds to a finished run of the bench, with its facts beside it."""


def without_export(found: list[str], calm: Path, other: Path) -> list[str]:
    """`found` by `differences`, without what an export that ended well has to add to a run, and with what it has not.

    That is one file as its record in the manifest says, and its facts; all else in the manifest is as ever.
    """
    wanted = {f"{name} is left over" for name in (EXPORTED, f"{EXPORTED}.json")}
    before, after = (timeless(json.loads((run / "manifest.json").read_text())) for run in (calm, other))
    added = after.get("artifacts", {}).pop(EXPORTED, None)
    rest = [line for line in found if line not in wanted and line != "manifest.json differs"]
    if after != before:
        rest.append("manifest.json differs in more than the exported file")
    if not wanted <= set(found) or added is None:
        return [*rest, "the exported file is not there, or not in the manifest"]
    file = other / EXPORTED
    facts = json.loads((other / f"{EXPORTED}.json").read_text())
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if added != {"sha256": digest, "bytes": len(data)} or facts["sha256"] != digest:
        rest.append("the exported file is not what its record says")
    return rest


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
