"""Options that commands share: each one sets its setting of the recipe, and nothing else."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_verbs import PRUNED, Fake
from tiny_project import CLASSES, Cli

from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import Recipe

SETS = [
    ("--model", "vit_small_patch16_224", "model.name", "vit_small_patch16_224"),
    ("--model-arg", "img_size=56", "model.args", {"img_size": 56}),
    ("--num-classes", "7", "model.num_classes", 7),
    ("--checkpoint", "other.pt", "model.checkpoint", "other.pt"),
    ("--train", "mine", "data.train", "mine"),
    ("--val", "mine", "data.val", "mine"),
    ("--latency-budget", "20ms", "prune.latency_budget", "20ms"),
    ("--target", "onnx", "prune.target", "onnx"),
    ("--precision", "fp16", "prune.precision", "fp16"),
    ("--device", "ssh:pi@board", "prune.device", "ssh:pi@board"),
    ("--accept", "virtual", "prune.accept", "virtual"),
    ("--threads", "3", "prune.threads", 3),
    ("--seed", "9", "prune.seed", 9),
    ("--out", "here", "prune.out", "here"),
]


def settings(part: Any, place: str = "") -> dict[str, Any]:
    """Every setting by its dotted key."""
    found: dict[str, Any] = {}
    for one in fields(part):
        value, name = getattr(part, one.name), f"{place}{one.name}"
        found |= settings(value, f"{name}.") if is_dataclass(value) else {name: value}
    return found


def pruned_with(cli: Cli, fake: Fake, *words: str) -> Recipe:
    """The recipe that `wdp-edge prune` hands on."""
    calls = fake("prune", PRUNED)
    said = cli("prune", *words)
    assert said.code == 0, said.err
    recipe = calls[0][0]
    assert isinstance(recipe, Recipe)
    return recipe


@pytest.mark.parametrize(("option", "text", "key", "value"), SETS)
def test_an_option_sets_one_setting(cli: Cli, fake: Fake, option: str, text: str, key: str, value: object) -> None:
    before = settings(load_recipe(Path("wdp-edge.toml")))
    after = settings(pruned_with(cli, fake, "--latency-budget", "50%", option, text))
    changed = {name: after[name] for name in after if name != "prune.latency_budget" and after[name] != before[name]}
    if key == "prune.latency_budget":
        assert after[key] == value and not changed, "the last one counts"
    else:
        assert changed == {key: value}


def test_an_argument_without_a_value_is_refused(cli: Cli, fake: Fake) -> None:
    fake("prune", PRUNED)
    said = cli("prune", "--latency-budget", "50%", "--model-arg", "img_size")
    assert said.code == 2 and "--model-arg img_size" in said.err


def test_the_folders_in_data_and_those_that_win_over_them(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in CLASSES:
            (tmp_path / "data" / part / name).mkdir(parents=True)

    def folders(*words: str) -> tuple[str, str]:
        data = pruned_with(cli, fake, "--latency-budget", "50%", *words).data
        return data.train, data.val

    assert folders() == ("t", "v"), "of the recipe"
    assert folders("--data", "data") == ("data/train", "data/test")
    assert folders("--data", "data", "--val", "mine") == ("data/train", "mine")
    assert folders("--data", "nowhere", "--train", "a", "--val", "b") == ("a", "b")
    said = cli("prune", "--latency-budget", "50%", "--data", "data/train")
    assert said.code == 2 and "--train and --val" in said.err


def test_lists_make_several_runs_and_only_prune_takes_them(
    cli: Cli, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("prune", PRUNED)
    calls: list[tuple[Any, ...]] = []

    def sweep(*given: Any) -> Any:
        calls.append(given)
        return PRUNED

    monkeypatch.setattr("wdp_edge.pruning.sweep.sweep", sweep)
    for words in (("50%", "--target", "onnx,tflite"), ("50%", "--device", "local,ssh:pi"), ("30%,50%",)):
        said = cli("prune", "--latency-budget", *words)
        assert said.code == 0, said.err
    assert [calls[1][0].prune.device, calls[0][0].prune.target] == ["local,ssh:pi", "onnx,tflite"]
    assert len(calls) == 3
    alone = (("table", "--target", "onnx,tflite"), ("profile", "x.onnx", "--device", "local,ssh:pi"))
    for refused in alone:
        said = cli(*refused)
        assert said.code == 2 and f"{refused[-2]} takes one here, not {refused[-1]}" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "onnx,pte"), "--target cannot be 'pte'"),
        (("--target", "onnx,"), "--target cannot be ''"),
        (("--device", "local,toaster"), "--device: There is no device 'toaster'"),
    ],
)
def test_each_of_several_is_checked(cli: Cli, words: tuple[str, ...], message: str) -> None:
    said = cli("prune", "--latency-budget", "50%", *words)
    assert said.code == 2 and message in said.err
