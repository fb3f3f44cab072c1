"""Whether a timm model, as its arguments make it, can be pruned: one check for `models` and `init`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models import vit
from wdp_edge.protocols.task import Output

_COLOURS = 3
# Of the largest output, between timm's own forward pass and the same in pieces: both are float32.
_SAME = 1e-4


def check_arguments(name: str, args: Mapping[str, Any]) -> None:
    """Raises InputError for arguments of timm.create_model that are not the model's: weights come from a checkpoint."""
    own = set(inspect.signature(timm.create_model).parameters) - {"kwargs"} | {"num_classes"}
    if taken := sorted(own & set(args)):
        of_model = taken[0] == "num_classes"
        raise InputError(
            f"{taken[0]} is not an argument of '{name}' itself.",
            "Set num_classes in [model]." if of_model else "Leave it out.",
            {"--num-classes": "Set num_classes in [model] or give --num-classes."} if of_model else None,
        )


def check_numbers(model: Any, name: str, args: Mapping[str, Any]) -> None:
    """Raises InputError for true or false where the model takes a number: Python would take them for 1 and 0."""
    taken = inspect.signature(type(model).__init__).parameters
    for key, value in args.items():
        if isinstance(value, bool) and key in taken and type(taken[key].default) in (int, float):
            raise InputError(
                f"{key} of '{name}' is a number, not {str(value).lower()}.",
                f"Check [model] args: {key} is {taken[key].default} by default.",
            )


def argument_hint(args: Mapping[str, Any]) -> str:
    """What to do where timm refuses the arguments."""
    texts = [key for key, value in args.items() if isinstance(value, str) and any(c.isdigit() for c in value)]
    if not texts:
        return "Check [model] args."
    return f"Check [model] args: {texts[0]} is the text '{args[texts[0]]}'; a pair of numbers is written [32, 48]."


def check_form(model: Any, name: str, maps: bool) -> None:
    """Raises InputError, with the reason, for a form that cannot be pruned. maps: whether the head is our own."""
    vit.check_supported(model, name)
    if (channels := model.patch_embed.proj.in_channels) != _COLOURS:
        raise InputError(
            f"'{name}' with in_chans = {channels} takes images of {channels} "
            f"channel{'s' if channels > 1 else ''}; images are read as RGB, with {_COLOURS}.",
            "Train it with in_chans = 3. Grey images are read as RGB, too."
            if channels == 1
            else "Train it with in_chans = 3.",
        )
    pooling = getattr(model, "global_pool", None)
    if not maps and pooling in ("", None):
        raise InputError(
            f"'{name}' with global_pool = '' does not pool: it outputs a vector for every token.",
            "Set global_pool in [model.args] to what it was trained with, such as token or avg, or task to segment.",
        )


@torch.no_grad()
def check_forward(model: Any, name: str, args: Mapping[str, Any], output: Output, classes: int) -> None:
    """Runs one image of the model's own size. Raises InputError where that fails, where what comes out is of another
    form than the task needs, or where the parts that pruning sees do not make up the model.

    On the meta device, where tensors have no values, these are not compared.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    size = (1, _COLOURS, *model.patch_embed.img_size)
    images = torch.empty(size, device=device) if device.type == "meta" else torch.randn(size, generator=generator)
    try:
        whole = model(images)
        parts = _in_parts(model, images)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ArithmeticError) as error:
        raise InputError(
            f"'{name}' with {dict(args)} cannot run an image of its own size, {size[2]} x {size[3]}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            "Check [model] args: img_size must fit the patches and windows.",
        ) from error
    rank = 4 if output is Output.MAP else 2
    if whole.ndim != rank or (output.of_classes and whole.shape[1] != classes):
        raise InputError(
            f"'{name}' with {dict(args)} outputs {list(whole.shape)}, which is not what the task needs.",
            "Check [model] args.",
        )
    if parts.shape != whole.shape or not _same(parts, whole):
        raise InputError(f"'{name}' with {dict(args)} has a form that pruning does not support.", "Check [model] args.")


def _in_parts(model: nn.Module, images: Tensor) -> Tensor:
    x = vit.embed(model, images)
    for number in range(len(vit.blocks_of(model))):
        x = vit.run_block(model, number, x)
    return vit.classify(model, x)


def _same(parts: Tensor, whole: Tensor) -> bool:
    if whole.device.type == "meta":
        return True
    return bool((parts - whole).abs().max() <= _SAME * whole.abs().max())
