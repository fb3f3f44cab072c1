"""The report of a run: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wdp_edge.runs.results import ReportResult


def report(run: Path) -> ReportResult:
    """Writes `<run>/report.html`, whole or not at all.

    run: a run directory whose result is there; stages that are missing are left out, with the reason. Or the folder of
    several budgets, which gets a page of them all, and each of its runs its own.
    Raises InputError when it is not such a directory or one of its files is damaged, SetupError when the page
    cannot be written.
    """
    from wdp_edge.errors import printable
    from wdp_edge.io.files import write_text
    from wdp_edge.report.page import render
    from wdp_edge.report.record import read_record
    from wdp_edge.report.sweep import render_sweep
    from wdp_edge.runs.results import ReportResult
    from wdp_edge.runs.stages import REPORT
    from wdp_edge.runs.sweeps import SWEEP, read_sweep

    run = Path(run)
    if (run / SWEEP).exists():
        sweep = read_sweep(run)
        page = render_sweep(sweep)
        for result in sweep.results:
            report(result.run)
    else:
        page = render(read_record(run))
    # Markup is escaped by the template; what would move a cursor, or is not text at all, is escaped here.
    write_text(run / REPORT, printable(page, lines=True))
    return ReportResult(run, run / REPORT)
