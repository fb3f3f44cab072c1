"""From plain tables to a recipe: names, types, ranges and forms are checked, and errors say where."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_type_hints

from wdp_edge.config.recipe import Recipe
from wdp_edge.config.setting import LARGEST, meaning_of
from wdp_edge.config.toml_lines import KeyPath
from wdp_edge.config.values import split_list
from wdp_edge.errors import InputError
from wdp_edge.io.files import to_plain
from wdp_edge.io.plain import LIMITS, reader

Name = Callable[[KeyPath], str]
"""How a message calls a setting: "wdp-edge.toml, line 3: prune.threads", or "--threads"."""

T = TypeVar("T")
_KINDS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


@functools.cache
def described(cls: type = Recipe, above: str = "") -> dict[str, Field[Any] | type]:
    """Every table and setting of a recipe by its dotted name: a table's class, or a setting's field."""
    found: dict[str, Field[Any] | type] = {}
    kinds = get_type_hints(cls)
    for item in fields(cls):
        dotted, kind = f"{above}{item.name}", kinds[item.name]
        table: Any = next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)
        found[dotted] = item if table is None else table
        found |= {} if table is None else described(table, f"{dotted}.")
    return found


def setting_of(dotted: str) -> Field[Any]:
    """The field of the setting called, for example, "prune.threads"."""
    found = described()[dotted]
    assert isinstance(found, Field)
    return found


def limits_of(setting: Field[Any]) -> str:
    """In words: "at least 0 and less than 1"; "" for a setting that is no number."""
    limits = {word: setting.metadata.get(key, LARGEST) for key, word in LIMITS.items()}
    return " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit != LARGEST)


def read_recipe(tables: Mapping[str, Any], name: Name) -> Recipe:
    """`tables` as a recipe; what is absent keeps its default.

    Raises InputError for an unknown key, a wrong type or a value that the setting cannot have.
    """
    from pydantic import ValidationError

    try:
        recipe: Recipe = reader(Recipe).validate_python([_over(_defaults(), tables)])[0]
    except ValidationError as error:
        raise _refused(error.errors(include_url=False)[0], name) from error
    return change_settings(recipe, functools.partial(_conformed, name))


def change_settings(part: T, change: Callable[[KeyPath, Field[Any], Any], Any], above: KeyPath = ()) -> T:
    """A recipe, or a table of one, with every setting as `change` gives it from its path, its field and its value.

    The tables of an array [[name]] are called ("name", "1"), ("name", "2") and so on.
    """
    changed: dict[str, Any] = {}
    for item in fields(part):  # type: ignore[arg-type]
        value, path = getattr(part, item.name), (*above, item.name)
        if is_dataclass(value):
            changed[item.name] = change_settings(value, change, path)
        elif isinstance(value, tuple):
            numbered = enumerate(value, 1)
            changed[item.name] = tuple(change_settings(one, change, (*path, str(n))) for n, one in numbered)
        else:
            changed[item.name] = change(path, item, value)
    return replace(part, **changed)  # type: ignore[type-var]


def _defaults() -> dict[str, Any]:
    """Of one class, tables may differ in theirs: those of [verify.fp16] are not those of [verify.low_bit]."""
    plain: dict[str, Any] = to_plain(Recipe())
    return plain


def _over(base: Any, given: Any) -> Any:
    """Tables with those given over them."""
    if not isinstance(base, Mapping) or not isinstance(given, Mapping):
        return given
    return {**base, **{key: _over(base.get(key), value) for key, value in given.items()}}


def _refused(error: Any, name: Name) -> InputError:
    """The sentence for one of pydantic's errors."""
    place, kind, value = error["loc"][1:], error["type"], error["input"]
    path = tuple(str(part + 1) if isinstance(part, int) else part for part in place)
    if kind == "unexpected_keyword_argument":
        return _unknown(path, isinstance(value, Mapping), name)
    dotted, called, shown = _general(path), name(path), _shown(value)
    found = described()[dotted]
    if not isinstance(found, Field):
        brackets = f"[[{dotted}]]" if dotted == "budget" else f"[{dotted}]"
        what = "a list of tables" if path == ("budget",) else "a table of settings"
        return InputError(f"{called} is {what}, not {shown}.", f"Write a line {brackets} and its settings below it.")
    outside = kind.startswith(("greater_than", "less_than")) and LARGEST not in error["ctx"].values()
    expected = limits_of(found) if outside else _KINDS.get(type(found.default), "a table of arguments")
    return InputError(f"{called} must be {expected}, not {shown}.", f"{dotted} is: {meaning_of(found)}.")


