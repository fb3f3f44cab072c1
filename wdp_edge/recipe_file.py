"""wdp-edge.toml in and out, and what the command line says on top of it."""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from wdp_edge.errors import InputError
from wdp_edge.recipe import Recipe
from wdp_edge.recipe_check import convert
from wdp_edge.task import ALPHABETICAL, NATURAL
from wdp_edge.toml_lines import KeyPath, key_lines

RECIPE_FILE = "wdp-edge.toml"
PATHS = ("model.checkpoint", "data.train", "data.val", "data.class_order", "prune.out", "prune.timing.runner")


def load_recipe(path: Path | str) -> Recipe:
    """The recipe in a TOML file. Relative paths in it, and the default ones, start at the file's folder.

    Raises InputError with file, line and key: syntax, unknown names, wrong types, values out of range.
    """
    path = Path(path)
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(path, text, error) from error
    lines = key_lines(text)

    def name(key: KeyPath) -> str:
        line = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), 1)
        return f"{path}, line {line}: {'.'.join(key)}"

    recipe: Recipe = convert(data, Recipe, name)
    return change_paths(recipe, lambda key, value: str(path.parent / Path(value).expanduser()))


def dump_recipe(recipe: Recipe, comments: bool) -> str:
    """The recipe as TOML, every setting written out; with comments, each one's meaning above it."""
    import tomlkit

    document = tomlkit.document()
    _add_settings(document, recipe, comments)
    return tomlkit.dumps(document)


def merge(recipe: Recipe, overrides: Mapping[str, Any], names: Mapping[str, str] | None = None) -> Recipe:
    """The recipe with these settings replaced; keys are dotted: "prune.seed", "model.args.img_size".

    names: what messages call a key, such as {"prune.threads": "--threads"}.
    Raises InputError like `load_recipe`, with that name in place of file and line.
    """
    tables = _tables(recipe)
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = value
    called = names or {}
    merged: Recipe = convert(tables, Recipe, lambda key: called.get(".".join(key), ".".join(key)))
    return merged


def absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with every path absolute: for storing it in another folder than its own."""
    return change_paths(recipe, lambda key, value: str(Path(value).absolute()))


def change_paths(recipe: Recipe, change: Callable[[str, str], str]) -> Recipe:
    """The recipe with other paths. change: from a setting such as "data.train" and its path, to the new one."""
    for dotted in PATHS:
        if dotted == "data.class_order" and recipe.data.class_order in (ALPHABETICAL, NATURAL):
            continue
        recipe = _with_path(recipe, dotted.split("."), functools.partial(change, dotted))
    return recipe


def _with_path(part: Any, keys: list[str], change: Callable[[str], str]) -> Any:
    """`part` of a recipe with one of its paths changed where it is set."""
    key, *rest = keys
    value = getattr(part, key)
    if not value:
        return part
    return replace(part, **{key: _with_path(value, rest, change) if rest else change(value)})


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {os.strerror(error.errno or 0)}.", "`wdp-edge init` writes a recipe."
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: this is not UTF-8 text.", "Save the file as UTF-8.") from error


def _syntax_error(path: Path, text: str, error: tomllib.TOMLDecodeError) -> InputError:
    """tomllib gives the line in its message only; an unfinished value ends at the end of the document."""
    lines = text.split("\n")
    found = re.search(r" \(at line (\d+), column \d+\)$", str(error))
    number = int(found[1]) if found else max((n for n, line in enumerate(lines, 1) if line.strip()), default=1)
    reason = re.sub(r" \(at [^()]*\)$", "", str(error))
    source = lines[number - 1].strip()
    key = re.match(r"([\w.-]+)\s*=", source)
    return InputError(
        f"{path}, line {number}: {f'{key[1]}: ' if key else ''}{reason} in '{source[:80]}'.",
        "Write settings as key = value, texts in quotes, and tables as [model].",
    )


def _tables(part: Any) -> dict[str, Any]:
    """Nested plain dicts of a recipe; the dicts are copies."""
    found: dict[str, Any] = {}
    for item in fields(part):
        value = getattr(part, item.name)
        if is_dataclass(value):
            found[item.name] = _tables(value)
        elif isinstance(value, tuple):
            found[item.name] = [_tables(part) for part in value]
        else:
            found[item.name] = dict(value) if isinstance(value, Mapping) else value
    return found


def _add_settings(container: Any, part: Any, comments: bool) -> None:
    import tomlkit

    for item in fields(part):
        value = getattr(part, item.name)
        if is_dataclass(value):
            table = tomlkit.table()
            _add_settings(table, value, comments)
            container.add(item.name, table)
            continue
        if isinstance(value, tuple):
            if value:
                container.add(item.name, _array(value, comments))
            continue
        if comments:
            container.add(tomlkit.comment(item.metadata["doc"]))
        if isinstance(value, Mapping):
            inline = tomlkit.inline_table()
            inline.update(value)
            value = inline
        container.add(item.name, value)


def _array(parts: tuple[Any, ...], comments: bool) -> Any:
    """An array of tables, [[name]] each."""
    import tomlkit

    array = tomlkit.aot()
    for part in parts:
        table = tomlkit.table()
        _add_settings(table, part, comments)
        array.append(table)
    return array
