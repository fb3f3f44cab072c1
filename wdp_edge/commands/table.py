"""The latency table of a recipe: measured, or read from the cache."""

from __future__ import annotations

from wdp_edge.config.recipe import Recipe
from wdp_edge.cost.measure import measure_table
from wdp_edge.cost.table import LatencyTable
from wdp_edge.models import vit
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.protocols.target import check_timed
from wdp_edge.pruning.toolkit import Toolkit


def table(recipe: Recipe) -> LatencyTable:
    """Needs [model] without its checkpoint: latency does not depend on the weights' values."""
    tools, spec = Toolkit.of(recipe.prune), ModelSpec.of(recipe.model)
    check_timed(tools.target)
    model = create(spec)
    vit.check_supported(model, spec.name)
    return measure_table(tools.table_setting(spec, vit.structure_of(model), recipe.prune.table))
