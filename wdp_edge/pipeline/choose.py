"""Stages that end with a structure: saliency, learning, selection with the loop closed on the device."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wdp_edge import progress
from wdp_edge.cost.table import LatencyTable
from wdp_edge.errors import InputError
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.exits import exit_depths
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.search import SearchGoal, search
from wdp_edge.models import vit
from wdp_edge.models.families import family_of
from wdp_edge.models.files import load, save
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.streams import train_stream
from wdp_edge.pipeline.timing import against_dense, export_model, used_share
from wdp_edge.run import Run
from wdp_edge.select.candidates import (
    Allowed,
    Narrow,
    Ranking,
    blended_ranking,
    learned_ranking,
    narrow_ranking,
    saliency_ranking,
    smallest,
    solve,
    solve_uniform,
    tilted_ranking,
)
from wdp_edge.shrink.axes import NarrowHeads, narrow_widths, principal_axes
from wdp_edge.shrink.compensation import compensate
from wdp_edge.shrink.saliency import Removal, Saliency, saliency
from wdp_edge.stages import Candidate, Learned, Round, Selected

SALIENCY_IMAGES = 1024
AXES_IMAGES = 512
# Channels of a head: what vector units and int8 kernels take without a remainder.
HEAD_MULTIPLE = 8


def saliency_stage(context: Context, run: Run) -> Saliency:
    """Removal order and cost of every head and hidden unit, from unlabelled images."""
    return run.stage(
        "saliency",
        Saliency,
        lambda: saliency(
            context.dense,
            context.calibration[:SALIENCY_IMAGES],
            context.prepare,
            context.recipe.prune.seed,
            run.path / "scratch",
            context.recipe.model.task,
        ),
    )


@dataclass(frozen=True)
class Turned:
    """Stage `axes`. folder: of the model in principal axes, in the run; narrow: what fewer channels cost, per block."""

    folder: str
    narrow: tuple[tuple[NarrowHeads, ...], ...]


def head_widths(context: Context) -> tuple[int, ...]:
    """Fewer channels that heads may get, rising; empty where the recipe or the model forbids it."""
    return narrow_widths(context.dense, HEAD_MULTIPLE) if context.recipe.prune.select.narrow_heads else ()


def axes_stage(context: Context, run: Run) -> tuple[tuple[NarrowHeads, ...], ...]:
    """Puts the model that is cut into principal axes. Returns what narrower heads cost; empty where none may be."""
    widths = head_widths(context)
    if not widths:
        return ()

    def compute() -> Turned:
        images, seed = context.calibration[:AXES_IMAGES], context.recipe.prune.seed
        scratch, task = run.path / "scratch", context.recipe.model.task
        turned, narrow = principal_axes(context.dense, images, context.prepare, seed, widths, scratch, task)
        save(turned, context.tools.spec, run.path / "stages" / "axes")
        return Turned("stages/axes", narrow)

    turned = run.stage("axes", Turned, compute)
    context.source = load(run.path / turned.folder)
    return turned.narrow


def check_reachable(context: Context, table: LatencyTable) -> float:
    """The budget in ms by the table. Raises InputError, saying what can be reached, when it is out of reach."""
    budget_ms = context.budget.resolve(table.dense_ms)
    depths = depths_of(context)
    least = smallest(context.structure, min(depths), allowed(context, context.recipe.prune.select.drop_sublayers))
    if widths := head_widths(context):
        least = replace(least, blocks=tuple(replace(b, head_dim=widths[0]) for b in least.blocks))
    reach = table.predict(least)
    if budget_ms < reach:
        raise InputError(
            f"The budget of {budget_ms:.3g} ms is below what the smallest structure reaches: about {reach:.3g} ms "
            f"({reach / table.dense_ms:.0%} of the dense model's {table.dense_ms:.3g} ms).",
            "Give a larger --latency-budget, a smaller model, or a faster precision.",
        )
    return budget_ms


def allowed(context: Context, drop: bool) -> Allowed:
    """Widths that the target takes."""
    return Allowed(context.tools.target.hidden_multiple, drop and family_of(context.dense).drops)


def depths_of(context: Context) -> list[int]:
    """Depths at which the model may end, deepest first.

    Where no classifier can be fitted to an exit, it must have the stream of the last block.
    """
    depth, dense = context.structure.depth, context.dense
    exits = exit_depths(depth, context.recipe.prune.learn.exits)
    return [depth, *(d for d in reversed(exits) if vit.has_classifier(dense) or vit.ends_alike(dense, d))]


def learn_stage(context: Context, run: Run, table: LatencyTable, start: Saliency, steps: int) -> Learned:
    """Scores and thresholds, learned under the budget."""

    def compute() -> Learned:
        torch.manual_seed(context.recipe.prune.seed)
        masks = Masks(
            context.structure,
            [positions(r) for r in start.heads],
            [positions(r) for r in start.hidden],
            Alignment(1, context.tools.target.hidden_multiple),
        )
        budget_ms = context.budget.resolve(table.dense_ms) * context.recipe.prune.select.margin
        near = table.around(budget_ms)
        cost = CostModel(near.attention, near.mlp, near.fixed_ms, near.scales)
        task = context.recipe.model.task
        goal = SearchGoal(cost, near.part_sum(context.structure), budget_ms, steps, task)
        options = context.recipe.prune.learn
        stream = train_stream(context, options.batch_size, first=0)
        return search(context.dense, masks, goal, options, stream, run.path / "stages" / "learn.checkpoint")

    return run.stage("learn", Learned, compute, together=True)


def positions(removal: Removal) -> list[float]:
    """Scores to start from: each unit's place in the removal order, in (0, 1)."""
    count = len(removal.order)
    scores = [0.0] * count
    for place, unit in enumerate(removal.order):
        scores[unit] = (place + 0.5) / count
    return scores


