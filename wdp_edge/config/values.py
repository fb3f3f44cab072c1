"""Values that a recipe holds as text: budgets in milliseconds, per cent or bytes, and lists of whole numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from wdp_edge.errors import InputError
from wdp_edge.protocols.device import Kind

_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|us|µs|%)\s*", re.IGNORECASE)
_MILLISECONDS = {"ms": 1.0, "s": 1000.0, "us": 0.001, "µs": 0.001}
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)\s*")
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_numbers(text: str, thing: str, example: str) -> tuple[int, ...]:
    """Parses "4,5"; "" is none. thing, example: for the message. Raises InputError for anything else."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise InputError(
            f"'{text}' is not a comma-separated list of {thing} numbers.", f"Write them like {example}."
        ) from error


def parse_cpus(text: str) -> tuple[int, ...]:
    """Cores; () is none in particular."""
    return parse_numbers(text, "core", "4,5")


def parse_blocks(text: str) -> tuple[int, ...]:
    """Blocks that a head reads; () is the last one."""
    return parse_numbers(text, "block", "9,10,11,12")


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


def parse_budgets(text: str) -> tuple[LatencyBudget, ...]:
    """Parses one budget, or several: "30%,50%,70%".

    Raises InputError as `parse_budget` does, and for one that is there twice.
    """
    budgets = tuple(parse_budget(part) for part in split_list(text))
    if len(set(budgets)) < len(budgets):
        raise InputError(f"'{text}' names a latency budget twice.", "Write each one once, such as 30%,50%,70%.")
    return budgets


def split_list(text: str) -> list[str]:
    """The text of each value in a list of them: "30%,50%", "onnx,tflite"."""
    return [part.strip() for part in text.split(",")]


def parse_bytes(text: str) -> int:
    """Parses "6MB" (6,000,000 bytes) or "6MiB" (6 · 2^20 bytes).

    Raises InputError for anything else, and for zero.
    """
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * _BYTES[match[2]]) if match else 0
    if size <= 0:
        raise InputError(f"'{text}' is not a size.", "Write it like 6MB or 512KiB.")
    return size


def check_accepted(device: str, kind: Kind, accepted: str) -> None:
    """Raises InputError when a device's times are not measured and not of the kind that may stand in for it.

    accepted: what the user said, one of the kinds.
    """
    if accepted not in list(Kind):
        raise InputError(f"There is no kind of time '{accepted}'.", f"Use one of: {', '.join(Kind)}.")
    if kind is not Kind.MEASURED and kind.value != accepted:
        raise InputError(
            f"Times of device '{device}' are {kind}, not measured: they rank files, but no deadline is kept by them.",
            f'Accept them with accept = "{kind}" in wdp-edge.toml.',
            {"--accept": f'Accept them with --accept {kind}, or accept = "{kind}" in [prune] of wdp-edge.toml.'},
        )
