"""`wdp-edge init` on a real checkpoint and real images, and everything it refuses."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_project import ARGS, MODEL, Cli, init_words

from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import Recipe
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.protocols.task import Output


def test_init_writes_a_recipe_that_loads(cli: Cli, project: Path) -> None:
    said = cli(*init_words(), "--json")
    assert said.code == 0
    found = said.json
    # Its weights are random, which is said in the result and to whoever reads along.
    warning = found.pop("warnings")[0]
    assert "no better than chance on 48 training images" in warning and f"warning: {warning}" in said.err
    assert found.pop("first_look")["images"] == 48
    assert found == {
        "version": 1,
        "path": "wdp-edge.toml",
        "model": MODEL,
        "num_classes": 3,
        "train_images": 48,
        "val_images": 12,
        "head_blocks": "",
        "weights": "",
        "args": ARGS,
        "why": [],
        "notes": [],
        "left_out": {},
        "class_order": "alphabetical",
        "task": "classify",
    }
    recipe = load_recipe(Path("wdp-edge.toml"))
    assert recipe.model.name == MODEL
    assert recipe.model.args == ARGS
    assert recipe.model.num_classes == 3
    assert recipe.model.checkpoint == "dense.safetensors"
    assert (recipe.data.train, recipe.data.val) == ("data/train", "data/val")
    assert recipe.prune == Recipe().prune
    assert "# name of the model in timm" in Path("wdp-edge.toml").read_text()


def test_init_says_which_files_it_leaves_out(cli: Cli, project: Path) -> None:
    for number in range(4):
        (project / f"data/train/red/{number}.heic").write_bytes(b"x")
    assert "Left out of train: 4 files (4 .heic)." in cli(*init_words()).out
    assert cli(*init_words(), "--force", "--json").json["left_out"] == {"train": {".heic": 4}}


def test_the_number_of_classes_is_that_of_the_folders(cli: Cli, project: Path) -> None:
    assert cli(*init_words(num_classes=0)).code == 0
    assert load_recipe(Path("wdp-edge.toml")).model.num_classes == 3


def sound_project(folder: Path, names: Sequence[str]) -> None:
    """Images of one brightness per class, folders called `names`, and a model whose class c is names[c].

    It looks at nothing but the brightness, of pixels that are taken as they are: mean 0, std 1.
    """
    levels = [40.0, 128.0, 215.0]
    for part, count in (("train", 16), ("val", 4)):
        for old in (folder / "data" / part).iterdir():
            shutil.rmtree(old)
        for name, level in zip(names, levels, strict=True):
            (folder / "data" / part / name).mkdir()
            for number in range(count):
                noise = np.random.default_rng(number).integers(-20, 20, (16, 16, 3))
                pixels = (level + noise).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "data" / part / name / f"{number}.png")
    model: Any = create(ModelSpec(MODEL, 3, {**ARGS, "global_pool": "avg", "class_token": False}))
    model.load_state_dict({name: torch.zeros_like(value) for name, value in model.state_dict().items()})
    with torch.no_grad():
        # Blocks of zeros change nothing; normalised, channel 0 keeps its size against channel 1, a constant.
        model.patch_embed.proj.weight[0] = 1 / 48
        model.patch_embed.proj.bias[:2] = torch.tensor([-0.5, 1.0])
        model.fc_norm.weight.fill_(1.0)
        wanted = torch.tensor([level / 255 - 0.5 for level in levels])
        stream = torch.zeros(3, 32)
        stream[:, 0], stream[:, 1] = wanted, 1.0
        features = torch.nn.functional.layer_norm(stream, (32,))
        model.head.weight.copy_(features)
        model.head.bias.copy_(-features.square().sum(1) / 2)
    save_file(model.state_dict(), folder / "dense.safetensors")


AS_PIXELS = ("--preprocess", "mean=0", "--preprocess", "std=[1, 1, 1]")


def test_the_order_of_classes_that_the_model_agrees_with_is_taken(cli: Cli, project: Path) -> None:
    sound_project(project, ("2", "9", "10"))
    words = [*init_words(model_arg="global_pool=avg"), "--model-arg", "class_token=false"]
    said = cli(*words, *AS_PIXELS)
    assert said.code == 0, said.err
    assert "0.0% with the alphabetical one and 100.0% with the natural one, on 48 images" in said.out
    assert "warning" not in said.err
    data = load_recipe(Path("wdp-edge.toml")).data
    assert data.class_order == "natural"
    assert data.preprocess == {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    asked = cli(*words, *AS_PIXELS, "--class-order", "alphabetical", "--force", "--json").json
    assert asked["class_order"] == "alphabetical"
    assert asked["order_metric"] == {"alphabetical": 0.0, "natural": 1.0}
    assert any('Set class_order = "natural"' in text for text in asked["warnings"])
    (project / "names.txt").write_text("2\n9\n10\n")
    listed = cli(*words, *AS_PIXELS, "--class-order", "names.txt", "--force", "--json").json
    assert (listed["class_order"], listed["warnings"]) == ("names.txt", [])
    assert load_recipe(project / "wdp-edge.toml").data.class_order == str(project / "names.txt")


def test_other_preprocessing_than_in_training_is_noticed(cli: Cli, project: Path) -> None:
    sound_project(project, ("a", "b", "c"))
    words = [*init_words(model_arg="global_pool=avg"), "--model-arg", "class_token=false"]
    said = cli(*words, "--preprocess", "mean=1", "--preprocess", "std=0.1", "--json").json
    (warning,) = said["warnings"]
    assert "--preprocess mean=0 --preprocess std=1" in warning and "Set mean = 0 and std = 1 under" in warning
    assert said["first_look"]["fit"]["value"] == 1.0 and said["first_look"]["value"] < 0.5
    told = cli(*words, "--preprocess", "mean=0", "--preprocess", "std=1", "--force")
    assert "accuracy 100.0% on 48 training images" in told.out and "warning" not in told.err
    assert "Images that it was not trained on, with labels or without, are better" in " ".join(told.out.split())
    wrong = cli(*words, "--preprocess", "mean=123.7", "--force")
    assert wrong.code == 2 and "divide those for 0 to 255 by 255" in wrong.err


def test_class_numbers_may_leave_out_classes(cli: Cli, project: Path) -> None:
    for part in ("train", "val"):
        rows = [
            f"{image.relative_to(project / 'data')},{label}"
            for name, label in (("blue", 1), ("red", 2))
            for image in (project / "data" / part / name).iterdir()
        ]
        (project / "data" / f"{part}.csv").write_text("path,label\n" + "\n".join(rows))
        (project / "data" / part).rename(project / "data" / f"images-{part}")
        listed = project / "data" / f"{part}.csv"
        listed.write_text(listed.read_text().replace(f"{part}/", f"images-{part}/"))
    said = cli(*init_words(), "--json")
    assert said.code == 0 and "1 of the model's 3 classes have no training images (0)" in said.err
    said = cli(*init_words(num_classes=0), "--force")
    assert said.code == 2 and "has the class 0" in said.err and "subtract 1" in said.err


def test_test_folder_serves_for_validation(cli: Cli, project: Path) -> None:
    (project / "data/val").rename(project / "data/test")
    assert cli(*init_words()).code == 0
    assert load_recipe(Path("wdp-edge.toml")).data.val == "data/test"


def test_lists_serve_instead_of_folders(cli: Cli, project: Path) -> None:
    for part in ("train", "val"):
        rows = [f"{p.relative_to(project / 'data')},{p.parent.name}" for p in (project / "data" / part).glob("*/*")]
        (project / "data" / f"{part}.csv").write_text("path,label\n" + "\n".join(rows))
        (project / "data" / part).rename(project / "data" / f"images-{part}")
    said = cli(*init_words())
    assert said.code == 2 and "do not exist" in said.err
    for part in ("train", "val"):
        listed = project / "data" / f"{part}.csv"
        listed.write_text(listed.read_text().replace(f"{part}/", f"images-{part}/"))
    said = cli(*init_words(), "--json")
    assert said.code == 0 and (said.json["train_images"], said.json["val_images"]) == (48, 12)
    assert load_recipe(Path("wdp-edge.toml")).data.train == "data/train.csv"


def test_lists_of_several_labels_are_found_and_masks_need_a_number_of_classes(cli: Cli, project: Path) -> None:
    for part in ("train", "val"):
        rows = [f"{p.relative_to(project / 'data')},{p.parent.name};any" for p in (project / "data" / part).glob("*/*")]
        (project / "data" / f"{part}.csv").write_text("path,label\n" + "\n".join(rows))
    said = cli(*init_words(num_classes=0), "--task", "multilabel")
    assert said.code == 2 and "has 3 classes, but the recipe says 4" in said.err
    assert said.err.count("num_classes = 3") == 1
    said = cli(*init_words(num_classes=0), "--task", "segment")
    assert said.code == 2 and "has no folder images/" in said.err
    for part in ("train", "val"):
        for inner in ("images", "masks"):
            for name in ("blue", "red"):
                target = project / "data" / part / inner / f"{name}.png"
                target.parent.mkdir(exist_ok=True)
                target.write_bytes((project / "data" / part / name / "000.png").read_bytes())
    said = cli(*init_words(num_classes=0), "--task", "segment")
    assert said.code == 2 and "masks do not tell it" in said.err
    said = cli(*init_words(), "--task", "segment", "--json")
    assert said.code == 0 and (said.json["num_classes"], said.json["train_images"]) == (3, 2)
    assert load_recipe(Path("wdp-edge.toml")).model.head_channels == 0
    dense = create(ModelSpec(MODEL, 3, ARGS, Output.MAP, head_channels=8))
    save_file(dense.state_dict(), project / "dense.safetensors")
    assert cli(*init_words(), "--task", "segment", "--force").code == 0
    assert load_recipe(Path("wdp-edge.toml")).model.head_channels == 8
    dense = create(ModelSpec(MODEL, 3, ARGS, Output.MAP, head_blocks=(1, 3)))
    save_file(dense.state_dict(), project / "dense.safetensors")
    said = cli(*init_words(), "--task", "segment", "--force")
    assert said.code == 0 and "read blocks 2,3: set head_blocks" in said.out
    assert load_recipe(Path("wdp-edge.toml")).model.head_blocks == "2,3"


def test_the_python_twin_writes_paths_from_the_folder_of_the_recipe(project: Path) -> None:
    import wdp_edge
    from wdp_edge.config.recipe import ModelRecipe

    (project / "sub").mkdir()
    result = wdp_edge.init(
        ModelRecipe(MODEL, ARGS, 3, "dense.safetensors"), Path("data").absolute(), folder=Path("sub")
    )
    recipe = load_recipe(result.path)
    assert Path(recipe.model.checkpoint).resolve() == project / "dense.safetensors"
    assert recipe.data.train == str(project / "data/train")


def test_an_existing_recipe_is_not_overwritten_without_force(cli: Cli, project: Path) -> None:
    (project / "wdp-edge.toml").write_text("# mine\n")
    said = cli(*init_words(), "--json")
    assert said.code == 2
    assert said.json["error"]["message"] == "wdp-edge.toml exists."
    assert "--force" in said.json["error"]["hint"]
    assert (project / "wdp-edge.toml").read_text() == "# mine\n"
    assert cli(*init_words(), "--force").code == 0
    assert MODEL in (project / "wdp-edge.toml").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checkpoint": "missing.pt"}, ["missing.pt", "--checkpoint"]),
        ({"checkpoint": "data"}, ["data is a folder", ".safetensors"]),
        ({"data": "nowhere"}, ["nowhere", "--data"]),
        ({"data": "data/train"}, ["train/", "Rename"]),
        ({"data": "dense.safetensors"}, ["is a file, not a folder", "--data"]),
        ({"model": "vit_tyny_patch16_224"}, ["vit_tyny_patch16_224", "vit_tiny_patch16_224"]),
        ({"model": "resnet18"}, ["resnet18", ""]),
        ({"model": "vit_small_patch14_dinov2"}, ["dense.safetensors", "timm model"]),
        ({"num-classes": 4}, ["4", "num_classes"]),
        ({"num-classes": -2}, ["", "num_classes"]),
        ({"model-arg": "img_size"}, ["KEY=VALUE", "img_size=56"]),
        ({"model-arg": "no_such_argument=1"}, ["no_such_argument", "args"]),
    ],
)
def test_init_refuses(cli: Cli, project: Path, changes: dict[str, object], says: list[str]) -> None:
    said = cli(*init_words(**changes), "--json")
    assert said.code == 2
    assert says[0] in said.json["error"]["message"]
    assert says[1] in said.json["error"]["hint"]
    assert "Traceback" not in said.err
    assert not (project / "wdp-edge.toml").exists()


def test_embeddings_need_no_class_folders(cli: Cli, project: Path) -> None:
    for part in ("train", "val"):
        for number, image in enumerate(sorted((project / "data" / part).rglob("*.png"))):
            image.rename(project / "data" / part / f"{number}.png")
        for empty in [path for path in (project / "data" / part).iterdir() if path.is_dir()]:
            empty.rmdir()
    said = cli(*init_words(num_classes=0))
    assert "3 classes" in said.out and "the task is classify-unlabelled" in said.out
    recipe = load_recipe(Path("wdp-edge.toml"))
    assert (recipe.model.task, recipe.model.num_classes) == ("classify-unlabelled", 3)
    Path("wdp-edge.toml").unlink()
    said = cli(*init_words(num_classes=0, task="features"))
    assert said.code == 0 and "embeddings, 48 training and 12 validation images" in said.out
    recipe = load_recipe(Path("wdp-edge.toml"))
    assert (recipe.model.task, recipe.model.num_classes) == ("features", 0)


@pytest.mark.parametrize(("task", "says"), [("retreive", "retreive"), ("retrieve", "num_classes is 3")])
def test_init_refuses_a_task_that_does_not_fit(cli: Cli, project: Path, task: str, says: str) -> None:
    said = cli(*init_words(task=task), "--json")
    assert said.code == 2 and says in said.json["error"]["message"]
