"""The command `wdp-edge`: parses, calls the library, prints; nothing heavy is imported here."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from wdp_edge.cli import commands
from wdp_edge.cli._shared import INTERRUPTED, MET, WRONG_INPUT, begin, fail
from wdp_edge.workers.parallel import world

_UsageError: type[Any] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="wdp-edge",
    help="Prune a trained Vision Transformer until it meets a latency budget measured on a device.",
    epilog="Exit codes: 0 done and inside the budget, 1 a budget is missed, 2 wrong input or environment.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for name in (
    "init", "fit_head", "import_", "models", "prune", "export", "verify", "inspect", "profile", "evaluate", "check",
    "table", "report", "demo", "doctor",
):  # fmt: skip
    app.command(name.rstrip("_").replace("_", "-"))(getattr(commands, name))
app.add_typer(commands.devices, name="devices")


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        import wdp_edge

        print(f"wdp-edge {wdp_edge.__version__}")
        raise typer.Exit
    group: Any = context.command
    if context.invoked_subcommand is None:
        print(context.get_help())
        return
    begin(group.commands[context.invoked_subcommand])
    if context.invoked_subcommand != "prune" and world().size > 1:
        message = f"`wdp-edge {context.invoked_subcommand}` is the work of one process."
        raise typer.Exit(fail(message, "Start it without torchrun.", "--json" in context.obj, WRONG_INPUT))


_EXTRA = "Got unexpected extra argument(s) ("


def _usage(said: str, path: str) -> tuple[str, str]:
    """What is wrong with the words of a command, and what to do. A shell puts many names in the place of a pattern."""
    names = said.removeprefix(_EXTRA).removesuffix(")").split(" ")
    if not said.startswith(_EXTRA) or len(names) < 2:
        return said, f"See `{path} --help`."
    shown = f"Got unexpected extra arguments: {names[0]} and {len(names) - 1} more."
    return shown, f"Put a pattern of file names in quotes, such as 'photos/*.jpg'; see `{path} --help`."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    arguments: what follows `wdp-edge`; None takes the process's own.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Read when torch is first imported. Waiting threads that spin take the cores from those that work: training on a
    # busy machine was ten times slower without this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "−" must not end a run
    try:
        code = app(words, prog_name="wdp-edge", standalone_mode=False, obj=("wdp-edge", *words))
    except _UsageError as error:
        path = error.ctx.command_path if error.ctx else "wdp-edge"
        return fail(*_usage(error.format_message(), path), "--json" in words, WRONG_INPUT)
    except typer.Abort:
        return INTERRUPTED
    return MET if code is None else int(code)
