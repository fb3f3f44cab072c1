"""FAKE: what Core ML would be given on a Mac, where alone it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class StandIn:
    """FAKE: in place of `coremltools.models.MLModel`. Its logits tell the mean and the shape of what came in."""

    def __init__(self, path: str) -> None:
        self.path = path

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        (given,) = inputs.values()
        pixels = np.asarray(given)
        return {"logits": np.array([[pixels.mean(), *pixels.shape, Path(self.path).is_dir()]], dtype=np.float32)}
