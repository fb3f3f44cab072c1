"""Seeded mutations of bytes, texts and JSON. Pure functions of their input and a generator."""

from __future__ import annotations

import copy
import json
import random
import struct
from typing import Any

LIES: tuple[Any, ...] = (
    None, True, -1, 0, 10**6, 2**31, 2**63, -(2**63), 10**40, 1e308, float("nan"), float("inf"), "", "x", "0", "-1",
    "../../outside", "/etc/passwd", "a\x00b", "line\nbreak", "\x1b[31mred\x1b[0m", "<script>alert(1)</script>",
    "\ud800", "é" * 300, [], {}, [[]], [1, "a"], {"a": {"b": []}}, [[[[[[[[]]]]]]]],
)  # fmt: skip
_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1, 2**40)


def mutate_bytes(data: bytes, rng: random.Random, head: int = 0) -> tuple[bytes, str]:
    """head: how many bytes at the front are hit in three of four mutations; 0 for none in particular."""
    end = min(head, len(data)) if head and rng.random() < 0.75 else len(data)
    at = rng.randrange(max(1, end))
    many = rng.choice((1, 2, 8, 64, 512))
    how = rng.choice(("flip", "cut", "drop", "insert", "zero", "noise", "lie", "repeat", "swap"))
    rest = data[at + many :]
    if how == "flip":
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 20))):
            changed[rng.randrange(max(1, end)) % len(data)] ^= 1 << rng.randrange(8)
        return bytes(changed), "flipped bits"
    if how == "cut":
        return data[: rng.choice((0, at, len(data) - many))], "cut short"
    if how == "drop":
        return data[:at] + rest, f"dropped {many} bytes at {at}"
    if how == "insert":
        return data[:at] + rng.randbytes(many) + data[at:], f"inserted {many} bytes at {at}"
    if how == "zero":
        return data[:at] + bytes(many) + rest, f"zeroed {many} bytes at {at}"
    if how == "noise":
        return data[:at] + rng.randbytes(many) + rest, f"noise in {many} bytes at {at}"
    if how == "lie":
        form = rng.choice(("<B", "<H", "<I", "<Q"))
        number = rng.choice(_NUMBERS) % (1 << 8 * struct.calcsize(form))
        return data[:at] + struct.pack(form, number) + data[at + struct.calcsize(form) :], f"{number} at {at}"
    if how == "repeat":
        return data[:at] + data[at : at + many] + data[at:], f"repeated {many} bytes at {at}"
    other = rng.randrange(len(data))
    low, high = sorted((at, other))
    return data[high:] + data[low:high] + data[:low], f"exchanged parts at {low} and {high}"


def mutate_json(text: str, rng: random.Random) -> tuple[bytes, str]:
    """Three of four keep the syntax and change one place; the others change bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(text.encode(), rng)
    data = copy.deepcopy(json.loads(text))
    places = list(places_of(data))
    container, key = rng.choice(places)
    how = rng.choice(("lie", "lie", "lie", "drop", "add", "double"))
    where = f"at {key!r}"
    if how == "drop":
        del container[key]
    elif how == "add" and isinstance(container, dict):
        container[rng.choice(("__class__", "extra", "../x", ""))] = rng.choice(LIES)
    elif how == "double" and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    else:
        how, container[key] = "lie", (lie := rng.choice(LIES))
        where += f": {lie!r}"[:60]
    return json.dumps(data).encode(), f"{how} {where}"


def places_of(data: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) below."""
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    found = [(data, key) for key in keys]
    for key in keys:
        found += places_of(data[key])
    return found


def mutate_lines(text: str, rng: random.Random, lies: tuple[str, ...], sign: str) -> tuple[bytes, str]:
    """One line of a text: its value after `sign` becomes a lie, or the line goes, comes twice, or breaks."""
    if rng.random() < 0.25:
        return mutate_bytes(text.encode(), rng)
    lines = text.splitlines()
    at = rng.choice([i for i, line in enumerate(lines) if line.strip()])
    how = rng.choice(("lie", "lie", "lie", "drop", "double", "key", "break"))
    before, found, value = lines[at].partition(sign)
    if how == "drop":
        del lines[at]
    elif how == "double":
        lines.insert(at, lines[at])
    elif how == "key" and found:
        lines[at] = f"{before.strip()}x {sign} {value}"
    elif how == "lie" and found:
        lines[at] = f"{before}{sign} {rng.choice(lies)}"
    else:
        cut = rng.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:cut] + rng.choice(('"', "[", "\x00", "\x1b[2J", "]]", "\n")) + lines[at][cut:]
    return "\n".join(lines).encode() + b"\n", f"{how} in line {at + 1}"
