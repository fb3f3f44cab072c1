"""What leads to a structure: saliency, principal axes, learned scores, and the choice among candidates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from wdp_edge.config.recipe import PruneRecipe, SelectRecipe
from wdp_edge.cost.table import LatencyTable
from wdp_edge.errors import UnreachableBudget
from wdp_edge.learn.exits import depths_of
from wdp_edge.models.files import save
from wdp_edge.models.spec import ModelSpec
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.models.surgery import Kept
from wdp_edge.pruning.bench import Bench
from wdp_edge.pruning.data import Data
from wdp_edge.pruning.inputs import DenseModel
from wdp_edge.pruning.selection import Selection, allowed, best_of, head_dims
from wdp_edge.runs.stages import Learned, Selected
from wdp_edge.select.candidates import smallest
from wdp_edge.select.rankings import (
    Narrow,
    Ranking,
    blended_ranking,
    exact_ranking,
    learned_ranking,
    narrow_ranking,
    saliency_ranking,
)
from wdp_edge.shrink.axes import NarrowHeads, narrow_widths, principal_axes
from wdp_edge.shrink.enough import Need
from wdp_edge.shrink.saliency import Saliency, fisher, saliency
from wdp_edge.workers.parallel import world

# At 224 px the Fisher information of 128 images correlates with that of 256 by 0.99 in every sub-layer (logarithms).
FISHER = Need(512, 6.0, 128)
SALIENCY = Need(1024, 12.0, 512)
AXES = Need(512, 6.0, 256)
# Channels of a head: what vector units and int8 kernels take without a remainder.
HEAD_MULTIPLE = 8
# Steps, not images, are what thresholds need; batches get smaller first.
ENOUGH_STEPS, SMALLEST_BATCH = 150, 8
# Of all training images, those that a model sees once more that was cut again.
TIGHTEN_SHARE = 0.15


@dataclass(frozen=True)
class Turned:
    """Stage `axes`. folder: of the model in principal axes, in the run, "" where none was made; narrow: what fewer
    channels cost, per block."""

    folder: str = ""
    narrow: tuple[tuple[NarrowHeads, ...], ...] = ()


@dataclass(frozen=True)
class Information:
    """What an error of each channel of a model's stream matters: `fisher`, computed where it is first asked for."""

    model: nn.Module
    data: Data

    @cached_property
    def sublayers(self) -> list[Tensor]:
        data = self.data
        return fisher(self.model, self.images(FISHER), data.prepare, data.seed, data.task.facts.name)

    def images(self, need: Need) -> Tensor:
        """Calibration images: [n, 3, H, W] uint8."""
        return self.data.calibration[: need.images(self.model)]


def importance_of(information: Information, scratch: Path, need: Need = SALIENCY) -> Saliency:
    """Importance of every head and hidden unit, from unlabelled images."""
    images, prepare = information.images(need), information.data.prepare
    return saliency(information.model, images, prepare, information.sublayers, scratch)


def head_widths(model: nn.Module, options: SelectRecipe) -> tuple[int, ...]:
    """Fewer channels that heads may get, rising; empty where the recipe or the model forbids it."""
    return narrow_widths(model, HEAD_MULTIPLE) if options.narrow_heads else ()


def turned_model(spec: ModelSpec, information: Information, widths: tuple[int, ...], run: Path) -> Turned:
    """The model in principal axes, in which narrower heads are cut. widths: from `head_widths`."""
    images, prepare, scratch = information.images(AXES), information.data.prepare, run / "scratch"
    turned, narrow = principal_axes(information.model, images, prepare, information.sublayers, widths, scratch)
    save(turned, spec, run / "stages" / "axes")
    return Turned("stages/axes", narrow)


def check_reachable(bench: Bench, model: DenseModel, options: PruneRecipe) -> None:
    """Raises UnreachableBudget, saying what can be reached, when the budget is out of reach by the table."""
    select, dense, table = options.select, model.module, bench.table
    multiple, budget_ms = bench.tools.target.mlp_width_multiple, bench.goal.budget_ms
    depth = min(depths_of(dense, options.learn.exits, select.exit))
    least = smallest(model.structure, depth, allowed(dense, multiple, select.drop_sublayers))
    if widths := head_widths(dense, select):
        least = replace(least, blocks=tuple(replace(b, head_dim=widths[0]) for b in least.blocks))
    reach = table.predict(least)
    if budget_ms < reach:
        share = f" ({reach / table.dense_ms:.0%} of the dense model's {table.dense_ms:.3g} ms)" if bench.timed else ""
        raise UnreachableBudget(
            f"The budget of {table.amount(budget_ms)} is below what the smallest structure reaches: about "
            f"{table.amount(reach)}{share}.",
            "Give a larger --latency-budget, a smaller model, or a faster precision."
            if bench.timed
            else "Give a larger budget, or a smaller model.",
        )


