"""Writes recipe.md and commands.md beside this file, from the settings' own fields and the commands' own options.

python docs/reference/generate.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import typer

from wdp_edge.cli import app
from wdp_edge.config.recipe import BudgetRecipe, Recipe
from wdp_edge.config.setting import meaning_of
from wdp_edge.config.validation import limits_of
from wdp_edge.protocols.target import target_names
from wdp_edge.protocols.task import task_names

NOTE = "<!-- Written by docs/reference/generate.py; change the setting or the command, and run that again. -->\n"
RECIPE = """# The recipe

`wdp-edge.toml` holds everything that decides a run. A setting that is not in it has its default. Relative paths start
at the file's folder. `wdp-edge init` writes a file with every setting and its meaning;
[recipes/](../../recipes/README.md) has some for well-known models. An option wins over the file; which command has it,
[the command line](commands.md) says.
"""
COMMANDS = """# The command line

Settings of [the recipe](recipe.md) that an option does not give come from `wdp-edge.toml` in the current folder, then
from defaults. Exit codes: 0 done and inside the budget, 1 a budget is missed, 2 wrong input or environment, 70 a defect
of wdp-edge, 130 interrupted. With `--json`, standard output carries one JSON object, the result or the error.
"""


def pages() -> dict[str, str]:
    """Text by file name."""
    return {"recipe.md": recipe_page(), "commands.md": commands_page()}


def recipe_page() -> str:
    sections = [*_tables(Recipe(), ""), *_section("[[budget]]", BudgetRecipe())]
    return "\n".join([NOTE, RECIPE, *sections])


def _tables(part: Any, above: str) -> Iterator[str]:
    for item in fields(part):
        value, dotted = getattr(part, item.name), f"{above}{item.name}"
        if is_dataclass(value):
            yield from _section(f"[{dotted}]", value)
            yield from _tables(value, f"{dotted}.")


def _section(title: str, part: Any) -> Iterator[str]:
    settings = [(item, getattr(part, item.name)) for item in fields(part) if "doc" in item.metadata]
    about = (type(part).__doc__ or "").partition("]: ")[2] or f"{type(part).__doc__}"
    yield f"## `{title}`\n\n{about[0].upper()}{' '.join(about[1:].split())}\n"
    yield "| setting | default | values | option | meaning |\n| --- | --- | --- | --- | --- |"
    yield "\n".join(
        _row(item.name, _toml(value), values_of(item), _code(_flag(item)), _doc(item)) for item, value in settings
    )
    yield ""


def values_of(setting: Field[Any]) -> str:
    """What a setting may be."""
    facts = setting.metadata
    if facts["choices"] in (target_names, task_names):
        return "a name"  # which ones there are depends on what is installed
    if facts["choices"]:
        return ", ".join(_code(choice) for choice in facts["choices"]())
    if facts["path"]:
        return " or ".join(["path", *(_code(word) for word in facts["words"])])
    kind = {bool: "true or false", int: "whole number", float: "number", str: "text"}.get(
        type(setting.default), "table"
    )
    return ", ".join(filter(None, [kind, limits_of(setting)]))


def commands_page() -> str:
    group: Any = typer.main.get_command(app)
    named = {name: command for name, command in group.commands.items() if not hasattr(command, "commands")}
    named |= {
        f"{outer} {name}": command
        for outer, other in group.commands.items()
        for name, command in getattr(other, "commands", {}).items()
    }
    return "\n".join([NOTE, COMMANDS, *(_command(name, command) for name, command in named.items())])


def _command(name: str, command: Any) -> str:
    parameters = [p for p in command.params if p.name != "help"]
    words = [p.metavar or p.name.upper() for p in parameters if p.param_type_name == "argument"]
    rows = [
        _row(_code(_written(p)), (getattr(p, "help", "") or "") + (" Required." if p.required else ""))
        for p in parameters
    ]
    usage = " ".join(["wdp-edge", name, *words, "[OPTIONS]"])
    about = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    table = "\n".join(["| option | meaning |", "| --- | --- |", *rows])
    return f"## `wdp-edge {name}`\n\n{about}\n\n```sh\n{usage}\n```\n\n{table}\n"


def _written(parameter: Any) -> str:
    """As it is written: "--threads N"."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return " ".join([*parameter.opts, *([] if parameter.is_flag else [parameter.metavar or parameter.name.upper()])])


def _flag(setting: Field[Any]) -> str:
    return str(setting.metadata["flag"]).replace("=", " ", 1)


def _doc(setting: Field[Any]) -> str:
    return meaning_of(setting)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return _code(str(value).lower())
    return _code("{}" if isinstance(value, dict) else f'"{value}"' if isinstance(value, str) else f"{value}")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    for name, text in pages().items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")
