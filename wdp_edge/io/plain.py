"""From JSON's plain values back to typed ones: the inverse of `wdp_edge.io.files.to_plain`."""

from __future__ import annotations

import copy
import functools
import operator
from pathlib import Path
from typing import Any, TypeVar

from wdp_edge.errors import InputError
from wdp_edge.io.files import read_json

T = TypeVar("T")

_HINT = "Restore the file or start a new run."
# What pydantic expects, in our words, by the first word of its error's type.
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "string": "a text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "sequence": "a list",
    "is": "a list",  # a Sequence is an instance of one
    "dict": "a table",
    "mapping": "a table",
    "dataclass": "a table",
}
LIMITS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


def from_plain(cls: type[T], data: Any, where: str = "") -> T:
    """`data`, as JSON gives it, as a `cls`: a dataclass, list, tuple, dict, Optional, Path or enum, nested as you like.

    where: what to call the data in an error, such as its file. A field that is missing takes its default, and
    None when it may be None. Integers pass as floats; nothing else is converted.
    Raises InputError for missing, unknown or wrong values, naming the place, also where a class itself refuses them.
    """
    from pydantic import ValidationError

    where = where or getattr(cls, "__name__", "value")
    try:
        value: T = _validated(cls, data)
    except ValidationError as error:
        raise _refused(error.errors(include_url=False)[0], where) from error
    except InputError as error:
        raise InputError(f"{where}: {error.message}", error.hint, error.options) from error
    return value


def read_as(path: Path, cls: type[T]) -> T:
    """The JSON file `path` as a `cls`. Raises InputError when it is missing, not JSON, or does not fit."""
    return from_plain(cls, read_json(path), str(path))


@functools.cache
def reader(cls: Any) -> Any:
    """pydantic's, of a list: a list hands its settings on to plain dataclasses, which take none themselves."""
    from pydantic import TypeAdapter
    from pydantic_core import SchemaValidator

    return SchemaValidator(_strict(TypeAdapter(list[cls], config={"extra": "forbid"}).core_schema))


def _strict(schema: Any) -> Any:
    """The schema with values that are not converted: "1" is no number. Keys, which JSON has as texts, are.

    pydantic's own strictness takes no list for a tuple and no text for a path unless it reads JSON itself, which it
    does not where a text has a file's name that is no Unicode.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(map(_strict, schema))
    if not isinstance(schema, dict):
        return schema
    strict = {key: value if key == "keys_schema" else _strict(value) for key, value in schema.items()}
    return strict | {"strict": True} if schema.get("type") in ("int", "float", "bool", "str") else strict


def _validated(cls: Any, data: Any) -> Any:
    """What `to_plain` left out because it was None is put back where it is missed."""
    from pydantic import ValidationError

    try:
        return reader(cls).validate_python([data])[0]
    except ValidationError as error:
        missing = [one["loc"] for one in error.errors(include_url=False) if one["type"] == "missing"]
        absent = [place for place in missing if isinstance(place[-1], str)]
        if not absent:
            raise
    whole: Any = copy.deepcopy([data])
    for *parents, field in absent:
        functools.reduce(operator.getitem, parents, whole)[field] = None
    return reader(cls).validate_python(whole)[0]


def _refused(error: Any, where: str) -> InputError:
    """The sentence for one of pydantic's errors."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    place = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"][1:])
    place = place.removesuffix(".[key]")
    if kind == "missing" or value is None:
        return InputError(f"{place} is missing.", _HINT)
    if kind == "unexpected_keyword_argument":
        return InputError(f"{place} is not known here.", "It may be of a newer release of wdp-edge, or damaged.")
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "…"
    if kind == "literal_error" and error["loc"][-1] == "version":
        return InputError(
            f"{where} has version {shown} of its format, and this release reads version {context['expected']}.",
            "Use the release of wdp-edge that wrote it, or start a new run.",
        )
    limits = [f"{word} {context[key]}" for key, word in LIMITS.items() if key in context]
    expected = KINDS.get(kind.partition("_")[0]) or " and ".join(limits) or f"one of {context.get('expected', '')}"
    if kind == "too_long":
        expected = f"a list of {context['max_length']}"
    return InputError(f"{place} must be {expected}, not {shown}.", _HINT)
