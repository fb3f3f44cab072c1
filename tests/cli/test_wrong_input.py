"""Wrong input to `wdp-edge prune`: one sentence, what to do, exit 2, and nothing overwritten.

The real command on a real tiny model and real images; the only one that gets as far as timing files does so by the FAKE
clock of benchmarks/fake_clock.py, whose table other runs share.
"""

from __future__ import annotations

import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_clock import fake_clock
from tiny_project import ARGS, CLASSES, MODEL, Cli, Said

from wdp_edge.runs.stages import MANIFEST

RECIPE = f"""
[model]
name = "{MODEL}"
args = {{ {", ".join(f"{k} = {v}" for k, v in ARGS.items())} }}
num_classes = {len(CLASSES)}
checkpoint = "dense.safetensors"

[data]
train = "data/train"
val = "data/val"
holdout_images = 6
calibration_images = 12
workers = 0

[prune]
latency_budget = "90%"
precision = "fp32"
images = 0

[prune.select]
calibration_images = 12
rounds = 1

[prune.table]
points = 2
chain = 1
rounds = 2
runs = 2

[prune.timing]
seconds = 0.0
"""


@pytest.fixture
def tiny(project: Path) -> Path:
    """The tiny project with a wdp-edge.toml whose run takes seconds."""
    (project / "wdp-edge.toml").write_text(RECIPE)
    return project


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(cli: Cli, folder: Path, *words: str) -> Said:
    """Runs `wdp-edge prune` and checks everything that holds for any wrong input."""
    before = snapshot(folder)
    said = cli("prune", *words, "--json")
    assert said.code == 2, said.err
    error = said.json["error"]
    assert said.json.keys() == {"error"}
    assert error["message"].endswith(".")
    assert error["hint"]
    assert "Traceback" not in said.err
    after = snapshot(folder)
    assert {path: after.get(path) for path in before} == before
    return said


def replace(old: str, new: str) -> Callable[[Path], None]:
    """Changes one line of wdp-edge.toml."""

    def change(folder: Path) -> None:
        assert old in RECIPE
        (folder / "wdp-edge.toml").write_text(RECIPE.replace(old, new))

    return change


def truncate_checkpoint(folder: Path) -> None:
    path = folder / "dense.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def checkpoint_of_noise(folder: Path) -> None:
    (folder / "dense.pt").write_bytes(bytes(range(256)) * 20)
    replace("dense.safetensors", "dense.pt")(folder)


