"""The whole loop on handwritten digits, with the commands a user would type."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomlkit

from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import load_recipe
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_text
from wdp_edge.io.plain import read_as
from wdp_edge.runs.figures import ModelFigures
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.run import latest_run
from wdp_edge.runs.stages import MANIFEST, RECIPE, REPORT, RESULT

DATA = "digits"
CHECKPOINT = "dense.safetensors"
MET, MISSED = 0, 1
# A mirrored digit is not a digit, and a crop that keeps less of one cuts strokes off. There are 1,442 training images,
# and fits to a part of them serve such a small model as well.
SETTINGS: dict[tuple[str, ...], dict[str, Any]] = {
    ("data",): {"flip": False, "min_crop": 0.7, "calibration_images": 512},
    ("prune", "select"): {"calibration_images": 192},
}


@dataclass(frozen=True)
class Length:
    """steps: of training the dense model. images: seen by learning and recovery."""

    steps: int
    images: int


FULL = Length(steps=250, images=5_000)
SHORT = Length(steps=160, images=2_000)


@dataclass(frozen=True, kw_only=True)
class DemoResult(PruneResult):
    """`wdp_edge.demo.run.demo`: the figures of the run, the page that shows them, and the time it all took."""

    report: Path
    seconds: float


def demo(folder: Path, short: bool = False, budget: str = "50%") -> DemoResult:
    """Makes images and a trained model in `folder`, then prunes, times and reports with the ordinary commands.

    What an earlier call left there is used again. short: trains less. Prints every command as it runs.
    Raises SetupError when the target's packages are missing, InputError when a command fails.
    """
    start = time.monotonic()
    # A waiting OpenMP thread sleeps instead of spinning. Read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    length = SHORT if short else FULL
    demo_project(folder, length)
    _command(folder, "prune", "--latency-budget", budget, "--images", str(length.images))
    run = find(folder, budget, length.images)
    chosen = [] if run == latest_run(folder) else [str(run.relative_to(folder))]
    _command(folder, "profile", *chosen)
    _command(folder, "report", *chosen)
    result = read_as(run / RESULT, PruneResult)
    values = {f.name: getattr(result, f.name) for f in fields(PruneResult)}
    values |= {"run": run, "dense": _seen_from(folder, result.dense)}
    values |= {"shipped": _seen_from(folder, result.shipped)}
    return DemoResult(**values, report=run / REPORT, seconds=time.monotonic() - start)


def demo_project(folder: Path, length: Length) -> None:
    """Images, a trained model and a wdp-edge.toml in `folder`, as far as they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    make_model(folder, length)
    if not (folder / RECIPE_FILE).exists():
        _command(folder, *_init_arguments())
        _adjust(folder / RECIPE_FILE)


def _seen_from(folder: Path, figures: ModelFigures) -> ModelFigures:
    """The commands ran in `folder`, so that is where their relative paths start."""
    return figures if figures.path is None else replace(figures, path=folder / figures.path)


def make_model(folder: Path, length: Length) -> None:
    """Writes the images and trains the dense model, unless they are there."""
    from wdp_edge.demo.digits import write_digits

    train, val = write_digits(folder / DATA)
    _say(f"{train} training and {val} validation images of handwritten digits in {folder / DATA}")
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        _say(f"{checkpoint} is there and is used again")
        return
    from wdp_edge.data.folder import scan
    from wdp_edge.demo.train import SPEC, TrainOptions, train_dense

    _say(f"Training {SPEC.name} with {_arguments(SPEC.args)} from scratch")
    train_folder, val_folder = scan(folder / DATA / "train"), scan(folder / DATA / "val")
    trained = train_dense(train_folder, val_folder, checkpoint, options=TrainOptions(steps=length.steps))
    _say(
        f"{checkpoint}: {trained.accuracy:.1%} of the validation images right after {trained.images} "
        f"training images in {trained.seconds:.0f} s"
    )


def find(folder: Path, budget: str, images: int) -> Path:
    """The latest finished run of the project in `folder` with these settings.

    Raises InputError when there is none.
    """
    for manifest in sorted(folder.glob(f"runs/*/{MANIFEST}"), key=lambda p: -p.stat().st_mtime):
        run = manifest.parent
        settings = load_recipe(run / RECIPE).prune
        if (settings.latency_budget, settings.images) == (budget, images) and (run / RESULT).exists():
            return run
    raise InputError(f"There is no finished run in {folder / 'runs'}.", "Start the demo in a new folder.")


def _init_arguments() -> list[str]:
    from wdp_edge.demo.train import SPEC

    arguments = [word for k, v in SPEC.args.items() for word in ("--model-arg", f"{k}={v}")]
    classes = ["--num-classes", str(SPEC.num_classes)]
    return ["init", "--model", SPEC.name, *arguments, *classes, "--checkpoint", CHECKPOINT, "--data", DATA]


def _adjust(path: Path) -> None:
    """What the user would edit in the recipe for digits."""
    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    for section, values in SETTINGS.items():
        table = document
        for name in section:
            table = table[name]
        table.update(values)
        _say(f"In {RECIPE_FILE}, for digits: [{'.'.join(section)}] {_arguments(values)}")
    write_text(path, tomlkit.dumps(document))


def _arguments(values: Any) -> str:
    return ", ".join(f"{k} = {str(v).lower()}" for k, v in values.items())


def _command(folder: Path, *arguments: str) -> None:
    """Runs `wdp-edge` with these arguments in `folder`. A missed budget is a result, not a failure."""
    words = shlex.join(["wdp-edge", *arguments])
    _say(f"\n$ {words}")
    command = [sys.executable, "-m", "wdp_edge", *arguments]
    status = subprocess.run(command, cwd=folder, check=False).returncode
    if status not in (MET, MISSED):
        raise InputError(f"`{words}` ended with status {status}.", "Its own message above says why.")


def _say(text: str) -> None:
    print(text, flush=True)
