"""Hints name only options that the command has which gives them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from tiny_project import Cli, init_words

import wdp_edge
from wdp_edge.cli import app
from wdp_edge.errors import InputError

ROOT = Path(wdp_edge.__file__).parent.parent
# Commands that can give what a file says, for files whose texts name options of a command.
GIVEN_BY = {
    "targets/coreml_trace.py": {"profile"},
    "wdp_edge/data/folder.py": {"init", "prune"},
    "wdp_edge/data/imported.py": {"import"},
    "wdp_edge/devices/emulated.py": {"verify"},
    "wdp_edge/pipeline/choose.py": {"prune"},
    "wdp_edge/pipeline/evaluate.py": {"evaluate"},
    "wdp_edge/pipeline/export.py": {"export"},
    "wdp_edge/pipeline/inside.py": {"prune"},
    "wdp_edge/pipeline/operators.py": {"profile"},
    "wdp_edge/pipeline/prune.py": {"prune"},
    "wdp_edge/pipeline/selection.py": {"prune"},
    "wdp_edge/pipeline/verify.py": {"verify"},
    "wdp_edge/cli/_options.py": {"prune"},
}
ON_SCREEN = {"--json": "models", "--force": "prune"}  # lines of results
# `wdp_edge.init` and what only `prune` reaches of project.py; of other programs.
OF_PROJECT = {"--force": "init", "--checkpoint": "init", "--num-classes": "init"}
OTHERS = {"--help", "--nproc-per-node", "--find", "--cask"}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def options() -> dict[str, set[str]]:
    commands: dict[str, typer.core.TyperCommand] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name: {o for p in command.params for o in p.opts} for name, command in commands.items()}


def texts() -> Iterator[tuple[str, str, bool]]:
    """Of every text for people that names an option: its file, itself, and whether it says which command has it."""
    files = [p for room in ("wdp_edge", "targets", "calibration") for p in sorted((ROOT / room).rglob("*.py"))]
    for path in files:
        tree = ast.parse(path.read_text())
        by_option = {id(part) for d in ast.walk(tree) if isinstance(d, ast.Dict) for part in ast.walk(d)}
        notes = {id(e.value) for e in ast.walk(tree) if isinstance(e, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in notes:
                continue
            if " " in node.value and OPTION.search(node.value):
                yield path.relative_to(ROOT).as_posix(), node.value, id(node) in by_option


def test_every_option_in_a_text_is_one_of_the_commands_that_give_it() -> None:
    has = options()
    everywhere = set().union(*has.values())
    looked = 0
    for file, text, by_option in texts():
        looked += 1
        named = set(OPTION.findall(text)) - OTHERS
        assert named <= everywhere, f"{file}: no command has {named - everywhere}: {text!r}"
        if shown := re.findall(r"wdp-edge (\w+)([^,;]*)", text):
            for command, words in shown:
                assert set(OPTION.findall(words)) <= has[command], f"{file}: {command} has not all of {words!r}"
            continue
        if command := re.search(r"--[a-z-]+ of (init|prune)\b", text):
            commands = {command[1]}
        elif file.startswith("wdp_edge/cli/") and Path(file).stem.rstrip("_") in has:
            commands = {Path(file).stem.rstrip("_")}
        elif by_option:
            continue  # a hint for a command that has the option: `WdpError.options`
        elif file == "wdp_edge/cli/_print.py":
            commands = {ON_SCREEN[option] for option in named}
        elif file == "wdp_edge/project.py":
            commands = {OF_PROJECT.get(option, "prune") for option in named}
        else:
            assert file in GIVEN_BY or not named, f"{file}: which commands can give this? {text!r}"
            commands = GIVEN_BY.get(file, set())
        for command in commands:
            assert named <= has[command], f"{file}: {command} has no {named - has[command]}: {text!r}"
    assert looked > 10


def test_a_hint_follows_the_command() -> None:
    error = InputError("Wrong.", "Mend it.", {"--out": "Use --out.", "--data": "Use --data."})
    assert error.hint_for({"--data", "--json"}) == "Use --data."
    assert error.hint_for({"--data", "--out"}) == "Use --out."
    assert error.hint_for(()) == error.hint == "Mend it."


@pytest.mark.parametrize("command", [("export", "--dense"), ("table",), ("prune",)])
def test_what_is_missing_is_asked_for_as_the_command_takes_it(
    cli: Cli, project: Path, command: tuple[str, ...]
) -> None:
    (project / "wdp-edge.toml").write_text("[prune]\nthreads = 2\n")
    said = cli(*command)
    assert said.code == 2 and "name in [model]" in said.err
    assert set(OPTION.findall(said.err)) <= options()[command[0]]
    (project / "wdp-edge.toml").unlink()
    assert set(OPTION.findall(cli(*command).err)) <= options()[command[0]]


def test_init_names_no_option_of_prune(cli: Cli, project: Path) -> None:
    (project / "data/train").rename(project / "data/learn")
    said = cli(*init_words())
    assert said.code == 2 and "does not hold train/" in said.err
    assert set(OPTION.findall(said.err)) <= options()["init"]
    words = ("prune", "--data", "data", "--latency-budget", "50%")
    assert "--train" in cli(*words).err
