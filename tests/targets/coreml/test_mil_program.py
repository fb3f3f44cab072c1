"""targets/coreml/mil_program.py: types, rounding and constants of a program that is run with torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from wdp_edge.targets.coreml.mil_program import MilProgram, UnsupportedProgram, round_to_half
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

with quiet(), silent_stderr():
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Placeholder, types

HALF = types.fp16


def function(build: Any, *inputs: Placeholder) -> Any:
    with Function({f"x{i}": p for i, p in enumerate(inputs)}, opset_version=ct.target.iOS18) as made:
        out = build(*made.inputs.values())
        made.set_outputs(list(out) if isinstance(out, list | tuple) else [out])
    return made


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_half_is_rounded_after_every_operator() -> None:
    weight = np.linspace(-1, 1, 12, dtype=np.float16).reshape(3, 4)
    made = function(lambda x: mb.exp(x=mb.linear(x=x, weight=weight)), Placeholder((2, 4), dtype=HALF))
    x = images(2, 4)
    product = round_to_half(round_to_half(x) @ torch.from_numpy(weight).float().T)
    expected = round_to_half(product.exp())
    (got,) = MilProgram(made)(x)
    assert got.dtype == torch.float32 and torch.equal(got, expected)
    assert not torch.equal(got, (x @ torch.from_numpy(weight).float().T).exp())


def test_float32_is_not_rounded() -> None:
    (got,) = MilProgram(function(lambda x: mb.exp(x=x), Placeholder((5,))))(images(5))
    assert torch.equal(got, images(5).exp())


def test_casts_between_the_types() -> None:
    made = function(lambda x: mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"), Placeholder((5,)))
    (got,) = MilProgram(made)(images(5))
    assert torch.equal(got, images(5).half().float())


def test_several_inputs_and_outputs_in_the_programs_order() -> None:
    made = function(lambda a, b: (mb.sub(x=a, y=b), mb.add(x=a, y=b)), Placeholder((3,)), Placeholder((3,)))
    a, b = images(2, 3)
    difference, total = MilProgram(made)(a, b)
    assert torch.equal(difference, a - b) and torch.equal(total, a + b)


def test_runs_do_not_see_each_other() -> None:
    program = MilProgram(function(lambda x: mb.add(x=mb.relu(x=x), y=np.float32(1)), Placeholder((3,))))
    first, again = program(images(3))[0], program(images(3) * 5)[0]
    assert torch.equal(first, images(3).relu() + 1) and not torch.equal(first, again)


def test_palettes_and_blocks_are_read_as_the_format_says() -> None:
    lut = np.array([-1, 0, 0.5, 2], np.float32).reshape(1, 1, 4, 1)
    picks = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)

    def palette(x: Any) -> Any:
        weight = mb.constexpr_lut_to_dense(indices=picks.astype(types.nptype_from_builtin(types.uint2)), lut=lut)
        return mb.linear(x=x, weight=weight)

    def blocks(x: Any) -> Any:
        data = np.array([[1, 2, 3, 4], [-1, -2, -3, -4]], np.int8)
        scale = np.array([[0.5, 2], [1, 10]], np.float32)
        return mb.linear(x=x, weight=mb.constexpr_blockwise_shift_scale(data=data, scale=scale))

    x = images(2, 3)
    expected = x @ torch.from_numpy(lut.reshape(-1)[picks]).T
    assert torch.allclose(MilProgram(function(palette, Placeholder((2, 3))))(x)[0], expected)
    x = images(2, 4)
    dense = torch.tensor([[0.5, 1, 6, 8], [-1, -2, -30, -40]])
    assert torch.allclose(MilProgram(function(blocks, Placeholder((2, 4))))(x)[0], x @ dense.T)


def test_unknown_operators_are_all_named_before_anything_runs() -> None:
    made = function(
        lambda x: mb.concat(values=[mb.sin(x=mb.cos(x=x)), mb.gelu(x=x)], axis=0, interleave=True), Placeholder((2, 3))
    )
    with pytest.raises(UnsupportedProgram) as found:
        MilProgram(made)
    assert found.value.operators == ["concat (interleave)", "cos", "sin"]


def test_a_wrong_number_of_inputs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        MilProgram(function(lambda a, b: mb.add(x=a, y=b), Placeholder((3,)), Placeholder((3,))))(images(3))