class Hostile:
    """Unpickling this makes a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("was_run"),)


def checkpoint_that_runs_code(folder: Path) -> None:
    (folder / "dense.pt").write_bytes(pickle.dumps({"weight": Hostile()}, protocol=2))
    replace("dense.safetensors", "dense.pt")(folder)


def checkpoint_without_tensors(folder: Path) -> None:
    import torch

    torch.save({"epoch": 3, "lr": 0.1}, folder / "dense.pt")
    replace("dense.safetensors", "dense.pt")(folder)


def no_images(folder: Path) -> None:
    for path in (folder / "data/train").rglob("*.png"):
        path.unlink()


def unreadable_images(folder: Path) -> None:
    for path in (folder / "data/train").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])


def unreadable_validation_image(folder: Path) -> None:
    next((folder / "data/val").rglob("*.png")).write_text("this is not an image")


def one_class_only(folder: Path) -> None:
    for part in ("train", "val"):
        for name in CLASSES[1:]:
            shutil.rmtree(folder / "data" / part / name)


def other_classes_in_validation(folder: Path) -> None:
    (folder / "data/val/red").rename(folder / "data/val/rot")


WRONG: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing checkpoint": (
        replace("dense.safetensors", "lost.safetensors"),
        "lost.safetensors does not exist",
        "--checkpoint",
    ),
    "truncated checkpoint": (truncate_checkpoint, "dense.safetensors", ".safetensors"),
    "checkpoint of noise": (checkpoint_of_noise, "dense.pt", "weights_only"),
    "checkpoint that runs code": (checkpoint_that_runs_code, "dense.pt", "state_dict"),
    "checkpoint without tensors": (checkpoint_without_tensors, "dense.pt", "state_dict"),
    "other architecture": (replace(MODEL, "vit_small_patch14_dinov2"), "dense.safetensors", "timm"),
    "other size": (replace("depth = 3", "depth = 4"), "dense.safetensors", "timm"),
    "wrong class count": (
        replace("num_classes = 3", "num_classes = 4"),
        "dense.safetensors has 3 classes, but the recipe says 4",
        "num_classes = 3 in [model]",
    ),
    "unknown model": (
        replace(MODEL, "vit_tinny_patch16_224"),
        "vit_tinny_patch16_224",
        "vit_tiny_patch16_224",
    ),
    "another family": (replace(MODEL, "resnet18"), "'resnet18'", "[model] args"),
    "no images": (no_images, "data/train holds no images", "one subfolder of images per class"),
    "no folder": (replace("data/train", "data/training"), "data/training does not exist", "--train"),
    "unreadable images": (unreadable_images, "6 images in data/train cannot be read: blue/002.png", "max_unreadable"),
    "unreadable validation image": (
        unreadable_validation_image,
        "1 image in data/val cannot be read: green/000.png",
        "max_unreadable",
    ),
    "one class only": (one_class_only, "data/train holds only one class, 'blue'", "every other class"),
    "other classes in validation": (other_classes_in_validation, "'rot'", "same class folders"),
    "nonsense value": (replace("images = 0", "images = 'few'"), "line 18: prune.images", "training images"),
    "unknown key": (replace("images = 0", "imagse = 0"), "line 18: prune.imagse", "Did you mean images?"),
    "broken syntax": (replace("images = 0", "images = "), "line 18: images", "key = value"),
    "a wrong budget": (
        replace("[prune.table]", "[[budget]]\nlatency = '3'\n[prune.table]"),
        "line 25: budget.1.latency: '3' is not a latency budget",
        "20ms",
    ),
    "no budget": (replace('latency_budget = "90%"', ""), "There is no budget", "--latency-budget"),
    "unknown target": (replace("[prune.select]", "target = 'pte'\n[prune.select]"), "'pte'", "executorch"),
    "unknown precision": (replace('"fp32"', '"fp23"'), "'fp23'", "fp32"),
    "unknown device": (replace("[prune.select]", "device = 'toaster'\n[prune.select]"), "'toaster'", "local, adb:"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(cli: Cli, tiny: Path, case: str) -> None:
    spoil, message, hint = WRONG[case]
    spoil(tiny)
    said = refused(cli, tiny)
    assert message in said.json["error"]["message"]
    assert hint in said.json["error"]["hint"]
    assert not (tiny / "was_run").exists()


def test_neither_recipe_nor_options(cli: Cli, project: Path) -> None:
    for words in ([], ["--model", MODEL], ["--data", "data"], ["--latency-budget", "20ms"]):
        said = refused(cli, project, *words)
        assert "wdp-edge.toml" in said.json["error"]["message"]
        assert "`wdp-edge init`" in said.json["error"]["hint"]
        assert "`wdp-edge demo`" in said.json["error"]["hint"]


def test_options_alone_lack_a_checkpoint_or_a_budget(cli: Cli, project: Path) -> None:
    words = ["--model", MODEL, "--data", "data"]
    assert "--checkpoint" in refused(cli, project, *words).json["error"]["hint"]
    words += ["--checkpoint", "dense.safetensors"]
    assert "--latency-budget" in refused(cli, project, *words).json["error"]["hint"]
    words += ["--latency-budget", "fast"]
    assert "'fast'" in refused(cli, project, *words).json["error"]["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("--latency-budget", "0ms"),
        ("--latency-budget", "150%"),
        ("--threads", "0"),
        ("--images", "-1"),
        ("--epochs", "nan"),
        ("--seed", "-3"),
        ("--device", "toaster"),
        ("--target", "pte"),
        ("--target", "onnx,onnx"),
        ("--device", "local,local"),
        ("--latency-budget", "50%,50.0%"),
        ("--precision", "fp23"),
        ("--data", "nowhere"),
        ("--train", "nowhere"),
        ("--val", "nowhere"),
        ("--checkpoint", "nowhere.pt"),
    ],
)
def test_wrong_options_are_named(cli: Cli, tiny: Path, words: tuple[str, ...]) -> None:
    said = refused(cli, tiny, *words)
    error = said.json["error"]
    assert re.search(rf"{words[0]}(?![\w-])", f"{error['message']} {error['hint']}"), "the option, and not a word in it"
    assert re.search(rf"(?<![\w.-]){re.escape(words[1])}(?![\w%])", error["message"]), "the value"


def test_two_lengths_of_training_are_refused(cli: Cli, tiny: Path) -> None:
    assert "--images" in refused(cli, tiny, "--images", "5", "--epochs", "1").json["error"]["message"]


def test_the_run_folder_is_a_file(cli: Cli, tiny: Path) -> None:
    assert "dense.safetensors" in refused(cli, tiny, "--out", "dense.safetensors").json["error"]["message"]


def test_the_run_folder_is_somebody_elses(cli: Cli, tiny: Path) -> None:
    """A folder with other files is not taken for a run."""
    said = refused(cli, tiny, "--out", "data")
    assert said.json["error"]["message"].startswith("data exists and is not a run folder")


def test_a_budget_below_the_smallest_structure_says_what_it_reaches(cli: Cli, tiny: Path, tables: Path) -> None:
    words = ("--latency-budget", "0.000001ms", "--target", "onnx", "--out", "mine")
    with fake_clock(tables):
        said = refused(cli, tiny, *words)
    assert " ms" in said.json["error"]["message"].replace("\u00a0", " ")
    assert (tiny / "mine" / MANIFEST).exists(), "the run had begun"
    said = refused(cli, tiny, *words, "--seed", "7")
    assert "mine is the run of another recipe" in said.json["error"]["message"]
    assert "--out" in said.json["error"]["hint"]


@pytest.mark.parametrize("command", ["export", "profile", "report"])
def test_commands_on_a_run_say_when_there_is_none(cli: Cli, project: Path, command: str) -> None:
    for words in ((), ("nowhere",)):
        said = cli(command, *words, "--json")
        assert said.code == 2
        assert (words[0] if words else "no run") in said.json["error"]["message"]
        assert said.json["error"]["hint"]
        assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["evaluate", "profile"])
def test_commands_on_a_file_refuse_what_is_none(cli: Cli, project: Path, command: str) -> None:
    (project / "noise.pte").write_bytes(b"noise" * 100)
    for file in ("noise.pte", "missing.pte", "dense.safetensors"):
        said = cli(command, file, "--json")
        assert said.code == 2
        assert file in said.json["error"]["message"]
        assert "Traceback" not in said.err


def test_files_that_only_evaluate_here_are_not_timed(cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "wdp-edge.toml").write_text(RECIPE)
    monkeypatch.setattr("wdp_edge.targets.coreml.target.CoreMLTarget.timed_here", lambda self: False)
    for words in (("prune", "--latency-budget", "50%", "--target", "coreml"), ("table", "--target", "coreml")):
        said = cli(*words)
        assert said.code == 2 and "'coreml' cannot be timed on this machine" in said.err
    assert not (project / "runs").exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has this device")
def test_a_mac_is_needed_for_apples_devices(cli: Cli, project: Path) -> None:
    (project / "wdp-edge.toml").write_text(RECIPE)
    words = ("--target", "coreml", "--device", "apple:cpu+ne")
    for command in (("prune", "--latency-budget", "50%", *words), ("table", *words)):
        said = cli(*command, "--json")
        assert said.code == 2
        assert said.json["error"]["message"].startswith("The device 'apple:cpu+ne' needs a Mac")
        assert "another device" in said.json["error"]["hint"]
    assert not (project / "runs").exists()


def test_too_few_images_to_hold_any_back_are_found_first(cli: Cli, tiny: Path) -> None:
    for image in (tiny / "data/train").glob("*/*"):
        if image.stem != "000":
            image.unlink()
    said = refused(cli, tiny)
    assert "None of the 3 images in data/train can be held back" in said.json["error"]["message"]
    assert not (tiny / "runs").exists()


def test_a_metric_that_counts_nothing_is_found_first(cli: Cli, tiny: Path) -> None:
    recipe = tiny / "wdp-edge.toml"
    recipe.write_text(recipe.read_text().replace("num_classes = 3", 'task = "retrieve"'))
    for image in (tiny / "data/val").glob("*/*"):
        if image.stem != "000":
            image.unlink()
    message = refused(cli, tiny).json["error"]["message"]
    assert "Recall@1 is not defined on the 3 images of" in message
