"""A device whose times follow from file sizes, and the recipe of a small run on it, for tests and benches alike.

FAKE: real times differ from run to run and so would the structure that is chosen from them; here everything but the
clock is real, so that two runs must end in the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from wdp_edge.config.recipe import (
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
from wdp_edge.protocols.device import DeviceInfo, Kind, Latency, Timing, TimingPlan


class FakeClock:
    """FAKE: a device on which a file takes one millisecond per 10,000 bytes.

    late: how many times as long the first file takes that a run would ship, so that it is cut again.
    """

    name = "fake"
    kind = Kind.MEASURED

    def __init__(self, late: float = 1.0) -> None:
        self._late = late

    def probe(self) -> DeviceInfo:
        """See `Device`."""
        return DeviceInfo("fake", "clock by file size", 1, (), "test")

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """See `Device`; every round takes the same."""
        late = [self._late if path.stem == "model" else 1.0 for path in artifacts]
        times = [path.stat().st_size / 1e4 * by for path, by in zip(artifacts, late, strict=True)]
        return [Timing(Latency(ms, ms, ms), (ms,) * plan.rounds) for ms in times]


@contextmanager
def fake_clock(cache: Path | None = None, late: float = 1.0) -> Iterator[None]:
    """FAKE: every device is a `FakeClock`. cache: folder for latency tables; None leaves it where it is."""
    homes = ("wdp_edge.pruning.toolkit", "wdp_edge.commands.auto")
    environment = {"WDP_EDGE_CACHE": str(cache)} if cache else {}
    with patch.dict("os.environ", environment), ExitStack() as stack:
        for home in homes:
            stack.enter_context(patch(f"{home}.get_device", lambda *name: FakeClock(late)))
        yield


def recipe_of(folder: Path, budget: str = "70%", images: int = 480, target: str = "executorch") -> Recipe:
    """A run in FOLDER/run of a ViT of 16 px with three blocks, on FOLDER/data. images: for learning and recovery."""
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
