"""What stands beside weights and says how the model was made, which classes it has and how it takes its images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wdp_edge.errors import InputError
from wdp_edge.io.files import read_json
from wdp_edge.models.recognise.image_processor import number, of_open_clip, of_timm, of_transformers
from wdp_edge.models.recognise.traits import Traits

CONFIG = "config.json"
OPEN_CLIP = "open_clip_config.json"
# In the order in which transformers looks for them.
_PROCESSORS = ("processor_config.json", "preprocessor_config.json")
_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
# Of timm's model_args: what the recipe says elsewhere, and what acts in training alone.
_NOT_ARGS = ("num_classes", "scriptable", "exportable", "no_jit")


@dataclass(frozen=True)
class Beside:
    """name, args: of the timm model, from timm's own config.json. traits: from any other one.

    classes: names in the order of the model's outputs. preprocess: as in [data], not checked, with the file that says
    so, `images`. config: the file that says the rest. kind: what it calls the model. All are empty where nothing tells.
    """

    name: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    traits: Traits = field(default_factory=Traits)
    classes: tuple[str, ...] = ()
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    images: str = ""
    kind: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of those that were there."""
        return tuple(dict.fromkeys(name for name in (self.config, self.images) if name))


def beside(checkpoint: Path) -> Beside:
    """Reads what timm, transformers or open_clip wrote into the checkpoint's folder; what is not there stays empty."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    config, clip = (_table(folder / name) for name in (CONFIG, OPEN_CLIP))
    images = next((name for name in _PROCESSORS if of_transformers(_table(folder / name))), "")
    if isinstance(config.get("architecture"), str):
        return _of_timm(config)
    preprocess = of_transformers(_table(folder / images)) if images else {}
    if not images and isinstance(clip.get("preprocess_cfg"), Mapping):
        preprocess, images = of_open_clip(clip["preprocess_cfg"]), OPEN_CLIP
    if not config and isinstance(clip.get("model_cfg"), Mapping):
        return Beside(
            traits=_of_open_clip(clip["model_cfg"]), preprocess=preprocess, config=OPEN_CLIP, images=images, kind="CLIP"
        )
    return Beside(
        traits=_of_transformers(config),
        classes=_names(config.get("id2label")),
        preprocess=preprocess,
        config=CONFIG if config else "",
        images=images,
        kind=_kind(config),
    )


def _table(path: Path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except InputError:
        return {}  # absent, or somebody else's file of this name: nothing is known then
    return data if isinstance(data, dict) else {}


def _of_timm(config: Mapping[str, Any]) -> Beside:
    """What timm's save_for_hf and push_to_hf_hub write, now and before they kept the two tables apart."""
    given = config.get("pretrained_cfg", config)
    own = given if isinstance(given, Mapping) else {}
    stated = config.get("model_args")
    args = dict(stated) if isinstance(stated, Mapping) else {}
    if args.get("in_chans") == 3:
        del args["in_chans"]
    preprocess = of_timm(own)
    return Beside(
        name=config["architecture"],
        args={key: value for key, value in args.items() if key not in _NOT_ARGS and value is not None},
        traits=Traits(image_size=number(list(own["input_size"])[-1]) if _is_size(own.get("input_size")) else 0),
        classes=_names(config.get("label_names", own.get("label_names", own.get("labels")))),
        preprocess=preprocess,
        config=CONFIG,
        images=CONFIG if preprocess else "",
        kind=config["architecture"],
    )


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3


def _of_transformers(config: Mapping[str, Any]) -> Traits:
    vision = config.get("vision_config")
    own = vision if isinstance(vision, Mapping) else config
    # Of a gated MLP the activation is another one than this word says, and the same for all models of a kind.
    gated = own.get("use_swiglu_ffn") or own.get("use_gated_mlp")
    layers = own.get("depths")
    epsilon = own.get("layer_norm_eps")
    return Traits(
        heads=number(own.get("num_attention_heads")),
        activation="" if gated else _ACTIVATIONS.get(str(own.get("hidden_act")), ""),
        window=number(own.get("window_size")),
        epsilon=epsilon if isinstance(epsilon, float) and 0 < epsilon < 1 else 0.0,
        image_size=number(own.get("image_size")),
        patch=number(own.get("patch_size")),
        width=number(own.get("embed_dim")) or number(own.get("hidden_size")),
        depth=sum(map(number, layers)) if isinstance(layers, list) else number(own.get("num_hidden_layers")),
    )


def _of_open_clip(config: Mapping[str, Any]) -> Traits:
    vision = config.get("vision_cfg")
    if not isinstance(vision, Mapping) or "timm_model_name" in vision:
        return Traits()
    width, own = number(vision.get("width", 768)), number(vision.get("head_width", 64))
    return Traits(
        heads=width // own if width and own else 0,
        activation="quick_gelu" if config.get("quick_gelu") is True else "gelu",
        image_size=number(vision.get("image_size", 224)),
        patch=number(vision.get("patch_size", 16)),
        width=width,
        depth=number(vision.get("layers", 12)),
    )


def _kind(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else config.get("model_type")
    return first if isinstance(first, str) else ""


def _names(labels: Any) -> tuple[str, ...]:
    """By class number: id2label, or timm's label_names; () unless every number from 0 on has a name of its own."""
    if isinstance(labels, Mapping):
        named = {int(key): value for key, value in labels.items() if str(key).isdecimal()}
        labels = [named.get(index) for index in range(len(labels))]
    if not isinstance(labels, list) or not all(isinstance(n, str) and n.strip() and n.isprintable() for n in labels):
        return ()
    # What transformers writes where nobody gave names.
    if all(re.fullmatch(r"LABEL_\d+", name) for name in labels) or len(set(labels)) < len(labels):
        return ()
    return tuple(name.strip() for name in labels)
