"""`wdp-edge models`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli import _options as options
from wdp_edge.cli._print import show_known_models, show_model
from wdp_edge.cli._shared import Json, parse_arguments, perform

if TYPE_CHECKING:
    from wdp_edge.pipeline.models import KnownModels, ModelDescription


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="timm model name; default: list all.", show_default=False)
    ] = None,
    model_arg: options.ModelArg = None,
    num_classes: options.NumClasses = None,
    as_json: Json = False,
) -> int:
    """List the models that can be pruned, or show one's dimensions."""

    def listing() -> KnownModels:
        import wdp_edge

        return wdp_edge.known_models()

    def description() -> ModelDescription:
        import wdp_edge

        classes = {} if num_classes is None else {"num_classes": num_classes}
        return wdp_edge.describe_model(name or "", parse_arguments(model_arg or ()), **classes)

    if name is None:
        return perform(listing, show_known_models, as_json)
    return perform(description, show_model, as_json)
