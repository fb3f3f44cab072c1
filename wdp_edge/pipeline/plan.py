"""How a recipe wants files timed."""

from __future__ import annotations

from wdp_edge.device import TimingPlan
from wdp_edge.numbers import parse_cpus
from wdp_edge.recipe import PruneRecipe


def timing_plan(prune: PruneRecipe) -> TimingPlan:
    """Threads, cores, warm-up and rests of the recipe; rounds and runs are the caller's to set."""
    timing = prune.timing
    return TimingPlan(
        warmup=timing.warmup,
        threads=prune.threads,
        cpus=parse_cpus(timing.cpus),
        cooldown_seconds=timing.cooldown_seconds,
    )
