"""`wdp-edge prune`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli import _options as options
from wdp_edge.cli._print import show_prune
from wdp_edge.cli._shared import Json, given, perform

if TYPE_CHECKING:
    from wdp_edge.results import PruneResult

NEEDS = ("model.name", "data.train", "data.val", "model.checkpoint", "prune.latency_budget")


def prune(
    context: typer.Context,
    latency_budget: options.LatencyBudget = None,
    model: options.Model = None,
    model_arg: options.ModelArg = None,
    num_classes: options.NumClasses = None,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    train: Annotated[Path | None, typer.Option("--train", metavar="FOLDER", help="Training images.")] = None,
    val: Annotated[Path | None, typer.Option("--val", metavar="FOLDER", help="Validation images.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="The run's own folder.")] = None,
    epochs: Annotated[
        float | None, typer.Option("--epochs", metavar="N", help="Passes over the training images.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images", metavar="N", help="Training images to learn from; 0: no training."),
    ] = None,
    target: options.Target = None,
    precision: options.Precision = None,
    device: options.Device = None,
    accept: options.Accept = None,
    threads: options.Threads = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of everything random.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Prune also where the dense file is inside the budget as it is.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Prune a model until its measured file is inside the budget.

    Settings come from the options, then from wdp-edge.toml in this folder, then from defaults. A run that was
    interrupted goes on when the same command is given again. A model whose file is inside the budget before anything
    is pruned ships as it is, at once.
    """

    def call() -> PruneResult:
        import wdp_edge
        from wdp_edge.project import length_settings, project_recipe

        overrides = given(
            {
                "prune.latency_budget": latency_budget,
                "prune.target": target,
                "prune.precision": precision,
                "prune.device": device,
                "prune.accept": accept,
                "prune.threads": threads,
                "prune.seed": seed,
                "prune.out": None if out is None else str(out),
                "prune.force": force or None,
            }
        )
        overrides |= options.model_settings(model, model_arg, num_classes, checkpoint)
        overrides |= options.data_settings(data, train, val) | length_settings(epochs, images)
        recipe = project_recipe(Path(), overrides, options.NAMES, NEEDS)
        return wdp_edge.prune(recipe, context.obj)

    return perform(call, show_prune, as_json)
