"""wdp-edge.toml in and out, and what the command line says on top of it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from wdp_edge.config.recipe import Recipe
from wdp_edge.config.setting import meaning_of
from wdp_edge.config.toml_lines import KeyPath, key_lines
from wdp_edge.config.validation import change_settings, read_recipe
from wdp_edge.errors import InputError
from wdp_edge.io.files import to_plain

RECIPE_FILE = "wdp-edge.toml"
HEAD_FILE = "with_head.safetensors"
"""What init writes beside it where it fits a head."""


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

    return change_paths(read_recipe(data, name), lambda key, value: str(path.parent / Path(value).expanduser()))


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
    tables = to_plain(recipe)
    for dotted, value in overrides.items():
        *above, last = dotted.split(".")
        table = tables
        for name in above:
            table = table.setdefault(name, {})
        table[last] = value
    called = names or {}
    return read_recipe(tables, lambda key: called.get(".".join(key), ".".join(key)))


def absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with every path absolute: for storing it in another folder than its own."""
    return change_paths(recipe, lambda key, value: str(Path(value).absolute()))


def change_paths(recipe: Recipe, change: Callable[[str, str], str]) -> Recipe:
    """The recipe with other paths. change: from a setting such as "data.train" and its path, to the new one."""

    def changed(key: KeyPath, setting: Field[Any], value: Any) -> Any:
        is_path = setting.metadata["path"] and value and value not in setting.metadata["words"]
        return change(".".join(key), value) if is_path else value

    return change_settings(recipe, changed)


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


def _add_settings(container: Any, part: Any, comments: bool) -> None:
    import tomlkit

    for item in fields(part):
        value = getattr(part, item.name)
        if is_dataclass(value):
            container.add(item.name, _table(value, comments))
        elif isinstance(value, tuple):
            if value:
                array = tomlkit.aot()
                for one in value:
                    array.append(_table(one, comments))
                container.add(item.name, array)
        else:
            if comments:
                container.add(tomlkit.comment(meaning_of(item)))
            if isinstance(value, Mapping):
                value, pairs = tomlkit.inline_table(), value
                value.update(pairs)
            container.add(item.name, value)


def _table(part: Any, comments: bool) -> Any:
    import tomlkit

    table = tomlkit.table()
    _add_settings(table, part, comments)
    return table
