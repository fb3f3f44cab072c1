"""What init takes from the files beside the weights, on a tiny model and its images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_project import ARGS, MODEL, small_project, without_class_folders

from wdp_edge.commands.init import InitResult, init
from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import DataRecipe, ModelRecipe
from wdp_edge.errors import InputError

CONFIG = {"model_type": "vit", "num_attention_heads": 4, "hidden_size": 32}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Weights, and images of the classes blue, green and red."""
    return small_project(tmp_path)


def started(folder: Path, **given: Any) -> InitResult:
    model = ModelRecipe(MODEL, given.pop("args", ARGS), 0, str(folder / "dense.safetensors"))
    return init(model, folder / "data", folder, force=True, **given)


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": {str(index): name for index, name in enumerate(names)}}


def data(folder: Path) -> DataRecipe:
    return load_recipe(folder / "wdp-edge.toml").data


def test_preprocessing_beside_the_weights_is_used_and_the_user_wins(project: Path) -> None:
    (project / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.4] * 3, "image_std": [0.3] * 3}))
    note = started(project, preprocess={"std": 0.2}).notes[0]
    assert "Preprocessing from preprocessor_config.json" in note and "mean 0.4/0.4/0.4" in note and "std" not in note
    assert data(project).preprocess == {"mean": [0.4] * 3, "std": [0.2] * 3}
    (project / "preprocessor_config.json").write_text(json.dumps({"image_mean": [120] * 3}))
    with pytest.raises(InputError, match=r"preprocessor_config\.json beside the weights: mean must be") as caught:
        started(project)
    assert "--preprocess mean=" in caught.value.hint


def test_a_config_that_says_otherwise_stops_before_anything_is_written(project: Path) -> None:
    (project / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": 2}))
    with pytest.raises(InputError, match="attention heads 2"):
        started(project, args={**{k: v for k, v in ARGS.items() if k != "num_heads"}, "embed_dim": 48})
    assert not (project / "wdp-edge.toml").exists()
    assert any("attention heads 2" in text for text in started(project).warnings)


def test_the_order_of_classes_of_the_config_is_the_model_s(project: Path) -> None:
    (project / "config.json").write_text(json.dumps(CONFIG | labels("Red", "green", "blue")))
    found = started(project)
    assert any("class_names.txt" in note and "red, green, blue" in note for note in found.notes)
    assert Path(data(project).class_order) == project / "class_names.txt"
    assert (project / "class_names.txt").read_text() == "red\ngreen\nblue\n"
    assert started(project, class_order="alphabetical").class_order == "alphabetical"


def test_classes_get_names_without_labels_too(project: Path) -> None:
    (project / "config.json").write_text(json.dumps(CONFIG | labels("sky", "grass", "fire")))
    for part in ("train", "val"):
        without_class_folders(project / "data" / part)
    assert started(project).task == "classify-unlabelled"
    assert (project / "class_names.txt").read_text() == "sky\ngrass\nfire\n"
    assert Path(data(project).class_order) == project / "class_names.txt"
    (project / "two.txt").write_text("sky\ngrass\n")
    with pytest.raises(InputError, match="names 2 classes, the model has 3"):
        started(project, class_order=str(project / "two.txt"))


def test_an_order_with_a_name_needs_no_file(project: Path) -> None:
    (project / "config.json").write_text(json.dumps(CONFIG | labels("blue", "green", "red")))
    found = started(project)
    assert found.class_order == "alphabetical" and not (project / "class_names.txt").exists()


def test_somebody_s_own_list_of_classes_is_not_overwritten(project: Path) -> None:
    (project / "config.json").write_text(json.dumps(CONFIG | labels("red", "green", "blue")))
    (project / "class_names.txt").write_text("blue\nred\ngreen\n")
    model = ModelRecipe(MODEL, ARGS, 0, str(project / "dense.safetensors"))
    with pytest.raises(InputError, match="exists") as caught:
        init(model, project / "data", project)
    assert "--class-order" in caught.value.hint and "--force" in caught.value.hint
    assert (project / "class_names.txt").read_text() == "blue\nred\ngreen\n"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("red", "green", "cyan"), "lacks blue"),
        (("red", "green", "blue", "cyan"), "names 4 classes (red, green, blue, …), not 3: their order is not used"),
        (("a", "b", "c"), ""),
    ],
)
def test_other_names_than_those_of_the_images(project: Path, names: tuple[str, ...], says: str) -> None:
    (project / "config.json").write_text(json.dumps(CONFIG | labels(*names)))
    found = started(project)
    told = "".join(text for text in found.warnings if "config.json" in text)
    assert says in told if says else not told
    assert found.class_order == "alphabetical" and found.num_classes == 3
