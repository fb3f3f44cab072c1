"""A Hugging Face folder's own model, run by transformers, against the model that was made of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError, SetupError
from wdp_edge.models import vit
from wdp_edge.models.recognise.beside import CONFIG
from wdp_edge.models.spec import UnitLength
from wdp_edge.models.weight_folders import weight_files
from wdp_edge.protocols.task import Output

TOLERANCE = 1e-5
"""Of the largest output: what float32 rounds on the way. Of trained weights another epsilon of LayerNorm changes less;
where activations are hardly larger than it, as in a model that was not trained, it is a difference that counts."""
_POOLER = "pooler."  # what models without one have drawn at random, and nobody reads


@dataclass(frozen=True)
class Comparison:
    """difference: the largest, as a share of the original's largest output, over `images` images of `pixels` pixels.

    output: which of the original's outputs it is. worst: number of the image with this difference. place: where the two
    differ first, in words; "" where they do not or nothing tells.
    """

    original: str
    output: str
    images: int
    pixels: int
    difference: float
    worst: int = 0
    place: str = ""
    tolerance: float = TOLERANCE

    @property
    def same(self) -> bool:
        return self.difference <= self.tolerance


def folder_of_transformers(checkpoint: Path) -> Path:
    """Where transformers finds the model of this checkpoint.

    Raises SetupError where transformers is missing, and InputError unless transformers wrote the checkpoint's folder.
    """
    if find_spec("transformers") is None:
        raise SetupError(
            "--check-against hf needs transformers.", "Install it with: pip install 'wdp-edge[transformers]'"
        )
    from wdp_edge.io.files import read_json

    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    hint = "Give the folder with config.json and weights with --checkpoint, or leave --check-against out."
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        has = f"the {CONFIG} in it is not of transformers" if config else f"there is no {CONFIG} in it"
        raise InputError(f"{folder} is no Hugging Face folder: {has}.", hint)
    if (
        not checkpoint.is_dir()
        and not checkpoint.name.endswith(".index.json")
        and checkpoint not in weight_files(folder)
    ):
        raise InputError(f"transformers does not load {checkpoint.name} from {folder}, but another file.", hint)
    return folder


def load_original(folder: Path) -> Any:
    """The model that config.json names, in eval mode, float32. Runs no code of the folder and fetches nothing.

    Raises InputError where transformers cannot load it, or has to draw some of its weights at random.
    """
    import transformers

    logs: Any = transformers.logging
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    own: dict[str, Any] = {"local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **own)
        kind: Any = getattr(transformers, (config.architectures or [""])[0], None)
        if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
            kind, own = transformers.AutoModel, own | {"trust_remote_code": False}
        model, found = kind.from_pretrained(folder, config=config, weights_only=True, output_loading_info=True, **own)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"transformers {transformers.__version__} cannot load {folder}: {said[0][:200]}",
            "Mend the folder, or leave --check-against out.",
        ) from error
    lacking = sorted(key for key in found["missing_keys"] if _POOLER not in key)
    if lacking:
        raise InputError(
            f"transformers does not find {lacking[0]} in {folder} ({len(lacking)} weights are missing) and draws it at "
            "random: there is nothing to compare with.",
            "Mend the folder, or leave --check-against out.",
        )
    return model.float().eval()


def side_of_original(model: Any) -> int:
    """The size of images that its position embeddings are for, in pixels."""
    config = getattr(model.config, "vision_config", model.config)
    size = config.image_size
    return int(size if isinstance(size, int) else size[0])


@torch.no_grad()
def compare(original: Any, ours: nn.Module, images: Tensor, output: Output) -> Comparison:
    """images: [n, 3, H, W] float32, prepared. Raises InputError for an original without outputs of this form."""
    import transformers

    got = ours(images)
    tower = original if output.of_classes else _below_the_head(original)
    answer = tower(pixel_values=images, output_hidden_states=True)
    found = {what: value for what, value in _outputs(answer, ours) if value.shape == got.shape}
    name = f"{type(original).__name__} of transformers {transformers.__version__}"
    if not found:
        raise InputError(
            f"{name} has no output of {got.shape[1]} values to compare with.", "Leave --check-against out."
        )
    if output is Output.UNIT:
        found = {what: UnitLength()(value) for what, value in found.items()}
    apart = {what: (got - value).abs().amax(1) / value.abs().max() for what, value in found.items()}
    what = min(apart, key=lambda one: float(apart[one].max()))
    difference, worst = (float(v) for v in apart[what].max(0))
    place = _place(ours, images, answer.hidden_states) if difference > TOLERANCE else ""
    return Comparison(name, what, len(images), images.shape[-1], difference, int(worst), place)


def _below_the_head(original: Any) -> Any:
    """The image tower of two, and of a classifier the model without its head."""
    if hasattr(original, "vision_model"):
        return original.vision_model
    return original.base_model if "ForImageClassification" in type(original).__name__ else original


def _outputs(answer: Any, ours: Any) -> Iterator[tuple[str, Tensor]]:
    for name in ("logits", "image_embeds", "pooler_output"):
        if answer.get(name) is not None:
            yield name, answer[name]
    last = answer.get("last_hidden_state")
    if last is not None and last.ndim == 3:
        yield "the class token", last[:, 0]
        yield "the mean of the patches", last[:, getattr(ours, "num_prefix_tokens", 0) :].mean(1)


def _place(ours: Any, images: Tensor, streams: tuple[Tensor, ...] | None) -> str:
    """The first part after which the streams differ. streams: the original's, before the first block and after each."""
    blocks = len(vit.blocks_of(ours))
    if streams is None or len(streams) != blocks + 1:
        return ""
    x = vit.embed(ours, images)
    for number, theirs in enumerate(streams):
        if theirs.numel() != x.numel():
            return ""
        if float((x.reshape(theirs.shape) - theirs).abs().max()) > TOLERANCE * float(theirs.abs().max()):
            return f"block {number} of {blocks}" if number else "the embedding of patches and positions"
        if number < blocks:
            x = vit.run_block(ours, number, x)
    return "the head or the norm before it"
