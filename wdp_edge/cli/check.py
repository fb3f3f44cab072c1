"""`wdp-edge check`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._options import Run
from wdp_edge.cli._print import show_check
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import CheckResult


def check(
    run: Run = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Also write the result as JUnit XML.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Hold a run against every [[budget]] of wdp-edge.toml."""

    def call() -> CheckResult:
        import wdp_edge
        from wdp_edge.project import find_run, project_budgets
        from wdp_edge.report.junit import write_junit

        result = wdp_edge.check(find_run(Path(), run), project_budgets(Path()))
        if junit is not None:
            write_junit(result, junit)
        return result

    return perform(call, show_check, as_json)
