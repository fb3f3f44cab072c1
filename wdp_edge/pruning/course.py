"""What the stages of a run have to do, roughly: in passes of the dense model, exports, and seconds of timing."""

from __future__ import annotations

from wdp_edge.config.budgets import budget_setting
from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.models.structure import count
from wdp_edge.pruning import choose
from wdp_edge.pruning.inputs import Inputs
from wdp_edge.pruning.selection import compared_images
from wdp_edge.runs.expected import Expected, Pace, Work, read_habits
from wdp_edge.workers.parallel import world

# Before anything is known of a machine.
_MACS_A_SECOND, _EXPORT_SECONDS_A_BLOCK = 4e10, 1.0
# What a stage does with an image, in passes of the dense model over it.
_FISHER, _SALIENCY, _AXES, _REFIT, _CANDIDATE, _STEP = 2.3, 1.2, 2.0, 1.8, 1.3, 3.0
_JUDGED, _PROVEN = 512, 1024
# As many as most runs try, and processes that export probes.
_CANDIDATES, _EXPORTERS = 6, 2
# Files that are exported and timed until one is inside the band, their size against the dense one, and timings of each.
_FILES, _SHARE, _TIMINGS = 2.0, 0.7, 2.5


def course_of(inputs: Inputs) -> Expected:
    """All stages of a run that learns and cuts once."""
    model, options = inputs.model, inputs.recipe.prune
    counts = count(model.structure, model.geometry)
    start = Pace(counts.macs / _MACS_A_SECOND, model.structure.depth * _EXPORT_SECONDS_A_BLOCK)
    return Expected(works_of(inputs, options), start, read_habits())


def works_of(inputs: Inputs, options: PruneRecipe) -> dict[str, Work]:
    """By stage, in the order they run."""
    model, data, tools = inputs.model, inputs.data, inputs.tools
    held, timing = len(data.holdout_indices), tools.timing.seconds
    fisher, saliency, axes = (need.images(model.module) for need in (choose.FISHER, choose.SALIENCY, choose.AXES))
    probes = tools.table_setting(model.spec, model.structure, options.table).probes()
    blocks = sum(s.depth for s in (*probes.chains, *probes.sizes))
    steps = choose.steps_of(options, len(data.train_indices))
    refit = data.refit_count(model.module, options.compensate)
    timed = budget_setting(options) == "latency_budget"  # a count needs no table, and no files to choose by
    works = {
        "dense": Work(),
        "plausible": Work(images=held + _JUDGED),  # the dense model sees all held-back images
        "dense-artifact": Work(exports=1),
        "table": Work(exports=blocks / model.structure.depth / _EXPORTERS, seconds=timing) if timed else Work(),
        "saliency": Work(_FISHER * fisher + _SALIENCY * saliency),
    }
    if choose.head_widths(model.module, options.select):
        works["axes"] = Work(_AXES * axes)
    if steps.learn:
        works["learn"] = Work(_STEP * steps.learn * steps.learn_batch / world().size)
    compared = _CANDIDATES * (_CANDIDATE * compared_images(model.module, options.select) + _SHARE * held)
    files = _FILES if timed else 0.0
    works["select"] = Work(compared, files * _SHARE, files * _TIMINGS * timing)
    works["compensate"] = Work(_REFIT * refit)
    works["recover"] = Work(_STEP * steps.recover * options.recover.batch_size / world().size)
    works["export"] = Work(exports=_SHARE)
    works["measure"] = Work(seconds=_TIMINGS * timing)
    works["verify"] = Work(images=_PROVEN)
    works["final"] = Work(images=2 * len(data.val))
    return works
