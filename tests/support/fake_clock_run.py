"""`python fake_clock_run.py FOLDER [IMAGES]`: a small real run in FOLDER/run, but on the FAKE device of fake_clock.py.

Tests import the clock and the recipe from here.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # as a script it has no pytest to do that

from fake_clock import FakeClock, fake_clock, recipe_of

from wdp_edge.cli._shared import perform
from wdp_edge.pruning.prune import prune

__all__ = ["FakeClock", "fake_clock", "recipe_of"]

if __name__ == "__main__":
    recipe = recipe_of(Path(sys.argv[1]), images=int(sys.argv[2]) if len(sys.argv) > 2 else 480, target="onnx")
    with fake_clock():
        sys.exit(perform(lambda: prune(recipe), lambda result: print(result.shipped.exit), as_json=False))
