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
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.timing import against_dense, export_model, used_share
from wdp_edge.run import Run
from wdp_edge.select.candidates import Allowed, Ranking, solve, solve_uniform, tilted_ranking
from wdp_edge.shrink.compensation import compensate
from wdp_edge.stages import Candidate, Round


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

    def close_loop(self, best: Trial, table: LatencyTable, dense: Path) -> tuple[Kept, float, list[Round]]:
        """Times the best structure, corrects the table by what is seen, and solves again until it fits.

        A file's latency does not depend on its weights' values, so this costs an export, not a training.
        What is returned has been measured: of those that fit the nearest to the aim, or the smallest where none does.
        """
        context, options = self.context, self.context.recipe.prune.select
        kept, rounds, tried = best.kept, list[Round](), list[tuple[float, Kept]]()
        limit, most = context.budget.resolve(table.dense_ms) * options.margin, 0.5 * (1 + options.margin)
        for number in range(options.rounds):
            small = cut(context.source, kept)
            path = self.run.path / "scratch" / f"round-{number}{context.tools.target.suffix}"
            export_model(context, small, path)
            measured = against_dense(context, dense, path, table.dense_ms)
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
        kept = nearest_within(tried, options.margin)
        return kept, table.predict(kept.structure(context.structure)), rounds


def nearest_within(tried: list[tuple[float, Kept]], aim: float) -> Kept:
    """tried: measured shares of the budget. Of those inside it the one nearest to `aim`, or else the smallest."""
    inside = [(abs(used - aim), kept) for used, kept in tried if used <= 1.0]
    return min(inside or tried, key=lambda pair: pair[0])[1]


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
