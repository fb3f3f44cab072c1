"""Runs in an environment that has tflite_runtime and neither torch nor ai_edge_litert; prints what it found as JSON.

Arguments: a folder of .tflite files, and images as .npy, [n, 3, H, W] float32.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.target import get_target


def main(folder: Path, images: np.ndarray) -> dict[str, Any]:
    target: Any = get_target("tflite")
    files: dict[str, Any] = {}
    for path in sorted(folder.glob("*.tflite")):
        try:
            program = target.load(path, 1)
            inside = target.inspect(path)
            files[path.stem] = {
                "logits": [program.run(x[None])[0].tolist() for x in images],
                "delegates": inside.delegates,
                "metadata": dict(inside.metadata),
            }
        except InputError as error:
            files[path.stem] = {"error": str(error)}
    try:
        traced = f"{len(target.trace(folder / 'fp32.tflite', 1, 2))} operators"
    except SetupError as error:
        traced = str(error)
    packages = [n for n in ("torch", "litert_torch", "ai_edge_litert", "tflite_runtime") if find_spec(n)]
    about = {"packages": packages, "missing": target.missing(), "versions": target.versions()}
    return {**about, "files": files, "traced": traced}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), np.load(sys.argv[2]))))
