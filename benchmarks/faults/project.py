"""The tiny project of every trial: a ViT of 16 px, noisy coloured squares, and a run on a FAKE clock by file size."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fake_clock

from wdp_edge.config.recipe import Recipe
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import Structure, count
from wdp_edge.models.vit import geometry_of
from wdp_edge.runs.run import Run

MODEL = "vit_tiny_patch16_224"
ARGS = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
CLASSES = ("blue", "green", "red")
LATE = 1.4
REPORT = "report.html"


def fault_clock() -> AbstractContextManager[None]:
    """FAKE: every device times by file size; the first file that a run ships is over its budget and is cut again."""
    return fake_clock.fake_clock(late=LATE)


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
    """The recipe of `fake_clock`, smaller still, for FOLDER. images: for learning and recovery."""
    base = fake_clock.recipe_of(folder, images=images, target="onnx")
    prune = base.prune
    return replace(
        base,
        model=replace(base.model, name=MODEL, args=dict(ARGS), num_classes=len(CLASSES)),
        data=replace(base.data, calibration_images=12),
        prune=replace(
            prune,
            learn=replace(prune.learn, batch_size=8),
            select=replace(prune.select, calibration_images=12),
            recover=replace(prune.recover, batch_size=8),
        ),
        verify=replace(base.verify, images=4),
    )


@dataclass(frozen=True)
class Diary:
    """What a run notes of itself, outside its own folder: which stage it began, and how long those took that ended."""

    path: Path

    def note(self, *words: object) -> None:
        """Adds a line."""
        with self.path.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def began(self, record: str) -> bool:
        """Whether the run has begun to make this record."""
        return ["begin", record] in self._lines()

    def ended(self) -> list[tuple[str, float]]:
        """Records in the order of writing, and the seconds that each took."""
        return [(words[1], float(words[2])) for words in self._lines() if words[0] == "end"]


@contextmanager
def empty_probes() -> Iterator[None]:
    """FAKE: the files that a table is measured by are zeros, as many as the weights of their structure take."""

    def write(spec: ModelSpec, target: Any, precision: Any, jobs: Sequence[tuple[Structure, Path]], title: str) -> None:
        geometry = geometry_of(create(spec))
        for structure, path in jobs:
            path.write_bytes(bytes(4 * count(structure, geometry).parameters))

    with patch("wdp_edge.cost.measure.export_all", write):
        yield


def perform_run(recipe: Recipe, diary: Path | None = None, halted: Path | None = None) -> int:
    """`wdp-edge prune` and then `wdp-edge report`, on the fake clock; a killed one goes on.

    diary: a file for a `Diary`. halted: a folder that gets, per record, the run as it was right before that was made.
    """
    from wdp_edge.cli._shared import MET, MISSED, perform
    from wdp_edge.pruning.prune import prune
    from wdp_edge.report import report

    run = Path(recipe.prune.out)
    with fault_clock(), watched(Diary(diary) if diary else None, halted) as making:
        code = perform(lambda: prune(recipe), lambda result: None, as_json=False)
        if code not in (MET, MISSED):
            return code
        return perform(lambda: making(run, REPORT, lambda: report(run)), lambda result: None, as_json=False)


Making = Callable[[Path, str, Callable[[], Any]], Any]


@contextmanager
def watched(diary: Diary | None, halted: Path | None) -> Iterator[Making]:
    """Every stage that a run makes itself goes through what this gives, which notes it and keeps the state before."""

    def making(run: Path, name: str, compute: Callable[[], Any]) -> Any:
        if halted:
            shutil.copytree(run, halted / name)
        start = time.monotonic()
        if diary:
            diary.note("begin", name)
        result = compute()
        if diary:
            diary.note("end", name, time.monotonic() - start)
        return result

    stage = Run.stage

    def noted(run: Run, name: str, kind: type[Any], compute: Callable[[], Any], together: bool = False) -> Any:
        return stage(run, name, kind, lambda: making(run.path, name, compute), together)

    with patch.object(Run, "stage", noted):
        yield making


def copy_project(template: Path, folder: Path) -> Path:
    """FOLDER becomes a copy of a project, whatever it was."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return folder
