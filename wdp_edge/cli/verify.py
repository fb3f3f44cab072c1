"""`wdp-edge verify`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._options import Run
from wdp_edge.cli._print import show_verify
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import VerifyResult


def verify(
    run: Run = None,
    processor: Annotated[
        list[str] | None,
        typer.Option(
            "--processor",
            metavar="NAME",
            help="Prove int8 files on this emulated one too: haswell, cortex-a53, cortex-a76; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Hold every file of a run against its model."""

    def call() -> VerifyResult:
        import wdp_edge
        from wdp_edge.project import find_run

        return wdp_edge.verify(find_run(Path(), run), processor or ())

    return perform(call, show_verify, as_json)
