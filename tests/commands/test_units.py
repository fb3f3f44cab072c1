"""`--unit`: another kind of file for GPUs, a part of the device's name for Apple's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wdp_edge.commands.units import on_apple, with_unit
from wdp_edge.config.recipe import Recipe
from wdp_edge.errors import InputError
from wdp_edge.protocols.target import on_unit, targets_of


def recipe(**settings: str) -> Recipe:
    return replace(Recipe(), prune=replace(Recipe().prune, **settings))


def test_every_target_of_a_recipe_is_for_the_unit() -> None:
    assert with_unit(recipe(target="tflite"), "gpu").prune.target == "tflite:gpu"
    assert with_unit(recipe(target="tflite:gpu"), "gpu").prune.target == "tflite:gpu"
    assert with_unit(recipe(target="onnx,tflite"), "cpu").prune.target == "onnx,tflite"
    assert with_unit(recipe(target="tflite"), None).prune.target == "tflite"


def test_apple_s_units_belong_to_the_device() -> None:
    assert with_unit(recipe(target="coreml", device="apple"), "cpu+ne").prune.device == "apple:cpu+ne"
    udid = "00008120-001109881103C01E"
    assert on_apple(f"apple:{udid}", "cpu") == f"apple:{udid}:cpu"
    assert on_apple("apple:cpu+ne", "cpu+ne") == "apple:cpu+ne"
    with pytest.raises(InputError, match="does not use the unit 'all'"):
        on_apple("apple:cpu+ne", "all")
    with pytest.raises(InputError, match=r"Core ML has no units 'gpu'.*cpu\+gpu"):
        on_apple("apple", "gpu")


def test_what_there_are_no_files_for_is_said() -> None:
    with pytest.raises(InputError, match=r"'onnx' makes no files for the unit 'gpu'. Targets that do: tflite"):
        on_unit("onnx", "gpu")
    with pytest.raises(InputError, match=r"No target makes files for the unit 'npu'. Units: cpu, gpu"):
        targets_of("npu")
    with pytest.raises(InputError, match="'tflite:gpu' are not for the unit 'cpu'"):
        on_unit("tflite:gpu", "cpu")
