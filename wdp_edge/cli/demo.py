"""`wdp-edge demo`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._print import near, print_line, show_prune
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.demo.run import DemoResult


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the demo works.")] = Path("demo"),
    short: Annotated[bool, typer.Option("--short", help="Train less: a few minutes, lower figures.")] = False,
    as_json: Json = False,
) -> int:
    """Run the whole loop on handwritten digits.

    Trains a small model, prunes it to a budget, exports, measures and reports; no download is needed.
    """

    def call() -> DemoResult:
        from wdp_edge.demo.run import demo as run

        return run(out, short)

    return perform(call, _show, as_json)


def _show(result: DemoResult) -> None:
    print_line("")
    show_prune(result)
    print_line(f"Report: {near(result.report)}")
    print_line(f"The demo took {result.seconds / 60:.1f} minutes.")
