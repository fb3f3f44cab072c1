"""`wdp-edge evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._print import show_evaluate
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import EvaluateResult


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An exported file of a run.")],
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="FOLDER", help="Images in class folders; default: the run's."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Measure an exported file's accuracy in its own runtime."""

    def call() -> EvaluateResult:
        import wdp_edge

        return wdp_edge.evaluate(path, val)

    return perform(call, show_evaluate, as_json)
