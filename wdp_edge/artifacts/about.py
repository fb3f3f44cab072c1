"""What an artifact says about itself: enough to feed it and to trace it, in whatever way its format carries texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.models.structure import Structure
from wdp_edge.protocols.task import facts_of

KEY = "wdp_edge"
ABOUT_VERSION = 1


@dataclass(frozen=True)
class Origin:
    """Where an artifact comes from. model: its timm name. recipe: the digest of the run's. task: its name."""

    model: str
    structure: Structure
    recipe: str
    task: str


def metadata(origin: Origin, preprocessing: Preprocessing, classes: Sequence[str], pixels: bool) -> dict[str, str]:
    """One text under the key `wdp_edge`: JSON with input, output, classes, structure and origin.

    classes: names in the order of the logits; none for embeddings. pixels: the file takes uint8 RGB pixels, because
    normalisation is folded into it.
    """
    structure = origin.structure
    about = {
        "version": ABOUT_VERSION,
        "wdp_edge": version("wdp-edge"),
        "model": origin.model,
        "task": origin.task,
        "output": facts_of(origin.task).output.value,
        "input": {
            "shape": [1, 3, *preprocessing.size],
            "dtype": "uint8" if pixels else "float32",
            "layout": "NCHW, RGB",
            "preprocessing": asdict(preprocessing),
            "normalization": "folded" if pixels else "(pixels / 255 - mean) / std",
        },
        "classes": list(classes),
        "structure": {"digest": structure.digest, **structure.to_json()},
        "recipe": origin.recipe,
    }
    return {KEY: json.dumps(about, ensure_ascii=False)}


def read_about(texts: Mapping[str, str]) -> dict[str, Any]:
    """What `metadata` wrote, or {} where there is nothing of it that can be read."""
    try:
        about = json.loads(texts.get(KEY, "{}"))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
