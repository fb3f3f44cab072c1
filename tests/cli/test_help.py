"""Help is quick because nothing heavy is imported, and the command line stays small."""

import os
import subprocess
import sys
from typing import Any

import pytest
import typer

from wdp_edge.cli import app

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "executorch",
    "torchao",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
    "PIL",
)
COMMANDS = (
    "init",
    "fit-head",
    "import",
    "prune",
    "export",
    "verify",
    "inspect",
    "models",
    "profile",
    "evaluate",
    "check",
    "table",
    "report",
    "demo",
    "doctor",
    "devices setup",
)


def imported_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after `code`."""
    script = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([*name.split(), "--help"] for name in COMMANDS)])
def test_help_imports_no_runtime(words: list[str]) -> None:
    modules = imported_by(f"from wdp_edge.cli import main\nassert main({words!r}) == 0")
    assert "typer" in modules
    assert not modules & {*HEAVY, "rich", "tomlkit", "jinja2"}
    if words == ["--help"]:  # typer itself imports it for the options of a command
        assert "pydantic" not in modules


def test_importing_the_library_imports_no_runtime() -> None:
    modules = imported_by("import wdp_edge\nwdp_edge.load_recipe, wdp_edge.Recipe, wdp_edge.__version__, wdp_edge.init")
    assert "wdp_edge" in modules
    assert not modules & {*HEAVY, "rich", "typer", "pydantic"}


def test_help_names_every_command() -> None:
    done = subprocess.run([sys.executable, "-m", "wdp_edge", "--help"], capture_output=True, text=True, check=True)
    assert all(f"\n  {name.split()[0]} " in done.stdout for name in COMMANDS)
    summaries = done.stdout.partition("Commands:")[2]
    assert "..." not in summaries
    assert done.stderr == ""


def test_a_terminal_without_unicode_is_no_error() -> None:
    code = (
        "from wdp_edge.cli import main, _print\n"
        "assert main(['--version']) == 0\n"
        "_print.print_table('minus: −', ('', '−'), [('−', '−')])\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"minus: ?" in done.stdout


def flags() -> list[tuple[str, str]]:
    """Every (command, option) of the command line."""
    group: Any = typer.main.get_command(app)
    found = [("", option) for p in group.params for option in p.opts if option.startswith("--")]
    commands = dict(group.commands)
    commands |= {f"devices {name}": command for name, command in commands.pop("devices").commands.items()}
    for name, command in commands.items():
        found += [(name, option) for p in command.params for option in p.opts if option.startswith("--")]
    return found


def test_flags_are_few() -> None:
    found = flags()
    assert {command for command, _ in found} == {"", *COMMANDS}
    assert {command for command, option in found if option == "--json"} == set(COMMANDS)
    # An option means the same in every command that has it. Three of them stand for a choice of the published method
    # that its readers look for by name: --macs-budget, --keep and --exit.
    # And --unit says whether a file is for a device's CPU or its GPU.
    assert len({option for _, option in found}) < 44
