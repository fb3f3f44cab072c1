"""`wdp-edge export`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.cli._options import Precision, Run, Target
from wdp_edge.cli._print import show_export
from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.results import ExportResult


def export(run: Run = None, target: Target = None, precision: Precision = None, as_json: Json = False) -> int:
    """Export a run's pruned model to a file that a device runs."""

    def call() -> ExportResult:
        import wdp_edge
        from wdp_edge.project import find_run

        return wdp_edge.export(find_run(Path(), run), target, precision or "default")

    return perform(call, show_export, as_json)
