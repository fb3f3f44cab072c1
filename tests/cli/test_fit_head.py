"""`wdp-edge fit-head` and `init --fit-head` as a user types them."""

import shlex
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_project import ARGS, MODEL, Cli, init_words, without_class_folders

from wdp_edge.config.file import load_recipe
from wdp_edge.models.fitting import without_head

ARG_WORDS = [word for key, value in ARGS.items() for word in ("--model-arg", f"{key}={value}")]
WORDS = ("fit-head", "--model", MODEL, *ARG_WORDS, "--checkpoint", "bare.safetensors", "--data", "data")


@pytest.fixture
def bare(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project with a checkpoint without a head."""
    monkeypatch.setenv("WDP_EDGE_CACHE", str(project / "cache"))
    save_file(without_head(load_file("dense.safetensors")), "bare.safetensors")
    return project


def test_init_fits_a_head_and_goes_on_with_it(cli: Cli, bare: Path) -> None:
    refused = cli(*init_words(checkpoint="bare.safetensors"), "--json").json["error"]
    assert "has no head" in refused["message"] and "--fit-head" in refused["hint"]
    said = cli(*init_words(checkpoint="bare.safetensors"), "--fit-head", "--json")
    assert said.code == 0
    head = said.json["head"]
    assert (head["metric"], head["val"], head["held_back_images"]) == ("accuracy", 1.0, 9)
    assert head["chance"] == pytest.approx(1 / 3) and said.json["warnings"] == []
    recipe = load_recipe(Path("wdp-edge.toml"))
    assert (recipe.model.checkpoint, recipe.model.num_classes) == ("with_head.safetensors", 3)
    assert cli(*init_words(checkpoint="with_head.safetensors"), "--force").code == 0, "it is a checkpoint as any other"


def test_the_command_alone(cli: Cli, bare: Path) -> None:
    said = cli(*WORDS, "--out", "mine.safetensors", "--preprocess", "mean=0.5")
    assert said.code == 0 and "mine.safetensors" in said.out and "by chance" in said.out
    assert not Path("wdp-edge.toml").exists()
    _, _, following = said.out.partition("Next: wdp-edge ")
    assert cli(*shlex.split(following.replace("FOLDER", "data"))).code == 0, "a command that can be pasted"
    assert load_recipe(Path("wdp-edge.toml")).data.preprocess == {"mean": [0.5, 0.5, 0.5]}


def test_nothing_is_overwritten_unasked(cli: Cli, bare: Path) -> None:
    Path("with_head.safetensors").write_text("mine")
    for words in (WORDS, (*init_words(checkpoint="bare.safetensors"), "--fit-head")):
        said = cli(*words, "--json")
        assert said.code == 2 and said.json["error"]["message"] == "with_head.safetensors exists."
        assert "--force" in said.json["error"]["hint"]
        assert Path("with_head.safetensors").read_text() == "mine" and not Path("wdp-edge.toml").exists()
    assert cli(*WORDS, "--force").code == 0
    assert "head.weight" in load_file("with_head.safetensors")


def test_tasks_that_need_no_head_say_so(cli: Cli, bare: Path) -> None:
    for command, words in (("init", ("--fit-head",)), ("fit-head", ())):
        said = cli(command, *WORDS[1:], *words, "--task", "features", "--json")
        assert said.code == 2 and "needs no head" in said.json["error"]["message"]


def test_an_original_is_not_compared_with_a_new_head(cli: Cli, bare: Path) -> None:
    said = cli(*init_words(checkpoint="bare.safetensors"), "--fit-head", "--check-against", "hf", "--json")
    assert said.code == 2 and "--fit-head leaves out" in said.json["error"]["message"]


def test_a_checkpoint_has_to_be_named(cli: Cli, bare: Path) -> None:
    said = cli("fit-head", "--data", "data", "--json")
    assert said.code == 2 and "--checkpoint" in said.json["error"]["hint"]


def test_images_without_labels_are_refused(cli: Cli, bare: Path) -> None:
    for part in ("train", "val"):
        without_class_folders(Path("data", part))
    for words in (WORDS, (*init_words(checkpoint="bare.safetensors"), "--fit-head")):
        said = cli(*words, "--json")
        assert said.code == 2 and "without labels" in said.json["error"]["message"]
        assert not Path("with_head.safetensors").exists() and not Path("wdp-edge.toml").exists()
