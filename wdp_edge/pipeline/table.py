"""The latency table of a recipe: measured, or read from the cache."""

from __future__ import annotations

from wdp_edge.cost.table import LatencyTable
from wdp_edge.models import vit
from wdp_edge.models.spec import create
from wdp_edge.pipeline.context import Toolkit
from wdp_edge.pipeline.timing import latency_table
from wdp_edge.recipe import Recipe
from wdp_edge.target import check_timed


def table(recipe: Recipe) -> LatencyTable:
    """Needs [model] without its checkpoint: latency does not depend on the weights' values."""
    tools = Toolkit.of(recipe)
    check_timed(tools.target)
    model = create(tools.spec)
    vit.check_supported(model, tools.spec.name)
    return latency_table(recipe, tools, vit.structure_of(model))
