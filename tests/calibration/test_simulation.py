"""calibration/simulation.py: the scheme's arithmetic on timm's own module, every layer of every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rounded_models import fake_quantized, predict
from tiny_families import FORMS, made
from torch import Tensor, nn

from wdp_edge.artifacts.parity import spread_error
from wdp_edge.calibration.fake_quant import DYNAMIC, STATIC, WEIGHT_ONLY, Scheme
from wdp_edge.calibration.simulation import NotingLayers, quantized_weights, scheme_of, simulate
from wdp_edge.lowering.vit import lower
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Observer, get_target

PER_TENSOR = Scheme("dynamic")


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("form", FORMS)
def test_every_layer_of_every_family_is_caught(form: str) -> None:
    model, seen = made(form), dict[str, tuple[Tensor, Tensor]]()
    weights = quantized_weights(model, STATIC)
    with torch.no_grad(), NotingLayers(weights, seen):
        model(images(2))
    assert set(seen) == set(weights)


@pytest.mark.parametrize("scheme", [DYNAMIC, PER_TENSOR, WEIGHT_ONLY, Scheme("static", Observer.MINMAX, outputs=True)])
@pytest.mark.parametrize("form", ["plain", "swin", "swin v2"])
def test_without_folding_the_lowered_model_rounds_alike(form: str, scheme: Scheme) -> None:
    """In float64, where no value lies on the edge between two steps. Layers of the lowered model are q, k and v."""
    model, x, calibration = made(form).double(), images(3).double(), images(8, seed=1).double()
    torch.set_default_dtype(torch.float64)
    try:
        lowered = fake_quantized(lower(model, "native"), scheme, calibration)
        with torch.no_grad():
            expected = predict(lowered, x)
    finally:
        torch.set_default_dtype(torch.float32)
    got = simulate(model, scheme, x, calibration)
    assert spread_error(expected, got) < 1e-9


def test_q_k_and_v_are_written_with_a_range_each() -> None:
    """As in files, where they are layers of their own: in the range of large q and k, v would keep few values."""
    model, x = made("plain"), images(4)
    attention = model.blocks[0].attn
    third = attention.qkv.out_features // 3
    with torch.no_grad():
        attention.qkv.weight[: 2 * third] *= 100
    written = list[Tensor]()

    def note(_: nn.Module, reads: tuple[Tensor, ...], writes: Tensor) -> None:
        written.append(writes[..., 2 * third :])

    hook = attention.qkv.register_forward_hook(note)
    with torch.no_grad():
        model(x)
    simulate(model, STATIC, x, images(32, seed=1))
    hook.remove()
    plain, rounded = written[0], written[-1]
    # One range for all three would have a step a hundred times as large, and leave nothing of v.
    assert (rounded - plain).norm() < 0.1 * plain.norm() and not torch.equal(rounded, plain)


def test_a_range_is_one_per_image_or_token_never_of_the_batch() -> None:
    model, x = made("swin"), images(3) * torch.tensor([0.1, 1, 10]).view(3, 1, 1, 1)
    for scheme in (DYNAMIC, PER_TENSOR):
        alone = torch.cat([simulate(model, scheme, image, x) for image in x.split(1)])
        assert spread_error(alone, simulate(model, scheme, x, x)) < 0.01


def test_the_model_itself_is_not_touched() -> None:
    model: Any = made("eva02")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    simulate(model, STATIC, images(2), images(2))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_targets_say_how_their_files_round() -> None:
    assert scheme_of(get_target("executorch"), Precision.INT8_DYNAMIC) == DYNAMIC
    assert scheme_of(get_target("onnx"), Precision.INT8_DYNAMIC) == Scheme("dynamic", convolutions=False, paired=True)
    assert scheme_of(get_target("coreml"), Precision.INT8_WEIGHT) == WEIGHT_ONLY
    assert scheme_of(get_target("coreml"), Precision.PALETTE6) is None
