"""How well the latency table predicts what selection chooses: predicted against measured.

    python benchmarks/bench_table.py --project FOLDER --structures 40

Structures are drawn from all that `wdp_edge.pruning.selection` can return for the project's model: every ranking,
tilt, exit and dropped sub-layer, at 20 to 90 % of the dense model's latency. Goal: 3 % in the median, 7 % at worst.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import absolute_paths, load_recipe
from wdp_edge.config.recipe import Recipe
from wdp_edge.config.values import parse_budget
from wdp_edge.cost.measure import export_all, measure_table
from wdp_edge.cost.table import LatencyTable
from wdp_edge.demo.run import SHORT, demo_project
from wdp_edge.io.files import write_json
from wdp_edge.learn.exits import depths_of
from wdp_edge.models.files import load
from wdp_edge.models.structure import Structure
from wdp_edge.protocols.device import ratio
from wdp_edge.pruning import choose
from wdp_edge.pruning.bench import Bench, goal_of
from wdp_edge.pruning.inputs import Inputs
from wdp_edge.pruning.selection import Plan, Selection
from wdp_edge.pruning.widths import Beginning, learned_scores
from wdp_edge.runs.run import Run
from wdp_edge.runs.stages import Learned
from wdp_edge.select.rankings import Ranking, tilted_ranking
from wdp_edge.shrink.saliency import Saliency

SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
GOAL_MEDIAN, GOAL_WORST = 0.03, 0.07
# What masks are learned for where the recipe names no budget.
LEARNED_AT = "50%"


@dataclass(frozen=True)
class Drawn:
    """A structure that selection returns for `share` of the dense model's latency. plan: its name and exit."""

    structure: Structure
    share: float
    plan: str


@dataclass(frozen=True)
class Row:
    """predicted, measured: as shares of the dense model, timed in the same rounds."""

    drawn: Drawn
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", type=Path, default=Path("build/table/demo"), help="made where it is not there")
    parser.add_argument("--folder", type=Path, default=Path("build/table"), help="what is done there is not repeated")
    parser.add_argument("--target", default=None)
    parser.add_argument("--precision", default=None)
    parser.add_argument("--structures", type=int, default=40)
    parser.add_argument("--sessions", type=int, default=3, help="processes that time everything, one after another")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The project's recipe, with a run of its own; the demo's project where there is none."""
    if not (args.project / RECIPE_FILE).exists():
        demo_project(args.project, SHORT)
    recipe = absolute_paths(load_recipe(args.project / RECIPE_FILE))
    target, precision = args.target or recipe.prune.target, args.precision or recipe.prune.precision
    out = (args.folder / f"run-{target}-{precision}").resolve()
    own = replace(recipe.prune, target=target, precision=precision, out=str(out), images=SHORT.images)
    if not own.latency_budget:
        own = replace(own, latency_budget=LEARNED_AT)
    return replace(recipe, prune=own)


def main() -> None:
    """Table and drawn structures, measured; then predicted against measured."""
    args = arguments()
    progress.use(progress.Bars())
    recipe = recipe_of(args)
    inputs = Inputs.of(recipe)
    tools, model = inputs.tools, inputs.model
    with Run(Path(recipe.prune.out), recipe) as run, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dense = folder / f"dense{tools.target.suffix}"
        export(inputs, [(model.structure, dense)], "dense model: export")
        wanted = tools.table_setting(model.spec, model.structure, recipe.prune.table)
        table = run.stage("table", LatencyTable, lambda: measure_table(wanted, folder / "cache", dense))
        drawn = draw(inputs, run, bench_of(inputs, run, table, dense), args.structures, args.seed)
        measured = measure(inputs, drawn, dense, args.sessions)
        rows = [
            Row(d, table.predict(d.structure) / table.dense_ms, share) for d, share in zip(drawn, measured, strict=True)
        ]
        write_json(run.path / "rows.json", rows)
    show(inputs, rows)


def bench_of(inputs: Inputs, run: Run, table: LatencyTable, dense: Path) -> Bench:
    """As in a run of the recipe's budget."""
    budget = parse_budget(inputs.recipe.prune.latency_budget)
    goal = goal_of(inputs.recipe.prune.select, budget.resolve(table.dense_ms))
    return Bench(inputs.tools, inputs.data, budget, goal, table, dense, run.path / "scratch")


