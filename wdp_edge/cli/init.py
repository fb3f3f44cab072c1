"""`wdp-edge init`"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._options import ModelArg
from wdp_edge.cli._shared import Json, parse_arguments, perform

if TYPE_CHECKING:
    from wdp_edge.project import InitResult


def init(
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="timm model name.")],
    checkpoint: Annotated[Path, typer.Option("--checkpoint", metavar="FILE", help="Trained weights.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="FOLDER", help="Folder with train/ and val/ (or test/) inside.")
    ],
    model_arg: ModelArg = None,
    num_classes: Annotated[
        int,
        typer.Option("--num-classes", metavar="N", help="Classes of the trained head; 0: one per folder."),
    ] = 0,
    task: Annotated[
        str,
        typer.Option("--task", metavar="NAME", help="classify, multilabel, segment, features (no labels) or retrieve."),
    ] = "classify",
    class_order: Annotated[
        str,
        typer.Option(
            "--class-order", metavar="ORDER", help="Of class names: alphabetical, natural, or a file with one per line."
        ),
    ] = "",
    preprocess: Annotated[
        list[str] | None,
        typer.Option("--preprocess", metavar="KEY=VALUE", help="mean, std, interpolation or crop_pct; repeatable."),
    ] = None,
    checkpoint_key: Annotated[
        str,
        typer.Option("--checkpoint-key", metavar="NAME", help="Entry of the checkpoint to take, such as model_ema."),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite wdp-edge.toml.")] = False,
    as_json: Json = False,
) -> int:
    """Write wdp-edge.toml for a trained model and its images."""

    def call() -> InitResult:
        import wdp_edge
        from wdp_edge.recipe import ModelRecipe

        arguments = parse_arguments(model_arg or ())
        recipe = ModelRecipe(model, arguments, num_classes, str(checkpoint), task, checkpoint_key=checkpoint_key)
        settings = parse_arguments(preprocess or (), "--preprocess", "mean=0.5")
        return wdp_edge.init(recipe, data, force=force, class_order=class_order, preprocess=settings)

    return perform(call, _show, as_json)


def _show(result: InitResult) -> None:
    from wdp_edge.cli._print import near, print_line
    from wdp_edge.data.walk import counted
    from wdp_edge.task import facts_of

    output = f"{result.num_classes} classes" if result.num_classes else "embeddings"
    print_line(
        f"Wrote {near(result.path)}: {result.model}, {output}, "
        f"{result.train_images} training and {result.val_images} validation images."
    )
    for part, files in result.left_out.items():
        print_line(f"Left out of {part}: {counted(Counter(files))}.")
    if result.order_metric:
        metric = facts_of(result.task).metric
        figures = " and ".join(f"{value:.1%} with the {order} one" for order, value in result.order_metric.items())
        print_line(
            f"Class names have another order alphabetically than naturally: {metric} of the model is {figures}, on "
            f"{result.order_images} training images. class_order is {result.class_order}."
        )
    if result.weights:
        print_line(f"From the checkpoint it {result.weights}. Choose with checkpoint_key in [model].")
    if result.head_blocks:
        print_line(f"The head is taken to read blocks {result.head_blocks}: set head_blocks if it reads others.")
    print_line("Next: wdp-edge prune --latency-budget 50%")
