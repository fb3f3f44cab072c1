"""On which line of a TOML file a key stands; tomllib says only what it holds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str, ...]


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of the statement that first names each table and key, also those inside inline tables.

    The tables of an array [[name]] are called ("name", "1"), ("name", "2") and so on.
    text: sound TOML; anything else may give an incomplete map.
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    items: dict[KeyPath, int] = {}
    for line, statement in _statements(text):
        data = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = max(_paths(data), default=(), key=len)
            if statement.lstrip().startswith("[["):
                items[table] = items.get(table, 0) + 1
                table = (*table, str(items[table]))
            found = [table[:depth] for depth in range(1, len(table) + 1)]
        else:
            found = [table + path for path in _paths(data)]
        for path in found:
            lines.setdefault(path, line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each header or assignment with its first line; a value that spans lines is one statement."""
    start, pending = 0, ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not pending:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        pending += line + "\n"
        try:
            tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        yield start, pending
        pending = ""


def _paths(data: Any) -> Iterator[KeyPath]:
    """Every key path in nested tables; items of arrays have none."""
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        yield (key,)
        yield from ((key, *rest) for rest in _paths(value))
