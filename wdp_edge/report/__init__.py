"""The report of a run: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

from pathlib import Path

from wdp_edge.results import ReportResult


def report(run: Path) -> ReportResult:
    """Writes `<run>/report.html`, whole or not at all.

    run: a run directory whose result is there; stages that are missing are left out with a word on why.
    Raises InputError when it is no such directory or one of its files is damaged, SetupError when the page
    cannot be written.
    """
    from wdp_edge.files import write_text
    from wdp_edge.printable import printable
    from wdp_edge.report.page import render
    from wdp_edge.report.record import read_record
    from wdp_edge.stages import REPORT

    run = Path(run)
    page = render(read_record(run))
    # Markup is escaped by the template; what would move a cursor, or is no text at all, is escaped here.
    write_text(run / REPORT, printable(page, lines=True))
    return ReportResult(run, run / REPORT)
