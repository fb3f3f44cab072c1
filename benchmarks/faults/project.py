"""The tiny project of every trial: a ViT of 16 px, noisy coloured squares, and a run on a clock by file size.

FAKE: the device. Real times differ from run to run and so would the structure that is chosen from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from wdp_edge.device import DeviceInfo, Kind, Latency, Timing, TimingPlan
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
    VerifyRecipe,
)

MODEL = "vit_tiny_patch16_224"
ARGS = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
CLASSES = ("blue", "green", "red")
LATE = 1.4


class FaultClock:
    """FAKE: a file takes one millisecond per 10,000 bytes; the first that a run ships LATE times as long, so that it is
    cut again."""

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
        late = [LATE if path.stem == "model" else 1.0 for path in artifacts]
        times = [path.stat().st_size / 1e4 * by for path, by in zip(artifacts, late, strict=True)]
        return [Timing(Latency(ms, ms, ms), (ms,) * plan.rounds) for ms in times]


@contextmanager
def fault_clock() -> Iterator[None]:
    """FAKE: every device is a `FaultClock`."""
    with patch("wdp_edge.pipeline.context.get_device", lambda *name: FaultClock()):
        yield


def make_project(folder: Path) -> int:
    """dense.safetensors and data/{train,val} in FOLDER; returns the exit code."""
    import numpy as np
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    model = timm.create_model(MODEL, num_classes=len(CLASSES), **ARGS)
    save_file(model.state_dict(), folder / "dense.safetensors")
    rng = np.random.default_rng(0)
    for part, images in (("train", 16), ("val", 2)):
        for index, name in enumerate(CLASSES):
            (folder / "data" / part / name).mkdir(parents=True)
            for number in range(images):
                pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
                pixels[..., 2 - index] += 120
                Image.fromarray(pixels).save(folder / "data" / part / name / f"{number:03}.png")
    return 0


def recipe_of(folder: Path, images: int = 160) -> Recipe:
    return Recipe(
        model=ModelRecipe(MODEL, dict(ARGS), len(CLASSES), str(folder / "dense.safetensors")),
        data=DataRecipe(
            train=str(folder / "data/train"),
            val=str(folder / "data/val"),
            holdout_images=6,
            calibration_images=12,
            workers=0,
        ),
        prune=PruneRecipe(
            latency_budget="70%",
            target="onnx",
            precision="fp32",
            out=str(folder / "run"),
            images=images,
            learn=LearnRecipe(share=0.4, batch_size=8, exits=1, checkpoint_seconds=0),
            select=SelectRecipe(calibration_images=12, rounds=2),
            recover=RecoverRecipe(batch_size=8, checkpoint_seconds=0),
            table=TableRecipe(points=2, chain=1, rounds=2, runs=2),
            timing=TimingRecipe(seconds=0.0),
        ),
        verify=replace(VerifyRecipe(), images=4),
    )


def perform_run(recipe: Recipe) -> int:
    """`wdp-edge prune` and then `wdp-edge report`, on the fake clock; a killed one goes on."""
    from wdp_edge.cli._shared import MET, MISSED, perform
    from wdp_edge.pipeline.prune import prune
    from wdp_edge.report import report

    with fault_clock():
        code = perform(lambda: prune(recipe), lambda result: None, as_json=False)
        if code not in (MET, MISSED):
            return code
        return perform(lambda: report(Path(recipe.prune.out)), lambda result: None, as_json=False)


def copy_project(template: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return folder
