"""`init --check-against hf`: the imported model against the original, on some of the user's own images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.errors import InputError
from wdp_edge.progress import task
from wdp_edge.protocols.task import Output, facts_of

if TYPE_CHECKING:
    from wdp_edge.data.folder import ImageFolder
    from wdp_edge.models.originals import Comparison

SOURCES = ("hf",)
_IMAGES = 8


def check_source(against: str, model: ModelRecipe) -> None:
    """Raises InputError and SetupError for what can be known before anything is loaded."""
    from wdp_edge.models.originals import folder_of_transformers

    if against not in SOURCES:
        raise InputError(
            f"There is no original '{against}' to check against.", "Use --check-against hf: Hugging Face transformers."
        )
    if facts_of(model.task).output is Output.MAP:
        raise InputError(
            "--check-against compares classes and embeddings; segment outputs maps.", "Leave --check-against out."
        )
    folder_of_transformers(Path(model.checkpoint))


def check_against(model: ModelRecipe, dense: Any, train: ImageFolder, preprocess: dict[str, Any]) -> Comparison:
    """At the size of the original's images: a model for another one resamples its position embeddings.

    Raises InputError where the two differ.
    """
    from wdp_edge.data.loading import load_images
    from wdp_edge.data.preprocess import normalise, preprocessing_of
    from wdp_edge.data.split import balanced_choice, balanced_counts
    from wdp_edge.models.files import load_dense
    from wdp_edge.models.originals import compare, folder_of_transformers, load_original, side_of_original
    from wdp_edge.models.spec import ModelSpec

    checkpoint = Path(model.checkpoint)
    original = load_original(folder_of_transformers(checkpoint))
    side = side_of_original(original)
    if tuple(dense.patch_embed.img_size) != (side, side):
        sized = ModelSpec.of(replace(model, args={**model.args, "img_size": side}))
        dense = load_dense(sized, checkpoint, model.checkpoint_key, model.checkpoint_prefix)
    groups = train.by_class()
    chosen = balanced_choice(groups, balanced_counts([len(group) for group in groups], _IMAGES), 0)
    preprocessing = preprocessing_of(dense, preprocess)
    images = normalise(load_images(train, chosen, preprocessing), preprocessing)
    with task("Running the original", 1) as advance:
        found = compare(original, dense, images, facts_of(model.task).output)
        advance(1)
    if not found.same:
        first = f"; they differ first in {found.place}" if found.place else ""
        raise InputError(
            f"Checkpoint {checkpoint}: '{model.name}' and {found.original} differ by {found.difference:.1e} of the "
            f"largest output on {found.images} training images ({found.tolerance:.0e} is allowed), most on "
            f"{train.paths[chosen[found.worst]]}{first}.",
            "Compare --model and --model-arg with config.json: number of heads, activation, pooling, layer scale."
            f"{_epsilons(original, dense)}",
        )
    return found


def _epsilons(original: Any, dense: Any) -> str:
    """That of LayerNorm, which no argument of timm's sets, where the two have different ones."""
    from wdp_edge.models.recognise.traits import traits_of

    theirs, ours = getattr(original.config, "layer_norm_eps", None), traits_of(dense).epsilon
    if not theirs or not ours or theirs == ours:
        return ""
    return (
        f" Or it is LayerNorm's epsilon, {theirs:g} there and {ours:g} in timm's model: it counts where activations "
        "are as small, as in a model that was not trained; --model-arg cannot set it."
    )
