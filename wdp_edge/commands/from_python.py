"""`init --from-python`: a model made by the user's function becomes weights, a name and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge import progress
from wdp_edge.commands.beside import Told
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_bytes
from wdp_edge.protocols.task import Output, facts_of

if TYPE_CHECKING:
    from wdp_edge.data.folder import ImageFolder

WEIGHTS = "from_python.safetensors"


def check_asked(model: ModelRecipe, folder: Path, force: bool, check_against: str) -> None:
    """Raises InputError for what can be known before any code runs."""
    if model.checkpoint:
        raise InputError(
            "--from-python makes a model with its weights, and --checkpoint names others.",
            "Load them in your function, or leave one of the two out.",
        )
    if check_against:
        raise InputError(
            "--check-against compares the checkpoint of a Hugging Face folder; --from-python has none.",
            "Leave it out: a model from Python is compared with timm's in any case.",
        )
    if facts_of(model.task).output is Output.MAP:
        raise InputError(
            "--from-python takes classifiers and embeddings; a model for segment outputs maps.",
            "Save its state dict, and give it with --checkpoint.",
        )
    path = folder / WEIGHTS
    if path.exists() and not force:
        raise InputError(f"{path} exists.", "Give it with --checkpoint, or write it anew with --force.")


def from_python(
    reference: str, model: ModelRecipe, preprocess: Mapping[str, Any], train: ImageFolder, folder: Path
) -> tuple[ModelRecipe, Told]:
    """Runs the function and writes the weights into `folder`: the model with name, arguments and checkpoint, and the
    rest that its function tells. preprocess: settings that the user chose, which win.

    Raises InputError where the function gives no timm model, or one that timm does not make again: its outputs on a
    random and on a real image must be the same.
    """
    import torch
    from safetensors.torch import save

    from wdp_edge.data.loading import load_images
    from wdp_edge.data.preprocess import normalise, parse_settings, preprocessing_of
    from wdp_edge.models.recognise.made import timm_model
    from wdp_edge.models.user_code import made_by

    progress.say(f"--from-python runs your own code: {reference}.")
    made = timm_model(made_by(reference), reference, model.name, model.args)
    settings = {**parse_settings(made.preprocess), **preprocess}
    preprocessing = preprocessing_of(made.ours, settings)
    noise = torch.randn(1, 3, *preprocessing.size, generator=torch.Generator().manual_seed(0))
    photo = normalise(load_images(train, [0], preprocessing), preprocessing)
    apart = [made.difference(noise, "a random image"), made.difference(photo, train.paths[0])]
    path = folder / WEIGHTS
    write_bytes(path, save({name: value.clone().contiguous() for name, value in made.ours.state_dict().items()}))
    found, output = made.proposal, facts_of(model.task).output
    classes = model.num_classes or (found.num_classes if output.of_classes else 0)
    arguments = "".join(f", {name} = {value}" for name, value in found.args.items())
    note = (
        f"{reference} makes timm's {found.name}{arguments}: outputs on a random and on a real image differ by at most "
        f"{max(apart):.2g} of the largest. Its weights are in {path}."
    )
    named = replace(model, name=found.name, args=found.args, num_classes=classes, checkpoint=str(path))
    notes = [note]
    if made.preprocess:
        notes.append(f"Preprocessing from the model's pretrained_cfg: {', '.join(made.preprocess)}.")
    return named, Told(settings, notes=tuple(notes))