def selected_structure(selection: Selection, rankings: Sequence[Ranking]) -> Selected:
    """Widths per block and exit together: the best candidate, and what is inside the budget next to it."""
    began, bench = time.monotonic(), selection.bench
    trials = selection.try_candidates(rankings, bench.aim(selection.options.margin))
    best = best_of(trials)

    def propose(limit_ms: float, like: Structure | None) -> Kept | None:
        return selection.keep(best.plan, limit_ms, like)

    found = bench.find(selection.source, propose, best.kept)
    if found is None:
        raise UnreachableBudget(
            f"No structure fits into {bench.table.amount(bench.goal.budget_ms)}.", "Give a larger budget."
        )
    kept = found.chosen.kept
    return Selected(
        kept_heads=[list(h) for h in kept.heads],
        kept_hidden=[list(n) for n in kept.hidden],
        predicted_ms=found.chosen.used * bench.goal.budget_ms,
        candidates=[t.record(t is best) for t in trials],
        rounds=found.rounds,
        seconds=time.monotonic() - began,
        head_dims=head_dims(kept),
        measured=found.measured,
    )


def rankings_of(start: Saliency, narrow: Narrow, learned: Learned | None, table: LatencyTable) -> list[Ranking]:
    """The ways to choose that this run has, the one by saliency alone first."""
    rankings = [saliency_ranking(start)]
    if learned is not None and learned.reached:
        ways = learned_ranking, exact_ranking, blended_ranking
        rankings += [ranking(start, learned, table, narrow if learned.keep_channels else ()) for ranking in ways]
    if narrow:
        rankings.append(narrow_ranking(start, narrow))
    return rankings


def kept_of(selected: Selected) -> Kept:
    channels = tuple(tuple(range(width)) for width in selected.head_dims) or None
    return Kept(tuple(map(tuple, selected.kept_heads)), tuple(map(tuple, selected.kept_hidden)), channels)


def fits(record: Saliency | Learned | Selected, blocks: Sequence[BlockWidths]) -> bool:
    """Whether a record is of a model with these blocks."""
    if isinstance(record, Selected):
        depth = len(record.kept_heads)
        kept = zip(record.kept_heads, record.kept_hidden, record.head_dims or [0] * depth, blocks, strict=False)
        return depth <= len(blocks) and all(
            max(heads, default=-1) < b.heads and max(hidden, default=-1) < b.hidden and width <= b.head_dim
            for heads, hidden, width, b in kept
        )
    if isinstance(record, Learned):
        heads, hidden = [len(s) for s in record.heads_scores], [len(s) for s in record.hidden_scores]
    else:
        heads, hidden = [len(r.order) for r in record.heads], [len(r.order) for r in record.hidden]
    return heads == [b.heads for b in blocks] and hidden == [b.hidden for b in blocks]


@dataclass(frozen=True)
class Steps:
    """Optimiser steps of learning, of recovery, and of another recovery after a cut that follows.

    learn_batch: images per step of learning.
    """

    learn: int
    recover: int
    tighten: int
    learn_batch: int


def steps_of(prune: PruneRecipe, images: int) -> Steps:
    """Steps that the recipe allows. images: how many there are to learn on."""
    seen = round(prune.epochs * images) if prune.epochs else prune.images
    wanted = round(seen * prune.learn.share)
    learn_batch = search_batch(wanted, prune.learn.batch_size)
    learn = wanted // learn_batch
    left = seen - learn * learn_batch
    batch = prune.recover.batch_size
    return Steps(learn, left // batch, round(TIGHTEN_SHARE * seen) // batch, learn_batch)


def search_batch(images: int, most: int) -> int:
    """Images per step of a search that sees `images` in all: `most`, halved until the steps are enough."""
    batch = most
    while images // batch < ENOUGH_STEPS and batch % (2 * world().size) == 0 and batch // 2 >= SMALLEST_BATCH:
        batch //= 2
    return batch
