"""Candidates for a structure, judged on held-back images, and the loop closed on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.cost.table import LatencyTable
from wdp_edge.errors import InputError
from wdp_edge.learn.exits import exits_of
from wdp_edge.models import vit
from wdp_edge.models.families import family_of
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.pipeline.closing import TimedFiles, goal_of
from wdp_edge.pipeline.context import Context
from wdp_edge.run import Run
from wdp_edge.select.bracket import best as nearest
from wdp_edge.select.bracket import bracket
from wdp_edge.select.candidates import Allowed, Ranking, solve, solve_uniform, tilted_ranking
from wdp_edge.shrink.compensation import compensate
from wdp_edge.stages import Candidate, Measured, Round
from wdp_edge.structure import Structure


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

    def keep(self, plan: Plan, table: LatencyTable, limit_ms: float, like: Structure | None = None) -> Kept | None:
        """like: see `solve`."""
        dense, widths = self.context.structure, allowed(self.context, plan.drop)
        if plan.uniform and like is None:
            return solve_uniform(plan.ranking, dense, plan.depth, table, limit_ms, widths)
        return solve(plan.ranking, dense, plan.depth, table, limit_ms, widths, like)

    def try_candidates(self, table: LatencyTable, limit_ms: float) -> list[Trial]:
        """All rankings at full depth; the best of them tilted, without some sub-layers, and at earlier exits.

        Tilts and exits are tried in turn until one is no better than what there is.
        """
        full, *earlier = depths_of(self.context)
        select = self.context.recipe.prune.select
        first = [Plan(r, full) for r in self.rankings] + [Plan(self.rankings[0], full, uniform=True)]
        tilts = [select.tilt / 2, select.tilt] if select.tilt else []
        trials: list[Trial] = []
        count = len(first) + len(tilts) + select.drop_sublayers + len(earlier)
        with progress.task("compare candidates", count) as advance:

            def attempt(plan: Plan) -> bool:
                """True where the plan gives a new structure that is no better than the best so far."""
                kept = self.keep(plan, table, limit_ms)
                new = kept is not None and all(kept != t.kept for t in trials)
                if kept is not None and new:
                    trials.append(self.judge(plan, kept, table))
                advance(1)
                return new and best_of(trials) is not trials[-1]

            def start() -> Plan:
                return best_of(trials).plan if trials else first[0]

            for plan in first:
                attempt(plan)
            for plan in [Plan(tilted_ranking(start().ranking, by), full) for by in tilts]:
                if attempt(plan):
                    break
            if select.drop_sublayers:
                attempt(replace(start(), uniform=False, drop=True))
            for plan in [replace(start(), depth=depth) for depth in earlier]:
                if attempt(plan):
                    break
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

    def close_loop(self, best: Trial, table: LatencyTable, dense: Path) -> Closed:
        """Times the best structure and others between what fits and what does not, until one is inside the budget.

        A file's latency does not depend on its weights' values, so this costs exports, not a training. What is
        returned has been measured.
        """
        context, goal = self.context, goal_of(self.context, table)

        def propose(limit_ms: float, like: Structure | None) -> Kept | None:
            return self.keep(best.plan, table, limit_ms, like)

        with TimedFiles(context, table, context.source, propose, dense, self.run.path / "scratch") as device:
            seen = bracket(device, best.kept, goal)
            chosen = nearest(seen, goal)
            timed = device.measured[chosen.structure]
            return Closed(chosen.kept, chosen.used * goal.budget_ms, device.rounds(seen, goal), timed)


@dataclass(frozen=True)
class Closed:
    """What the loop on the device ends with. expected_ms: what it takes, where the dense model takes the table's.

    measured: all timings of it.
    """

    kept: Kept
    expected_ms: float
    rounds: list[Round]
    measured: list[Measured]


def best_of(trials: list[Trial]) -> Trial:
    """The first of those nearest to the dense model."""
    return min(trials, key=lambda t: t.divergence)


def allowed(context: Context, drop: bool) -> Allowed:
    """Widths that the target takes."""
    return Allowed(context.tools.target.hidden_multiple, drop and family_of(context.dense).drops)


def depths_of(context: Context) -> list[int]:
    """Depths at which the model may end, deepest first.

    Where no classifier can be fitted to an exit, it must have the stream of the last block.
    """
    depth, dense = context.structure.depth, context.dense
    exits = exits_of(dense, context.recipe.prune.learn.exits)
    return [depth, *(d for d in reversed(exits) if vit.has_classifier(dense) or vit.ends_alike(dense, d))]


def head_dims(kept: Kept) -> list[int]:
    """Channels of each block's heads; empty where all stay."""
    return [len(channels) for channels in kept.head_channels or ()]
