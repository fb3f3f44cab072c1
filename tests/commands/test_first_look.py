"""What `init` learns from a look at training images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_project import write_images

from wdp_edge.commands.first_look import first_look
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.data.listed import images_at
from wdp_edge.protocols.task import ALPHABETICAL, Labels, facts_of


def test_a_checkpoint_of_blue_green_red_is_looked_at_as_it_was_trained(tiny_model: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4)
    train = images_at(tmp_path / "train", Labels.ONE)
    folders = train, replace(train)
    recipe = ModelRecipe("", {}, len(folders[0].classes))
    before = tiny_model.patch_embed.proj.weight.detach().clone()
    found = first_look(recipe, tiny_model, facts_of("classify"), folders, folders[0], "", {"channels": "bgr"})
    assert found.look is not None and found.look.images == 12 and found.order == ALPHABETICAL
    assert tiny_model.patch_embed.proj.weight.equal(before), "it may be written into a file"


def test_embeddings_are_looked_at_for_being_all_alike_alone(tiny_model: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "train", 1)
    train = images_at(tmp_path / "train", Labels.ONE)
    folders = train, replace(train)
    found = first_look(
        ModelRecipe(task="features"), tiny_model, facts_of("features"), folders, folders[0], "natural", {}
    )
    assert (found.order, found.look, found.warnings) == ("natural", None, [])
