"""`wdp-edge inspect`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._print import show_inspect
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import InspectResult


def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An exported file.")],
    as_json: Json = False,
) -> int:
    """Show operators, weights and origin of a file."""

    def call() -> InspectResult:
        import wdp_edge

        return wdp_edge.inspect(path)

    return perform(call, show_inspect, as_json)
