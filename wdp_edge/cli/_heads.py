"""What `fit-head`, and `init` with a new head, say of it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from wdp_edge.cli._print import near, print_line, print_table
from wdp_edge.protocols.task import ALPHABETICAL

if TYPE_CHECKING:
    from wdp_edge.commands.fit_head import FitHeadResult
    from wdp_edge.commands.init import InitResult
    from wdp_edge.heads.attach import HeadFigures


def show_fit_head(result: FitHeadResult) -> None:
    print_line(f"Wrote {near(result.path)}: {result.model} with a head for {result.num_classes} classes.")
    recognised(result)
    for note in result.notes:
        print_line(note)
    show_head(result.head)
    if result.weights:
        print_line(f"From the checkpoint it {result.weights}. Choose with --checkpoint-key or --prefix.")
    settings = {"--model-arg": result.args, "--preprocess": result.preprocess}
    words = ["wdp-edge", "init", "--checkpoint", near(result.path), "--model", result.model]
    words += ["--num-classes", f"{result.num_classes}"]
    for name, pairs in settings.items():
        words += [word for key, value in pairs.items() for word in (name, f"{key}={value}")]
    words += ["--task", result.task] * (result.task != "classify")
    words += ["--class-order", result.class_order] * (result.class_order != ALPHABETICAL)
    print_line(f"Next: {shlex.join(words)} --data FOLDER")


def recognised(result: FitHeadResult | InitResult) -> None:
    """What the model was told by, where it was not named."""
    if result.why:
        arguments = ", ".join(f"{name} = {value}" for name, value in result.args.items())
        print_line(f"Recognised by {'; '.join(result.why)}.{f' Arguments: {arguments}.' if arguments else ''}")


def show_head(head: HeadFigures) -> None:
    """What was fitted to what, and how good it is."""
    from wdp_edge.report.units import share

    if head.replaced:
        print_line(f"The checkpoint's own head, {head.replaced}, is left out.")
    print_line(f"Fitted to {head.train_images} training images in {head.seconds / 60:.1f} minutes.")
    rows = [
        (f"{head.held_back_images} training images held back", share(head.held_back)),
        (f"{head.val_images} validation images", share(head.val)),
        ("the same by chance", share(head.chance)),
    ]
    print_table("The new head", ("", head.metric), rows)
