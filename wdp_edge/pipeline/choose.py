"""Stages that end with a structure: saliency, learning, selection with the loop closed on the device."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wdp_edge.cost.table import LatencyTable
from wdp_edge.errors import InputError
from wdp_edge.files import inner_path
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.search import SearchGoal, search
from wdp_edge.models.files import load, save
from wdp_edge.models.surgery import Kept
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.selection import Selection, allowed, best_of, depths_of, head_dims
from wdp_edge.pipeline.streams import train_stream
from wdp_edge.run import Run
from wdp_edge.select.candidates import (
    Narrow,
    Ranking,
    blended_ranking,
    learned_ranking,
    narrow_ranking,
    saliency_ranking,
    smallest,
)
from wdp_edge.shrink.axes import NarrowHeads, narrow_widths, principal_axes
from wdp_edge.shrink.saliency import Removal, Saliency, saliency
from wdp_edge.stages import Learned, Selected

SALIENCY_IMAGES = 1024
AXES_IMAGES = 512
# Channels of a head: what vector units and int8 kernels take without a remainder.
HEAD_MULTIPLE = 8


def saliency_stage(context: Context, run: Run) -> Saliency:
    """Removal order and cost of every head and hidden unit, from unlabelled images."""
    found = run.stage(
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
    blocks = context.structure.blocks
    widths = [(len(a.order), len(m.order)) for a, m in zip(found.heads, found.hidden, strict=False)]
    same = len(found.heads) == len(found.hidden) and widths == [(b.heads, b.hidden) for b in blocks]
    check_record(run, "saliency", same)
    return found


def check_record(run: Run, name: str, fits: bool) -> None:
    """Raises InputError for a stage's record that does not fit the model of its run."""
    if not fits:
        raise InputError(
            f"{run.path / 'stages' / name}.json is damaged: it does not fit the model.",
            "Restore the file or start a new run.",
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
    context.source = load(inner_path(run.path, turned.folder))
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
        task, compute, options = context.recipe.model.task, context.recipe.prune.compute, context.recipe.prune.learn
        goal = SearchGoal(cost, near.part_sum(context.structure), budget_ms, steps, task, compute)
        stream = train_stream(context, options.batch_size, first=0)
        return search(context.dense, masks, goal, options, stream, run.path / "stages" / "learn.checkpoint")

    learned = run.stage("learn", Learned, compute, together=True)
    blocks = context.structure.blocks
    check_record(
        run,
        "learn",
        [len(s) for s in learned.heads_scores] == [b.heads for b in blocks]
        and [len(s) for s in learned.hidden_scores] == [b.hidden for b in blocks],
    )
    return learned


def positions(removal: Removal) -> list[float]:
    """Scores to start from: each unit's place in the removal order, in (0, 1)."""
    count = len(removal.order)
    scores = [0.0] * count
    for place, unit in enumerate(removal.order):
        scores[unit] = (place + 0.5) / count
    return scores


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
        selection = Selection(context, run, rankings_of(start, narrow, learned, table))
        limit = context.budget.resolve(table.dense_ms) * context.recipe.prune.select.margin
        trials = selection.try_candidates(table, limit)
        best = best_of(trials)
        closed = selection.close_loop(best, table, dense)
        kept = closed.kept
        return Selected(
            kept_heads=[list(h) for h in kept.heads],
            kept_hidden=[list(n) for n in kept.hidden],
            predicted_ms=closed.expected_ms,
            candidates=[t.record(t is best) for t in trials],
            rounds=closed.rounds,
            seconds=time.monotonic() - began,
            head_dims=head_dims(kept),
            measured=closed.measured,
        )

    selected = run.stage("select", Selected, compute)
    blocks = context.structure.blocks
    depth = len(selected.kept_heads)
    fits = depth <= len(blocks) and all(
        max(heads, default=-1) < b.heads and max(hidden, default=-1) < b.hidden and width <= b.head_dim
        for heads, hidden, width, b in zip(
            selected.kept_heads, selected.kept_hidden, selected.head_dims or [0] * depth, blocks, strict=False
        )
    )
    check_record(run, "select", fits)
    return selected


def rankings_of(start: Saliency, narrow: Narrow, learned: Learned | None, table: LatencyTable) -> list[Ranking]:
    """The ways to choose that this run has, the one by saliency alone first."""
    rankings = [saliency_ranking(start)]
    if learned is not None:
        rankings += [learned_ranking(start, learned, table), blended_ranking(start, learned, table)]
    if narrow:
        rankings.append(narrow_ranking(start, narrow))
    return rankings


def kept_of(selected: Selected) -> Kept:
    channels = tuple(tuple(range(width)) for width in selected.head_dims) or None
    return Kept(tuple(map(tuple, selected.kept_heads)), tuple(map(tuple, selected.kept_hidden)), channels)


def learning_steps(context: Context) -> tuple[int, int]:
    """Steps of learning and of recovery that the images allow."""
    options: Any = context.recipe.prune
    images = context.images_budget()
    learn = round(images * options.learn.share) // options.learn.batch_size
    return learn, (images - learn * options.learn.batch_size) // options.recover.batch_size
