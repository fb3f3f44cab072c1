"""From JSON's plain values back to typed ones: the inverse of `wdp_edge.files.to_plain`."""

from __future__ import annotations

import collections.abc
import functools
import types
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from wdp_edge.errors import InputError
from wdp_edge.files import read_json

T = TypeVar("T")

_HINT = "Restore the file or start a new run."
_MAPPINGS = (dict, collections.abc.Mapping)
_SEQUENCES = (list, collections.abc.Sequence)


def from_plain(cls: type[T], data: Any, where: str = "") -> T:
    """`data` as a `cls`: a dataclass (nested or with `from_json`), list, tuple, dict, Optional, Path or enum.

    where: what to call the data in an error, such as its file. A field that is missing takes its default, and
    None when it may be None. Integers pass as floats; nothing else is converted.
    Raises InputError for missing, unknown or wrong values, naming the place, also where a class itself refuses them.
    """
    value: T = _parse(cls, data, where or getattr(cls, "__name__", "value"))
    return value


def read_as(path: Path, cls: type[T]) -> T:
    """The JSON file `path` as a `cls`. Raises InputError when it is missing, not JSON, or does not fit."""
    return from_plain(cls, read_json(path), str(path))


def _parse(kind: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return data
    if origin is typing.Union or origin is types.UnionType:
        return _parse_union(typing.get_args(kind), data, where)
    if origin is typing.Literal:
        return _checked(data, data in typing.get_args(kind), str(kind), where)
    if kind is tuple or origin is tuple:
        return _parse_tuple(typing.get_args(kind) or (Any, ...), data, where)
    if (origin or kind) in _SEQUENCES:
        (inner,) = typing.get_args(kind) or (Any,)
        return [_parse(inner, v, f"{where}[{i}]") for i, v in enumerate(_list(data, where))]
    if (origin or kind) in _MAPPINGS:
        return _parse_mapping(typing.get_args(kind) or (str, Any), data, where)
    if is_dataclass(kind):
        return _parse_dataclass(kind, data, where)
    return _parse_leaf(kind, data, where)


def _parse_leaf(kind: Any, data: Any, where: str) -> Any:
    if kind is float:
        return float(_checked(data, isinstance(data, int | float) and not isinstance(data, bool), "a number", where))
    if kind is int:
        return _checked(data, isinstance(data, int) and not isinstance(data, bool), "an integer", where)
    if kind is type(None):
        return _checked(data, data is None, "nothing", where)
    if kind in (bool, str):
        return _checked(data, isinstance(data, kind), {bool: "true or false", str: "a text"}[kind], where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        known = [member.value for member in kind]
        return kind(_checked(data, data in known, f"one of {', '.join(map(str, known))}", where))
    if isinstance(kind, type) and issubclass(kind, Path):
        return Path(_checked(data, isinstance(data, str), "a path", where))
    raise TypeError(f"{where}: from_plain does not know {kind!r}")


def _parse_union(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    """The first kind that fits; with one besides None, its own error."""
    if data is None and type(None) in kinds:
        return None
    others = [k for k in kinds if k is not type(None)]
    for kind in others[:-1]:
        try:
            return _parse(kind, data, where)
        except InputError:
            continue
    return _parse(others[-1], data, where)


def _parse_tuple(kinds: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    values = _list(data, where)
    inner = [kinds[0]] * len(values) if len(kinds) == 2 and kinds[1] is Ellipsis else list(kinds)
    _checked(data, len(values) == len(inner), f"a list of {len(inner)}", where)
    return tuple(_parse(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(inner, values, strict=True)))


def _parse_mapping(kinds: tuple[Any, ...], data: Any, where: str) -> dict[Any, Any]:
    key_kind, value_kind = kinds
    named = _checked(data, isinstance(data, dict), "a table", where)
    return {_parse_key(key_kind, k, where): _parse(value_kind, v, f"{where}.{k}") for k, v in named.items()}


def _parse_key(kind: Any, key: str, where: str) -> Any:
    """JSON's keys are texts; integers, floats and enums are written as such."""
    if kind in (int, float):
        try:
            return kind(key)
        except ValueError as error:
            raise _wrong(key, "a number", f"a key of {where}") from error
    return _parse(kind, key, f"a key of {where}")


def _parse_dataclass(cls: Any, data: Any, where: str) -> Any:
    named = _checked(data, isinstance(data, dict), f"a table ({cls.__name__})", where)
    if hasattr(cls, "from_json"):
        try:
            return cls.from_json(named)
        except InputError as error:
            raise InputError(f"{where}: {error.message}", error.hint) from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where} is not a {cls.__name__}: {error!r}.", _HINT) from error
    declared = {f.name: f for f in fields(cls) if f.init}
    if unknown := sorted(set(named) - set(declared)):
        raise InputError(f"{where} has an unknown field '{unknown[0]}'.", _HINT)
    hints = _hints(cls)
    given = {name: _parse(hints[name], value, f"{where}.{name}") for name, value in named.items()}
    absent = [field for name, field in declared.items() if name not in given]
    nothing = {f.name: None for f in absent if not _has_default(f) and _nullable(hints[f.name], f, where)}
    try:
        return cls(**given, **nothing)
    except InputError as error:
        raise InputError(f"{where}: {error.message}" if where else error.message, error.hint, error.options) from error


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _nullable(kind: Any, field: Field[Any], where: str) -> bool:
    """True when an absent field means None, which `to_plain` leaves out. Raises InputError otherwise."""
    if kind is Any or type(None) in typing.get_args(kind):
        return True
    raise InputError(f"{where} lacks the field '{field.name}'.", _HINT)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _list(data: Any, where: str) -> list[Any]:
    values: list[Any] = _checked(data, isinstance(data, list), "a list", where)
    return values


def _checked(data: Any, fits: bool, expected: str, where: str) -> Any:
    if not fits:
        raise _wrong(data, expected, where)
    return data


def _wrong(data: Any, expected: str, where: str) -> InputError:
    shown = repr(data)
    return InputError(f"{where} should be {expected}, not {shown if len(shown) <= 60 else shown[:57] + '…'}.", _HINT)
