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
    "targets/coreml/trace.py": {"profile"},
    "wdp_edge/data/folder.py": {"init", "prune"},
    "wdp_edge/data/imported.py": {"import"},
    "wdp_edge/data/unlabelled.py": {"init"},
    "wdp_edge/devices/emulated.py": {"verify"},
    "wdp_edge/heads/attach.py": {"init", "fit-head"},
    "wdp_edge/models/originals.py": {"init"},
    "wdp_edge/models/recognise/agreement.py": {"init", "fit-head"},
    "wdp_edge/models/recognise/made.py": {"init"},
    "wdp_edge/models/recognise/proposal.py": {"init", "fit-head"},
    "wdp_edge/models/user_code.py": {"init"},
    "wdp_edge/pruning/choose.py": {"prune"},
    "wdp_edge/commands/beside.py": {"init", "fit-head"},
    "wdp_edge/commands/brought.py": {"init", "fit-head"},
    "wdp_edge/commands/check_against.py": {"init"},
    "wdp_edge/commands/evaluate.py": {"evaluate"},
    "wdp_edge/commands/init_data.py": {"init"},
    "wdp_edge/commands/export.py": {"export"},
    "wdp_edge/commands/fit_head.py": {"fit-head"},
    "wdp_edge/commands/from_python.py": {"init"},
    "wdp_edge/commands/profile.py": {"profile"},
    "wdp_edge/pruning/first_look.py": {"init"},  # said by prune, too: "(--preprocess … of init)"
    "wdp_edge/pruning/prune.py": {"prune"},
    "wdp_edge/pruning/selection.py": {"prune"},
    "wdp_edge/commands/verify.py": {"verify"},
}
# Lines of results, and helps that name another option of their command.
ON_SCREEN = {
    "--checkpoint": "init",
    "--checkpoint-key": "fit-head",
    "--data": "init",
    "--fit-head": "init",
    "--prefix": "fit-head",
    "--json": "models",
    "--force": "prune",
    "--train": "prune",
    "--val": "prune",
    "--precision": "export",
    "--unit": "export",
}
# `wdp_edge.init` and what only `prune` reaches of project.py; of other programs.
OF_PROJECT = dict.fromkeys(
    ("--force", "--from-python", "--checkpoint", "--num-classes", "--check-against", "--fit-head", "--task"), "init"
)
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
        if shown := re.findall(r"wdp-edge ([\w-]+)([^,;]*)", text):
            for command, words in shown:
                assert set(OPTION.findall(words)) <= has[command], f"{file}: {command} has not all of {words!r}"
            continue
        if command := re.search(r"--[a-z-]+ of (init|prune)\b", text):
            commands = {command[1]}
        elif by_option:
            continue  # a hint for a command that has the option: `WdpError.options`
        elif file in ("wdp_edge/cli/_heads.py", "wdp_edge/cli/_print.py", "wdp_edge/cli/commands.py"):
            commands = {ON_SCREEN[option] for option in named}
        elif file == "wdp_edge/commands/init.py":
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
