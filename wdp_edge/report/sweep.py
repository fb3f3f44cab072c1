"""The page of a sweep: all budgets of one model in a picture and a table, with the pages of its runs beside it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wdp_edge.errors import InputError
from wdp_edge.protocols.task import facts_of
from wdp_edge.report import sweep_words
from wdp_edge.report.pareto import counted, describe_pareto, has_pareto, plot_pareto
from wdp_edge.report.style import inline_svg
from wdp_edge.runs.places import run_recipe
from wdp_edge.runs.stages import REPORT
from wdp_edge.runs.sweeps import SweepResult


def render_sweep(sweep: SweepResult) -> str:
    """The page: the same text for the same runs. Raises InputError where no budget has a file."""
    if not sweep.results:
        raise InputError(f"No budget of {sweep.folder} has a file: {sweep.entries[0].error}", "Give a larger one.")
    environment = Environment(
        loader=PackageLoader("wdp_edge.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    first = sweep.results[0]
    note = facts_of(first.task).note
    return environment.get_template("sweep.html.j2").render(
        sweep=sweep,
        first=first,
        model=run_recipe(first.run).model.name,
        header=sweep_words.header(sweep),
        rows=list(zip(sweep_words.rows(sweep), _pages(sweep), strict=True)),
        verdict=sweep_words.verdict(sweep),
        title=sweep_words.title(sweep),
        names=[sweep_words.name_of(sweep, entry) for entry in sweep.unjudged],
        notes=[note] if note else [],
        picture=_picture(sweep) if has_pareto(sweep) else "",
        counted=counted(sweep),
    )


def _picture(sweep: SweepResult) -> Markup:
    return Markup(inline_svg(partial(plot_pareto, sweep), "wdp-pareto", describe_pareto(sweep)))


def _pages(sweep: SweepResult) -> list[str]:
    """Where the page of each row's run is, as seen from the sweep's folder; "" where there is none."""
    runs = [row.run for row in sweep_words.rows(sweep)]
    return [Path(os.path.relpath(run / REPORT, sweep.folder)).as_posix() if run else "" for run in runs]
