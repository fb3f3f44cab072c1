"""models/recognise/agreement.py: a model that the user named against what stands beside the weights."""

from __future__ import annotations

from typing import Any

import pytest

from wdp_edge.errors import InputError
from wdp_edge.models.recognise.agreement import disagreements
from wdp_edge.models.recognise.beside import Beside
from wdp_edge.models.recognise.traits import Traits

TINY = "vit_tiny_patch16_224"


def said(name: str, told: Traits | str, given: dict[str, Any] | None = None) -> tuple[bool, list[str]]:
    """told: traits of a config.json, or the name of the model in timm's."""
    known = {"name": told, "kind": told} if isinstance(told, str) else {"traits": told, "kind": "ViTModel"}
    return disagreements(name, given or {}, given or {}, Beside(config="config.json", **known))  # type: ignore[arg-type]


def test_what_agrees_is_not_mentioned() -> None:
    same = Traits(heads=3, activation="gelu", epsilon=1e-12, image_size=224, patch=16, width=192, depth=12)
    assert said(TINY, same) == (True, [])
    assert said(TINY, "deit_tiny_patch16_224") == (True, [])


@pytest.mark.parametrize(
    ("name", "told", "says"),
    [
        (TINY, Traits(heads=6), ("attention heads 6, 'vit_tiny_patch16_224' has 3", "num_heads=6")),
        (TINY, Traits(activation="quick_gelu"), ("activation quick_gelu", "act_layer=quick_gelu")),
        ("swinv2_tiny_window8_256", Traits(window=16), ("window 16", "window_size=16")),
        ("vit_base_patch32_clip_224", "vit_base_patch32_clip_quickgelu_224", ("quick_gelu", "act_layer=quick_gelu")),
        ("vit_small_patch16_dinov3", "vit_small_patch16_dinov3", ()),
    ],
)
def test_what_computes_something_else_with_the_same_weights_is_refused(
    name: str, told: Traits | str, says: tuple[str, ...]
) -> None:
    if not says:
        assert said(name, told) == (True, [])
        return
    with pytest.raises(InputError, match=says[0]) as caught:
        said(name, told)
    assert f"--model-arg {says[1]}" in caught.value.hint and "leave --model out" in caught.value.hint


def test_what_the_user_chose_wins_and_is_said() -> None:
    used, warnings = said(TINY, Traits(heads=6), {"num_heads": 3})
    assert used and "as --model-arg says" in warnings[0]


def test_what_changes_little_is_warned_of() -> None:
    used, warnings = said(TINY, Traits(epsilon=1e-3, image_size=384))
    assert used and "img_size=384" in warnings[0] and "0.001 for the epsilon" in warnings[1]
    assert len(said(TINY, Traits(image_size=384), {"img_size": 224})[1]) == 0


@pytest.mark.parametrize("told", [Traits(width=768, heads=12), "vit_of_next_year", "resnet18", "vit_base_patch16_224"])
def test_files_of_another_model_are_not_used(told: Traits | str) -> None:
    used, warnings = said(TINY, told)
    assert not used and "nothing of it is used" in warnings[0]
