"""int8 in float: the steps are int8's, and the logits those of the toolkit's own quantized graph."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rounded_models import fake_quantized, predict
from tiny_vit import TINY, lively
from toolkit_int8 import quantized_by_toolkit
from torch import Tensor, nn

from wdp_edge.calibration.fake_quant import (
    DYNAMIC,
    STATIC,
    WEIGHT_ONLY,
    Scheme,
    integer_layers,
    round_activations,
    round_weights,
)
from wdp_edge.errors import InputError
from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.models.spec import create
from wdp_edge.protocols.target import Observer


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def lowered() -> nn.Module:
    torch.manual_seed(0)
    return lower(lively(create(TINY)))


@given(st.floats(-100, 0), st.floats(0, 100))
def test_activations_have_256_values_and_zero_is_one(low: float, high: float) -> None:
    x = torch.linspace(2 * low - 1, 2 * high + 1, 1001)
    rounded = round_activations(x, torch.tensor(low), torch.tensor(high))
    assert len(rounded.unique()) <= 256
    assert float(round_activations(torch.zeros(1), torch.tensor(low), torch.tensor(high))) == 0
    inside = x.clamp(low, high)
    assert float((rounded - inside).abs().max()) <= 1.01 * (high - low) / 255 + 1e-5


def test_weights_have_255_values_per_output_channel() -> None:
    weight = torch.randn(8, 400, generator=torch.Generator().manual_seed(0)) * torch.logspace(-8, 1, 8)[:, None]
    rounded = round_weights(weight)
    steps = weight.abs().amax(1) / 127
    assert torch.all((rounded - weight).abs().amax(1) <= 0.501 * steps)
    assert torch.allclose(rounded / steps[:, None], (rounded / steps[:, None]).round(), atol=1e-3)
    assert torch.equal(round_weights(torch.zeros(2, 3, 1, 1)), torch.zeros(2, 3, 1, 1))


def test_prediction_is_that_of_single_images() -> None:
    model, x = lowered(), images(5)
    with torch.no_grad():
        assert torch.allclose(predict(model, x), torch.cat([model(i) for i in x.split(1)]), atol=1e-5)


def test_a_dynamic_range_is_one_per_image_or_token_never_of_the_batch() -> None:
    for scheme in (DYNAMIC, Scheme("dynamic")):
        model = fake_quantized(lowered(), scheme)
        x = images(3) * torch.tensor([0.1, 1, 10]).view(3, 1, 1, 1)
        with torch.no_grad():
            assert torch.allclose(predict(model, x), torch.cat([model(i) for i in x.split(1)]), atol=1e-4)


def test_layers_in_float_are_left_alone() -> None:
    model, x = lowered(), images(4)
    everything = quantized_layers(model)
    assert torch.equal(predict(fake_quantized(model, STATIC, x, everything), x), predict(model, x))
    some = fake_quantized(model, STATIC, x, ("blocks.1.attn.qkv", "head"))
    assert {n for n in everything if isinstance(some.get_submodule(n), nn.Linear | nn.Conv2d)} == {
        *(f"blocks.1.attn.{n}" for n in "qkv"),
        "head",
    }
    assert not torch.equal(predict(some, x), predict(model, x))


def test_what_each_scheme_quantizes() -> None:
    model = lowered()
    assert integer_layers(model, STATIC) == integer_layers(model, WEIGHT_ONLY) == quantized_layers(model)
    assert integer_layers(model, DYNAMIC) == quantized_layers(model)[1:]


def test_static_needs_calibration_images() -> None:
    for calibration in (None, images(0)):
        with pytest.raises(InputError, match="calibration images"):
            fake_quantized(lowered(), STATIC, calibration)


# Layer by layer: in a whole model one value on the edge between two steps falls to either side, and all that follows
# differs, by as much as rounding itself.
@pytest.mark.parametrize("layer", ["embedding.patch_embed.proj", "blocks.0.attn.q", "blocks.1.fc2", "head"])
@pytest.mark.parametrize(
    "scheme", [Scheme("dynamic", convolutions=False), Scheme("static", Observer.MINMAX, outputs=True)]
)
def test_layers_equal_the_toolkit(scheme: Scheme, layer: str) -> None:
    model, x, calibration = lowered(), images(8), images(16, seed=1)
    if layer not in integer_layers(model, scheme):
        pytest.skip("stays in float")
    others = [n for n in quantized_layers(model) if n != layer]
    got = predict(fake_quantized(model, scheme, calibration, others), x)
    toolkit = quantized_by_toolkit(model, None if scheme.activations == "dynamic" else calibration, [layer])(x)
    assert float((got - toolkit).norm()) < 0.01 * float((toolkit - predict(model, x)).norm())