def draw(inputs: Inputs, run: Run, bench: Bench, count: int, seed: int) -> list[Drawn]:
    """Different structures, from every share in turn: `count` of them, or as many as were found."""
    model, data, options, table = inputs.model, inputs.data, inputs.recipe.prune, bench.table
    information = choose.Information(model.module, data)
    importance = run.stage("saliency", Saliency, partial(choose.importance_of, information, bench.scratch))
    turned = choose.Turned()
    if widths := choose.head_widths(model.module, options.select):
        turned = run.stage(
            "axes", choose.Turned, partial(choose.turned_model, model.spec, information, widths, run.path)
        )
    source = load(run.path / turned.folder) if turned.folder else model.module
    steps = choose.steps_of(options, len(data.train_indices))
    beginning = Beginning(choose.rankings_of(importance, turned.narrow, None, table)[-1], options, steps)
    learn = partial(learned_scores, bench, source, beginning, run.path)
    rankings = choose.rankings_of(importance, turned.narrow, run.stage("learn", Learned, learn, together=True), table)
    depths = depths_of(model.module, options.learn.exits)
    # Nothing is cut or judged here.
    selection = Selection(bench, inputs.held_back, source, options.select, depths, 0.0)
    plans = list(every_plan(selection, rankings))
    rng = random.Random(seed)
    drawn: dict[Structure, Drawn] = {}
    with progress.task("draw structures", count) as advance:
        # A small model has fewer structures than may be asked for.
        for share in islice(cycle(SHARES), 20 * count):
            if len(drawn) == count:
                break
            plan = rng.choice(plans)
            kept = selection.keep(plan, share * table.dense_ms)
            structure = kept.structure(model.structure) if kept is not None else None
            if structure is not None and structure not in drawn:
                drawn[structure] = Drawn(structure, share, f"{plan.name}, exit {plan.depth}")
                advance(1)
    return list(drawn.values())


def every_plan(selection: Selection, rankings: Sequence[Ranking]) -> Iterator[Plan]:
    """All that `Selection.try_candidates` may come to try."""
    select = selection.options
    tilts = [0.0, select.tilt / 2, select.tilt] if select.tilt else [0.0]
    drops = [False, True] if select.drop_sublayers else [False]
    for depth in selection.depths:
        yield Plan(rankings[0], depth, uniform=True)
        for ranking, tilt, drop in product(rankings, tilts, drops):
            yield Plan(tilted_ranking(ranking, tilt) if tilt else ranking, depth, drop=drop)


def measure(inputs: Inputs, drawn: Sequence[Drawn], dense: Path, sessions: int) -> list[float]:
    """Latency of every structure as a share of the dense model's, the median over sessions."""
    tools = inputs.tools
    plan = tools.plan
    paths = [dense.with_name(f"{i}{tools.target.suffix}") for i in range(len(drawn))]
    export(inputs, list(zip([d.structure for d in drawn], paths, strict=True)), "drawn structures: export")
    with progress.task("drawn structures: time", sessions * plan.rounds) as advance:
        timed = [
            tools.device.time(tools.target.name, [dense, *paths], plan, lambda done, total: advance(1))
            for _ in range(sessions)
        ]
    return [statistics.median(ratio(t[i + 1], t[0]) for t in timed) for i in range(len(drawn))]


def export(inputs: Inputs, jobs: list[tuple[Structure, Path]], title: str) -> None:
    """Files with random weights: latency does not depend on them."""
    tools = inputs.tools
    export_all(inputs.model.spec, tools.target, tools.precision, jobs, title)


def show(inputs: Inputs, rows: Sequence[Row]) -> None:
    """One line for each structure, and the errors."""
    tools, spec = inputs.tools, inputs.model.spec
    print(f"{spec.name} {dict(spec.args)}, {tools.target.name} {tools.precision}")
    print(f"{'drawn as':48s}  heads  channels  hidden  gone  predicted  measured   error")
    for row in sorted(rows, key=lambda r: r.measured):
        blocks = row.drawn.structure.blocks
        heads, hidden = sum(b.heads for b in blocks), sum(b.hidden for b in blocks)
        channels = sum(b.heads * b.head_dim for b in blocks)
        gone = sum(b.heads == 0 for b in blocks) + sum(b.hidden == 0 for b in blocks)
        print(
            f"{row.drawn.plan:48s} {heads:6d} {channels:9d} {hidden:7d} {gone:5d} {row.predicted:10.1%} "
            f"{row.measured:9.1%} {row.error:+8.1%}"
        )
    errors = [abs(r.error) for r in rows]
    median, worst = statistics.median(errors), max(errors)
    print(f"{len(rows)} structures: median {median:.1%} (goal {GOAL_MEDIAN:.0%}), worst {worst:.1%} ({GOAL_WORST:.0%})")


if __name__ == "__main__":
    main()
