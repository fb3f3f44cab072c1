"""Whether a timm model can be served in the form that its arguments give it."""

from __future__ import annotations

from types import MethodType
from typing import Any

import pytest
import timm
import torch
from tiny_families import FORMS, SMALL, made

from wdp_edge.errors import InputError
from wdp_edge.models.forms import argument_hint, check_arguments, check_form, check_forward, check_numbers
from wdp_edge.protocols.task import Output

NAME = "vit_tiny_patch16_224"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_can_be_pruned_runs_in_pieces(form: str) -> None:
    name, args = FORMS[form]
    check_arguments(name, args)
    check_numbers(made(form), name, args)
    check_form(made(form), name, maps=False)
    check_forward(made(form), name, args, Output.LOGITS, 5)
    check_forward(made(form).to("meta"), name, args, Output.LOGITS, 5)


@pytest.mark.parametrize(
    ("key", "hint"), [("num_classes", "num_classes in"), ("pretrained", "out"), ("scriptable", "out")]
)
def test_arguments_that_are_not_the_model_s(key: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"{key} is not an argument of") as caught:
        check_arguments(NAME, {"depth": 3, key: 1})
    assert hint in caught.value.hint


def test_true_is_no_number_of_heads() -> None:
    model = timm.create_model(NAME, **SMALL)
    check_numbers(model, NAME, {"qkv_bias": True, "num_heads": 4})
    with pytest.raises(InputError, match=r"num_heads of .* is a number, not true"):
        check_numbers(model, NAME, {"num_heads": True})


def test_a_pair_of_numbers_is_shown_where_a_text_was_given() -> None:
    assert "[32, 48]" in argument_hint({"img_size": "32x48"}) and "img_size" in argument_hint({"img_size": "32x48"})
    assert "img_size" not in argument_hint({"global_pool": "avg"})


@pytest.mark.parametrize(("args", "said"), [({"in_chans": 1}, "in_chans = 1"), ({"global_pool": ""}, "does not pool")])
def test_forms_that_no_command_can_use(args: dict[str, Any], said: str) -> None:
    model = timm.create_model(NAME, **{**SMALL, **args})
    with pytest.raises(InputError, match=said):
        check_form(model, NAME, maps=False)
    if "global_pool" in args:
        check_form(model, NAME, maps=True)


def test_a_forward_pass_of_its_own_is_noticed() -> None:
    model = made("plain")
    model.forward = MethodType(lambda self, x: 2 * type(self).forward(self, x), model)
    with pytest.raises(InputError, match="a form that pruning does not support"):
        check_forward(model, NAME, {}, Output.LOGITS, 5)


@pytest.mark.parametrize(("output", "classes"), [(Output.LOGITS, 7), (Output.MAP, 5)])
def test_outputs_of_another_form_than_the_task_s(output: Output, classes: int) -> None:
    with pytest.raises(InputError, match=r"outputs \[1, 5\]"):
        check_forward(made("plain"), NAME, {}, output, classes)


def test_a_size_that_cannot_run_is_said() -> None:
    model = made("plain")
    model.pos_embed = torch.nn.Parameter(torch.zeros(1, 5, 32))
    with pytest.raises(InputError, match="its own size, 16 x 16") as caught:
        check_forward(model, NAME, {}, Output.LOGITS, 5)
    assert "img_size" in caught.value.hint