def _conformed(name: Name, path: KeyPath, setting: Field[Any], value: Any) -> Any:
    """The value of a setting whose type and range are right, if its choices and form are too."""
    if isinstance(value, Mapping):
        value = _arguments(value, name, path)
    form = setting.metadata["form"]
    parts = split_list(value) if setting.metadata["several"] else [value]
    for part in parts:
        _check_choice(part, name, path, setting)
    if setting.metadata["several"] and len(set(parts)) < len(parts):
        raise InputError(f"{name(path)}: '{value}' names one twice.", "Write each one once.")
    try:
        read = form(value) if form and value else value
    except InputError as error:
        raise InputError(f"{name(path)}: {error.message}", error.hint) from error
    return read if isinstance(value, Mapping) else value


def _check_choice(value: Any, name: Name, path: KeyPath, setting: Field[Any]) -> None:
    choices = setting.metadata["choices"]
    if choices and value not in (allowed := list(choices())):
        near = difflib.get_close_matches(value, allowed, n=1)
        raise InputError(
            f"{name(path)} cannot be '{value}'.",
            f"Did you mean {near[0]}?" if near else f"Use one of: {', '.join(allowed)}.",
        )


def _general(path: KeyPath) -> str:
    """The setting's dotted name, the same for every table of an array."""
    return ".".join(part for part in path if not part.isdigit())


def _arguments(value: Mapping[str, Any], name: Name, path: KeyPath) -> dict[str, Any]:
    """Free arguments for somebody else's function: numbers, texts, true or false, and lists of them."""
    for key, item in value.items():
        if key == "pretrained_cfg_overlay" or (key == "pretrained_cfg" and isinstance(item, Mapping)):
            raise InputError(
                f"{name((*path, key))} cannot be set.",
                "Set mean, std, interpolation and crop_pct with preprocess in [data], or --preprocess of init.",
            )
        parts = item if isinstance(item, list | tuple) else [item]
        if not all(_plain(part) for part in parts):
            raise InputError(
                f"{name((*path, key))} must be a number, a text, true or false, or a list of them, not {_shown(item)}.",
                "Give the value as timm.create_model takes it.",
            )
    return {key: list(v) if isinstance(v, list | tuple) else v for key, v in value.items()}


def _plain(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= LARGEST
    return isinstance(value, str | bool) or (isinstance(value, float) and math.isfinite(value))


def _unknown(path: KeyPath, is_table: bool, name: Name) -> InputError:
    """The error for a key that its table lacks, with the nearest one, wherever it belongs."""
    above, key, known = _general(path[:-1]), path[-1], described()
    where = f"[{'.'.join(path[:-1])}]" if above else "a recipe"
    what = f"there is no {'table' if is_table else 'setting'} '{key}' in {where}"
    parted = [(dotted.rpartition(".")[0], dotted.rpartition(".")[2]) for dotted in known]
    own = [last for table, last in parted if table == above]
    elsewhere = [
        f"[{table}]" for table, last in parted if last == key and table and isinstance(known[f"{table}.{key}"], Field)
    ]
    hint = f"{where[0].upper()}{where[1:]} has: {', '.join(own)}."
    if near := difflib.get_close_matches(key, own, n=1, cutoff=0.6):
        hint = f"Did you mean {near[0]}?"
    elif elsewhere:
        hint = f"It belongs in {' or '.join(elsewhere)}."
    return InputError(f"{name(path)}: {what}.", hint)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
