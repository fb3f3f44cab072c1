"""Candidates for a structure: found by different rankings, compensated, and judged on held-back images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from wdp_edge import progress
from wdp_edge.config.recipe import SelectRecipe
from wdp_edge.errors import UnreachableBudget
from wdp_edge.models.families import family_of
from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.pruning.bench import Bench
from wdp_edge.pruning.inputs import HeldBack
from wdp_edge.runs.stages import Candidate
from wdp_edge.select.candidates import Allowed, solve, solve_shares, solve_uniform
from wdp_edge.select.rankings import Ranking, tilted_ranking
from wdp_edge.shrink.compensation import refit
from wdp_edge.shrink.enough import Need
from wdp_edge.shrink.streams import DenseStream, recordable

# Candidates are compared with each other, not shipped.
_SAMPLES, _FEWEST = 6.0, 256
# Divergence against the best one's, up to which rankings may change places where the model ends earlier.
_NEAR = 1.25


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
    """A candidate with its compensated model's closeness to the dense one on held-back images.

    temperature: of the divergence.
    """

    plan: Plan
    kept: Kept
    predicted_ms: float
    agreement: float
    divergence: float
    temperature: float = 1.0

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
            temperature=self.temperature,
        )


@dataclass(frozen=True)
class Selection:
    """What candidates are made of and judged by.

    source: the model that is cut. depths: at which the model may end, from `wdp_edge.learn.exits.depths_of`. room:
    bytes of disk for the dense stream.
    """

    bench: Bench
    held_back: HeldBack
    source: nn.Module
    options: SelectRecipe
    depths: Sequence[int]
    room: float

    def keep(self, plan: Plan, limit_ms: float, like: Structure | None = None) -> Kept | None:
        """like: see `solve`."""
        dense, table = self.held_back.model, self.bench.table
        widths = allowed(dense.module, self.bench.tools.target.mlp_width_multiple, plan.drop)
        if plan.ranking.shares and not plan.drop:
            return solve_shares(plan.ranking, dense.structure, plan.depth, table, limit_ms, widths, like)
        if plan.uniform and like is None:
            return solve_uniform(plan.ranking, dense.structure, plan.depth, table, limit_ms, widths)
        return solve(plan.ranking, dense.structure, plan.depth, table, limit_ms, widths, like)

    def try_candidates(self, rankings: Sequence[Ranking], limit_ms: float) -> list[Trial]:
        """All rankings at full depth; the best of them tilted, without some sub-layers, and at earlier exits.

        Tilts are tried in turn until one is no better than what there is, and exits until none of a depth is. Where the
        best ranking's exit comes near, so may another ranking's win: those near the best are tried there too.
        """
        (full, *earlier), options = self.depths, self.options
        first = [Plan(r, full) for r in rankings] + [Plan(rankings[0], full, uniform=True)]
        tilts = [options.tilt / 2, options.tilt] if options.tilt else []
        count = len(first) + len(tilts) + options.drop_sublayers + len(earlier)
        with self.dense_stream() as stream, progress.task("compare candidates", count) as advance:
            tried = _Tried(self, limit_ms, stream)
            for plan in first:
                tried.attempt(plan)
                advance(1)
            start = tried.best.plan if tried.trials else first[0]
            for plan in [Plan(tilted_ranking(start.ranking, by), full) for by in tilts]:
                trial = tried.attempt(plan)
                advance(1)
                if trial and trial is not tried.best:
                    break
            if options.drop_sublayers:
                start = tried.best.plan if tried.trials else first[0]
                tried.attempt(replace(start, uniform=False, drop=True))
                advance(1)
            for depth in earlier if tried.trials else []:
                tried.exits(depth)
                advance(1)
                if tried.best.plan.depth != depth:
                    break
        if not tried.trials:
            raise UnreachableBudget(
                f"No structure fits into {self.bench.table.amount(limit_ms)} by the table.", "Give a larger budget."
            )
        return tried.trials

    def dense_stream(self) -> DenseStream:
        """The dense model's, which all candidates are fitted to: kept where the disk has room for it."""
        data, dense = self.held_back.data, self.held_back.model.module
        images = data.calibration[: compared_images(dense, self.options)]
        keep = recordable(dense, len(images), self.room)
        return DenseStream(dense, images, data.prepare, self.bench.scratch, keep)

    def judge(self, plan: Plan, kept: Kept, stream: DenseStream) -> Trial:
        """The candidate, compensated on the images of the dense stream."""
        held_back = self.held_back
        small = cut(self.source, kept)
        refit(stream, small, self.bench.scratch, f"{plan.name}, exit {plan.depth}")
        outputs = held_back.outputs(small)
        return Trial(
            plan=plan,
            kept=kept,
            predicted_ms=self.bench.table.predict(kept.structure(held_back.model.structure)),
            agreement=held_back.data.task.agreement(held_back.teacher, outputs),
            divergence=held_back.divergence(outputs),
            temperature=held_back.temperature,
        )


@dataclass
class _Tried:
    """Candidates that were compared so far."""

    selection: Selection
    limit_ms: float
    stream: DenseStream
    trials: list[Trial] = field(default_factory=list)

    @property
    def best(self) -> Trial:
        return best_of(self.trials)

    def attempt(self, plan: Plan) -> Trial | None:
        """None where the plan has no structure, or one that was tried."""
        kept = self.selection.keep(plan, self.limit_ms)
        if kept is None or any(kept == trial.kept for trial in self.trials):
            return None
        self.trials.append(self.selection.judge(plan, kept, self.stream))
        return self.trials[-1]

    def exits(self, depth: int) -> None:
        """The best plan with an exit there; where that is near the best, other plans that are near it too."""
        best = self.best
        near = [t.plan for t in self.trials if t is not best and t.plan.depth == best.plan.depth and _near(t, best)]
        trial = self.attempt(replace(best.plan, depth=depth))
        for plan in near if trial and _near(trial, self.best) else []:
            self.attempt(replace(plan, depth=depth))


def _near(trial: Trial, best: Trial) -> bool:
    return trial.divergence <= _NEAR * best.divergence


def compared_images(dense: nn.Module, options: SelectRecipe) -> int:
    """How many images each candidate is compensated on."""
    return Need(options.calibration_images, _SAMPLES, _FEWEST).images(dense)


def best_of(trials: list[Trial]) -> Trial:
    """The first of those nearest to the dense model."""
    return min(trials, key=lambda t: t.divergence)


def allowed(model: nn.Module, multiple: int, drop: bool) -> Allowed:
    """Widths that the target takes. drop: sub-layers may be gone, where the model's family allows it."""
    return Allowed(multiple, drop and family_of(model).drops)


def head_dims(kept: Kept) -> list[int]:
    """Channels of each block's heads; empty where all stay."""
    return [len(channels) for channels in kept.head_channels or ()]
