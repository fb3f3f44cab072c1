"""What `prune` says of several runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wdp_edge.cli._print import near, print_line, print_table, show_prune
from wdp_edge.protocols.task import facts_of
from wdp_edge.runs.results import PruneResult

if TYPE_CHECKING:
    from wdp_edge.runs.sweeps import SweepResult


def show_pruned(result: PruneResult | SweepResult) -> None:
    show_prune(result) if isinstance(result, PruneResult) else _show_sweep(result)


def _show_sweep(sweep: SweepResult) -> None:
    from wdp_edge.report import sweep_words

    if sweep.results:
        rows = [row.cells for row in sweep_words.rows(sweep, wide=False) if not row.error]
        print_table(sweep_words.title(sweep), sweep_words.header(sweep, wide=False), rows)
        if note := facts_of(sweep.results[0].task).note:
            print_line(note)
    for entry in sweep.unjudged:
        print_line(f"{sweep_words.name_of(sweep, entry)}: {entry.error}")
    print_line(f"{sweep_words.verdict(sweep)}.")
    for entry in sweep.entries:
        name = sweep_words.name_of(sweep, entry)
        if entry.result and not entry.result.verified:
            print_line(f"{name}: the file is too far from the pruned model; `wdp-edge verify` finds the layer.")
        if entry.result and entry.result.shipped.path:
            print_line(f"{name}: {near(entry.result.shipped.path)}")
    print_line(f"All runs: {near(sweep.folder)} (`wdp-edge report {near(sweep.folder)}` makes a page of them)")
