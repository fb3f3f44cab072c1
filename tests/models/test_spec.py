"""How to make a timm model again: names, arguments, classes and outputs that go together, and those that do not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.errors import InputError
from wdp_edge.io.plain import from_plain
from wdp_edge.models.spec import ModelSpec, UnitLength, create
from wdp_edge.protocols.task import Output


def test_unknown_and_unsupported_models() -> None:
    with pytest.raises(InputError, match="vit_tiny_patch16_224"):
        create(ModelSpec("vit_tinny_patch16_224", 10))
    with pytest.raises(InputError, match="Known families"):
        create(ModelSpec("resnet18", 10))
    with pytest.raises(InputError, match="it pools by attention"):
        create(ModelSpec("vit_base_patch16_siglip_224", 10))
    with pytest.raises(InputError, match="Check"):
        create(ModelSpec("vit_tiny_patch16_224", 10, {"no_such_argument": 1}))


def test_a_task_s_output_is_part_of_the_spec() -> None:
    recipe = ModelRecipe("vit_tiny_patch16_224", {"img_size": 32}, 0, "x.pt", "retrieve")
    spec = ModelSpec.of(recipe)
    assert spec.output is Output.UNIT and from_plain(ModelSpec, spec.to_json()) == spec
    plain = ModelSpec.of(replace(recipe, task="classify", num_classes=7))
    assert plain.to_json() == {"name": "vit_tiny_patch16_224", "num_classes": 7, "args": {"img_size": 32}}
    assert from_plain(ModelSpec, plain.to_json()) == plain


def test_classes_and_embeddings_do_not_go_together() -> None:
    with pytest.raises(InputError, match="num_classes is 10"):
        create(ModelSpec("vit_tiny_patch16_224", 10, output=Output.EMBEDDING))
    with pytest.raises(InputError, match="at least 2 classes, not 0"):
        create(ModelSpec("vit_tiny_patch16_224", 0))
    with pytest.raises(InputError, match="two heads"):
        create(ModelSpec("deit_tiny_distilled_patch16_224", 0, output=Output.UNIT))


names = st.text("abcdefgh_0123", min_size=1, max_size=12)
values = st.integers(-9, 9) | st.booleans() | names | st.lists(st.integers(0, 9), max_size=3)


@given(
    st.builds(
        ModelSpec,
        names,
        st.integers(0, 1000),
        st.dictionaries(names, values, max_size=4),
        st.sampled_from(Output),
        st.integers(0, 64),
        st.sets(st.integers(1, 12)).map(lambda blocks: tuple(sorted(blocks))),
    )
)
def test_a_spec_comes_back_from_json(spec: ModelSpec) -> None:
    assert from_plain(ModelSpec, json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "change",
    [{"name": 3}, {"args": [1]}, {"num_classes": True}, {"num_classes": "4"}, {"head_blocks": 2}, {"output": "x"}],
)
def test_what_is_no_spec_is_refused(change: dict[str, Any]) -> None:
    sound = {"name": "vit_tiny_patch16_224", "num_classes": 4, "args": {}}
    assert from_plain(ModelSpec, sound).num_classes == 4
    with pytest.raises(InputError):
        from_plain(ModelSpec, {**sound, **change})


def test_unit_length_is_kept_in_half_precision() -> None:
    """Whose largest number is less than the sum of squares here."""
    x = 300 * torch.nn.functional.normalize(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    unit = UnitLength()
    assert torch.allclose(unit(x).norm(dim=-1), torch.ones(4), atol=1e-4)
    assert torch.allclose(unit(x.half()).float(), unit(x), atol=2e-3)
    assert not unit.state_dict()


def test_the_same_spec_makes_models_of_the_same_form(tiny_spec: ModelSpec) -> None:
    one, other = create(tiny_spec), create(tiny_spec)
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}
    assert not one.training and all(p.dtype == torch.float32 for p in one.parameters())
