"""What an artifact says of itself: enough to feed it and to trace it, in whatever way its format carries texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.structure import Structure

KEY = "wdp_edge"
ABOUT_VERSION = 1


def metadata(
    model: str, structure: Structure, preprocessing: Preprocessing, classes: Sequence[str], pixels: bool, recipe: str
) -> dict[str, str]:
    """One text under the key `wdp_edge`: JSON with input, classes, structure and origin.

    pixels: the file takes uint8 RGB pixels, because normalisation is folded into it. recipe: the digest of the run's.
    """
    about = {
        "version": ABOUT_VERSION,
        "wdp_edge": version("wdp-edge"),
        "model": model,
        "input": {
            "shape": [1, 3, *preprocessing.size],
            "dtype": "uint8" if pixels else "float32",
            "layout": "NCHW, RGB",
            "preprocessing": preprocessing.to_json(),
            "normalization": "folded" if pixels else "(pixels / 255 - mean) / std",
        },
        "classes": list(classes),
        "structure": {"digest": structure.digest, **structure.to_json()},
        "recipe": recipe,
    }
    return {KEY: json.dumps(about, ensure_ascii=False)}


def read_about(texts: Mapping[str, str]) -> dict[str, Any]:
    """What `metadata` wrote, or {} where there is nothing of it that can be read."""
    try:
        about = json.loads(texts.get(KEY, "{}"))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
