"""`python fake_clock_run.py FOLDER [IMAGES]`: a small real run in FOLDER/run, but on a fake device.

FAKE: the device's times follow from file sizes. Real times differ from run to run and so would the structure that is
chosen from them; here everything but the clock is real, so that two runs must end in the same weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import wdp_edge.pipeline.context as context
from wdp_edge.cli._shared import perform
from wdp_edge.device import DeviceInfo, Kind, Latency, Timing, TimingPlan
from wdp_edge.pipeline.prune import prune
from wdp_edge.recipe import (
    DataRecipe,
    LearnRecipe,
    ModelRecipe,
    PruneRecipe,
    Recipe,
    RecoverRecipe,
    SelectRecipe,
    TableRecipe,
    TimingRecipe,
)


class FakeClock:
    """A device on which a file takes one millisecond per 10,000 bytes."""

    name = "fake"
    kind = Kind.MEASURED

    def probe(self) -> DeviceInfo:
        return DeviceInfo("fake", "clock by file size", 1, (), "test")

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        times = [path.stat().st_size / 1e4 for path in artifacts]
        return [Timing(Latency(ms, ms, ms), (ms,) * plan.rounds) for ms in times]


@contextmanager
def fake_clock(cache: Path) -> Iterator[None]:
    """FAKE: every device is a `FakeClock`. cache: folder for latency tables."""
    homes = ("wdp_edge.pipeline.context", "wdp_edge.pipeline.auto")
    with patch.dict("os.environ", {"WDP_EDGE_CACHE": str(cache)}), ExitStack() as stack:
        for home in homes:
            stack.enter_context(patch(f"{home}.get_device", lambda *name: FakeClock()))
        yield


def recipe_of(folder: Path, budget: str = "70%", images: int = 480, target: str = "executorch") -> Recipe:
    args = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}
    return Recipe(
        model=ModelRecipe("vit_tiny_patch16_224", args, 3, str(folder / "dense.safetensors")),
        data=DataRecipe(
            train=str(folder / "data/train"),
            val=str(folder / "data/val"),
            holdout_images=6,
            calibration_images=24,
            workers=0,
        ),
        prune=PruneRecipe(
            latency_budget=budget,
            target=target,
            precision="fp32",
            out=str(folder / "run"),
            images=images,
            learn=LearnRecipe(share=0.4, batch_size=16, exits=1, checkpoint_seconds=0),
            select=SelectRecipe(calibration_images=16, rounds=2),
            recover=RecoverRecipe(batch_size=16, checkpoint_seconds=0),
            table=TableRecipe(points=2, chain=1, rounds=2, runs=2),
            timing=TimingRecipe(seconds=0.0),
        ),
    )


if __name__ == "__main__":
    context.get_device = lambda *name: FakeClock()  # type: ignore[assignment]
    recipe = recipe_of(Path(sys.argv[1]), images=int(sys.argv[2]) if len(sys.argv) > 2 else 480, target="onnx")
    sys.exit(perform(lambda: prune(recipe), lambda result: print(result.shipped.exit), as_json=False))
