"""`wdp-edge report`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.cli._options import Run
from wdp_edge.cli._print import show_report
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import ReportResult


def report(run: Run = None, as_json: Json = False) -> int:
    """Write a run's figures and pictures into one HTML file."""

    def call() -> ReportResult:
        import wdp_edge
        from wdp_edge.project import find_run

        return wdp_edge.report(find_run(Path(), run))

    return perform(call, show_report, as_json)