@dataclass(frozen=True)
class Plan:
    """A way to a structure. drop: sub-layers may be gone."""

    ranking: Ranking
    depth: int
    uniform: bool = False
    drop: bool = False

    @property
    def name(self) -> str:
        name = "uniform" if self.uniform else self.ranking.name
        return name + ", sub-layers dropped" * self.drop


@dataclass(frozen=True)
class Trial:
    """A candidate with its compensated model's closeness to the dense one on held-back images."""

    plan: Plan
    kept: Kept
    predicted_ms: float
    agreement: float
    divergence: float

    def record(self, chosen: bool) -> Candidate:
        return Candidate(
            name=self.plan.name,
            exit=self.plan.depth,
            heads=[len(h) for h in self.kept.heads],
            hidden=[len(n) for n in self.kept.hidden],
            predicted_ms=self.predicted_ms,
            agreement=self.agreement,
            divergence=self.divergence,
            chosen=chosen,
            head_dims=head_dims(self.kept),
        )


class Selection:
    """Selection for one run: candidates are compensated, judged on held-back images, and the best is timed."""

    def __init__(self, context: Context, run: Run, rankings: list[Ranking]) -> None:
        self.context, self.run, self.rankings = context, run, rankings

    def keep(self, plan: Plan, table: LatencyTable, limit_ms: float) -> Kept | None:
        solver = solve_uniform if plan.uniform else solve
        widths = allowed(self.context, plan.drop)
        return solver(plan.ranking, self.context.structure, plan.depth, table, limit_ms, widths)

    def try_candidates(self, table: LatencyTable, limit_ms: float) -> list[Trial]:
        """All rankings at full depth, the best of them tilted, that without some sub-layers, and at earlier exits."""
        depths = depths_of(self.context)
        select = self.context.recipe.prune.select
        plans = [Plan(r, depths[0]) for r in self.rankings] + [Plan(self.rankings[0], depths[0], uniform=True)]
        tilts = [select.tilt / 2, select.tilt] if select.tilt else []
        trials: list[Trial] = []
        count = len(plans) + len(tilts) + select.drop_sublayers + len(depths) - 1
        with progress.task("compare candidates", count) as advance:

            def attempt(plan: Plan) -> None:
                kept = self.keep(plan, table, limit_ms)
                if kept is not None and all(kept != t.kept for t in trials):
                    trials.append(self.judge(plan, kept, table))
                advance(1)

            for plan in plans:
                attempt(plan)
            start = best_plan(trials, plans[0]).ranking
            for by in tilts:
                attempt(Plan(tilted_ranking(start, by), depths[0]))
            if select.drop_sublayers:
                attempt(replace(best_plan(trials, plans[0]), uniform=False, drop=True))
            for depth in depths[1:]:
                attempt(replace(best_plan(trials, plans[0]), depth=depth))
        if not trials:
            raise InputError(
                f"No structure fits into {limit_ms:.3g} ms by the latency table.",
                "Give a larger --latency-budget.",
            )
        return trials

    def judge(self, plan: Plan, kept: Kept, table: LatencyTable) -> Trial:
        """The candidate, compensated."""
        context = self.context
        small = cut(context.source, kept)
        images = context.calibration[: context.recipe.prune.select.calibration_images]
        title = f"{plan.name}, exit {plan.depth}"
        compensate(context.dense, small, images, context.prepare, self.run.path / "scratch", title)
        outputs = context.quick_outputs(small, context.holdout[0])
        teacher = context.holdout_teacher
        return Trial(
            plan=plan,
            kept=kept,
            predicted_ms=table.predict(kept.structure(context.structure)),
            agreement=context.task.agreement(teacher, outputs),
            divergence=float(context.task.divergence(outputs, teacher)),
        )

    def close_loop(self, best: Trial, table: LatencyTable, dense: Path) -> tuple[Kept, float, list[Round]]:
        """Times the best structure, corrects the table by what is seen, and solves again until it fits.

        A file's latency does not depend on its weights' values, so this costs an export, not a training.
        What is returned has been measured: the largest that fits, or the smallest where none does.
        """
        context, options = self.context, self.context.recipe.prune.select
        kept, rounds, tried = best.kept, list[Round](), list[tuple[float, Kept]]()
        limit, most = context.budget.resolve(table.dense_ms) * options.margin, 0.5 * (1 + options.margin)
        for number in range(options.rounds):
            small = cut(context.source, kept)
            path = self.run.path / "scratch" / f"round-{number}{context.tools.target.suffix}"
            export_model(context, small, path)
            measured = against_dense(context, dense, path)
            path.unlink()
            predicted = table.predict(kept.structure(context.structure))
            used = used_share(measured, context.budget)
            seen = used * context.budget.resolve(table.dense_ms)
            correction = seen / predicted
            rounds.append(Round(predicted, measured.shipped.p50, measured.dense.p50, measured.budget_ms, correction))
            progress.say(f"structure takes {used:.1%} of the budget (predicted {predicted:.3g} ms, seen {seen:.3g} ms)")
            tried.append((used, kept))
            table = table.corrected(correction)
            again = self.keep(best.plan, table, limit)
            if options.floor <= used <= most or again is None or again == kept:
                break
            kept = again
        kept = largest_within(tried, most)
        return kept, table.predict(kept.structure(context.structure)), rounds


