"""What a native runner says: one JSON object a line. A device may send anything, so all of it is checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_FIRST = 16


@dataclass(frozen=True)
class LoadedFile:
    """load_ms: how long loading took. input: the shape of its input. dtype: "float32" or "uint8"."""

    load_ms: float
    input: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Loaded:
    """The runner has loaded its files."""

    runtime: str
    threads: int
    files: tuple[LoadedFile, ...]


@dataclass(frozen=True)
class RoundDone:
    """A round is done. ms: of every run, per file, in the order of the files; 0 where the clock stood still."""

    number: int
    ms: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class OutputDigest:
    """A file's output for the fixed input, in short: how many values, their absolute sum, and the first 16."""

    abs_sum: float
    first: tuple[float, ...]
    count: int


@dataclass(frozen=True)
class Done:
    """All rounds are done. temperature (°C) and clock_mhz: before and after, None where the device hides them."""

    outputs: tuple[OutputDigest, ...]
    peak_rss_bytes: int
    temperature: tuple[float, float] | None
    clock_mhz: tuple[float, float] | None


Event = Loaded | RoundDone | Done


def parse_event(line: str) -> Event:
    """Raises ValueError for a line that is not a runner's event."""
    try:
        data = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    kind = data.get("event") if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in _PARSERS:
        raise ValueError("not an event")
    try:
        return _PARSERS[kind](data)
    except KeyError as error:
        raise ValueError(f"{error} is missing") from error


def _loaded(data: Mapping[str, Any]) -> Loaded:
    files = tuple(_file(_mapping(item)) for item in _list(data["files"]))
    return Loaded(_text(data["runtime"]), _whole(data["threads"]), files)


def _file(data: Mapping[str, Any]) -> LoadedFile:
    shape = tuple(_whole(n) for n in _list(data["input"]))
    return LoadedFile(_number(data["load_ms"]), shape, _text(data["dtype"]))


def _round(data: Mapping[str, Any]) -> RoundDone:
    ms = tuple(tuple(_time(t) for t in _list(times)) for times in _list(data["ms"]))
    return RoundDone(_whole(data["number"]), ms)


def _done(data: Mapping[str, Any]) -> Done:
    outputs = tuple(_output(_mapping(item)) for item in _list(data["outputs"]))
    peak = _whole(data["peak_rss_bytes"])
    return Done(outputs, peak, _pair(data["temperature"]), _pair(data["clock_mhz"]))


def _output(data: Mapping[str, Any]) -> OutputDigest:
    first = tuple(_number(v) for v in _list(data["first"]))
    output = OutputDigest(_number(data["abs_sum"]), first, _whole(data["count"]))
    if len(output.first) != min(_FIRST, output.count) or not output.first:
        raise ValueError("an output without its first values")
    return output


_PARSERS: dict[str, Callable[[Mapping[str, Any]], Event]] = {"loaded": _loaded, "round": _round, "done": _done}


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("not an object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 100:
        raise ValueError("not a short text")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("not a count")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or abs(value) > 1e300 or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _time(value: Any) -> float:
    if (number := _number(value)) < 0:
        raise ValueError("not a time")
    return number


def _pair(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    first, second = _list(value)
    return _number(first), _number(second)
