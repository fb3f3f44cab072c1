"""The folder inside a Core ML delegate: file contents one after the other, then their tree as JSON, written backwards.

ExecuTorch's own reader takes names from the file as they are; this one does not leave the folder it is given.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wdp_edge.targets.executorch.file import damaged

_FOLDER = 1
_TREE_BYTES = 1 << 20  # of the tree; ours takes two thousand
_DEPTH = 8


def unpack(delegate: bytes, folder: Path, path: Path) -> None:
    """Writes what the delegate's folder holds into `folder`, which exists.

    path: of the .pte, for messages. Raises InputError when the delegate is damaged.
    """
    try:
        nodes = tree(delegate)
        write(delegate, nodes, nodes[-1], folder, _DEPTH)
    except (ValueError, LookupError, TypeError) as error:
        raise damaged(path, f"its Core ML package cannot be unpacked ({error})") from error


def tree(delegate: bytes) -> Any:
    """The nodes of the tree; the last one is its root."""
    text = delegate[-_TREE_BYTES:][::-1].decode("latin-1")
    return json.JSONDecoder().raw_decode(text)[0]["nodes"]


def write(delegate: bytes, nodes: Any, node: Any, folder: Path, depth: int) -> None:
    """Writes the children of `node`. Raises ValueError for names that are paths, and for regions that are not there."""
    if depth == 0:
        raise ValueError("too many folders in folders")
    for name, number in node["children"].items():
        child = nodes[number]
        if not name or name.startswith(".") or set(name) & set("/\\\0"):
            raise ValueError(f"{name!r} is not a file name")
        if child["kind"] == _FOLDER:
            (folder / name).mkdir()
            write(delegate, nodes, child, folder / name, depth - 1)
            continue
        start, size = child["dataRegion"]["offset"], child["dataRegion"]["size"]
        if start < 0 or size < 0 or start + size > len(delegate):
            raise ValueError(f"{name} is cut short")
        (folder / name).write_bytes(delegate[start : start + size])
