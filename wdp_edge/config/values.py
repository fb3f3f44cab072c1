"""Values that a recipe holds as text: budgets in milliseconds, counts, per cent or bytes, and lists of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from wdp_edge.errors import InputError
from wdp_edge.protocols.device import Kind

_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|us|µs|%)\s*", re.IGNORECASE)
_MILLISECONDS = {"ms": 1.0, "s": 1000.0, "us": 0.001, "µs": 0.001}
_COUNT = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kmg]?)\s*(macs)?\s*", re.IGNORECASE)
_MANY = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_FEWEST_MACS = 1000
_SHARE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(%?)\s*")
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
    return _each(text, parse_budget, "a latency budget", "30%,50%,70%")


class Quantity(StrEnum):
    """What of a model is counted rather than measured."""

    MACS = "macs"
    PARAMETERS = "parameters"

    @property
    def words(self) -> str:
        return "MACs" if self is Quantity.MACS else "parameters"


@dataclass(frozen=True)
class CountBudget:
    """What a model may have at most of something that is counted. Exactly one of the two is set.

    count: > 0. share: of the dense model's, in (0, 1].
    """

    quantity: Quantity
    count: int | None = None
    share: float | None = None

    def limit(self, dense: int) -> int:
        """The most that is allowed, at least 1, given what the dense model has."""
        return self.count if self.count is not None else max(1, math.floor((self.share or 0.0) * dense + 1e-6))


def parse_macs(text: str) -> CountBudget:
    """Parses "50%" of the dense model's multiply-accumulates, or "1.2G" of them.

    Raises InputError for anything else, for zero, for more than 100%, and for a number that no model is as small as:
    50 was meant to be a share.
    """
    share, count = _SHARE.fullmatch(text), _COUNT.fullmatch(text)
    if share and share[2] and 0 < float(share[1]) <= 100:
        return CountBudget(Quantity.MACS, share=float(share[1]) / 100)
    if count and (value := int(float(count[1]) * _MANY[count[2].lower()])) >= _FEWEST_MACS:
        return CountBudget(Quantity.MACS, count=value)
    raise InputError(
        f"'{text}' is not a budget of multiply-accumulates.",
        "Write a share of the dense model's (50%) or a number for one image (300M, 1.2G).",
    )


def parse_keep(text: str) -> CountBudget:
    """Parses the share of the parameters that stay: "0.7" or "70%".

    Raises InputError for anything else, for zero, and for more than all of them.
    """
    match = _SHARE.fullmatch(text)
    share = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    if 0 < share <= 1:
        return CountBudget(Quantity.PARAMETERS, share=share)
    raise InputError(f"'{text}' is not a share of the parameters.", "Write it like 0.7 or 70%.")


def parse_macs_budgets(text: str) -> tuple[CountBudget, ...]:
    """Parses one, or several: "30%,50%". Raises InputError as `parse_macs` does, and for one that is there twice."""
    return _each(text, parse_macs, "a budget of multiply-accumulates", "30%,50%,70%")


def parse_keeps(text: str) -> tuple[CountBudget, ...]:
    """Parses one, or several: "0.5,0.7". Raises InputError as `parse_keep` does, and for one that is there twice."""
    return _each(text, parse_keep, "a share of the parameters", "0.3,0.5,0.7")


_Budget = TypeVar("_Budget", LatencyBudget, CountBudget)


def _each(text: str, parse: Callable[[str], _Budget], what: str, example: str) -> tuple[_Budget, ...]:
    budgets = tuple(parse(part) for part in split_list(text))
    if len(set(budgets)) < len(budgets):
        raise InputError(f"'{text}' names {what} twice.", f"Write each one once, such as {example}.")
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
