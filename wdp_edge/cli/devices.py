"""`wdp-edge devices`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._print import show_setup
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import SetupResult

devices = typer.Typer()


@devices.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Make kinds of devices ready."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@devices.command()
def setup(
    name: Annotated[str, typer.Argument(metavar="NAME", help="qemu: emulated Arm cores that count instructions.")],
    as_json: Json = False,
) -> int:
    """Fetch and build what a kind of device needs, without root, and say what that was."""

    def call() -> SetupResult:
        import wdp_edge

        return wdp_edge.set_up(name)

    return perform(call, show_setup, as_json)