def largest_within(tried: list[tuple[float, Kept]], most: float) -> Kept:
    """tried: measured shares of the budget. The one that uses most of it up to `most`, or else the smallest."""
    shares = [used for used, _ in tried]
    fitting = [used for used in shares if used <= most]
    return tried[shares.index(max(fitting) if fitting else min(shares))][1]


def best_plan(trials: list[Trial], otherwise: Plan) -> Plan:
    """The plan of the trial nearest to the dense model."""
    return min(trials, key=lambda t: t.divergence).plan if trials else otherwise


def select_stage(
    context: Context,
    run: Run,
    table: LatencyTable,
    start: Saliency,
    narrow: Narrow,
    learned: Learned | None,
    dense: Path,
) -> Selected:
    """Widths per block and exit together."""

    def compute() -> Selected:
        began = time.monotonic()
        rankings = [saliency_ranking(start)]
        if learned is not None:
            rankings += [learned_ranking(start, learned, table), blended_ranking(start, learned, table)]
        if narrow:
            rankings.append(narrow_ranking(start, narrow))
        selection = Selection(context, run, rankings)
        limit = context.budget.resolve(table.dense_ms) * context.recipe.prune.select.margin
        trials = selection.try_candidates(table, limit)
        best = min(trials, key=lambda t: t.divergence)
        kept, predicted, rounds = selection.close_loop(best, table, dense)
        return Selected(
            kept_heads=[list(h) for h in kept.heads],
            kept_hidden=[list(n) for n in kept.hidden],
            predicted_ms=predicted,
            candidates=[t.record(t is best) for t in trials],
            rounds=rounds,
            seconds=time.monotonic() - began,
            head_dims=head_dims(kept),
        )

    return run.stage("select", Selected, compute)


def kept_of(selected: Selected) -> Kept:
    channels = tuple(tuple(range(width)) for width in selected.head_dims) or None
    return Kept(tuple(map(tuple, selected.kept_heads)), tuple(map(tuple, selected.kept_hidden)), channels)


def head_dims(kept: Kept) -> list[int]:
    """Channels of each block's heads; empty where all stay."""
    return [len(channels) for channels in kept.head_channels or ()]


def learning_steps(context: Context) -> tuple[int, int]:
    """Steps of learning and of recovery that the images allow."""
    options: Any = context.recipe.prune
    images = context.images_budget()
    learn = round(images * options.learn.share) // options.learn.batch_size
    return learn, (images - learn * options.learn.batch_size) // options.recover.batch_size
