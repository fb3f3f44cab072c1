"""calibration/training.py: the simulation's values forward, straight-through gradients, and what they bring."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny_families import made
from torch import Tensor

from wdp_edge.calibration.fake_quant import DYNAMIC, STATIC, WEIGHT_ONLY, Scheme
from wdp_edge.calibration.simulation import simulate
from wdp_edge.calibration.training import Rounding, passing, straight_through, trained_scheme
from wdp_edge.config.recipe import ComputeRecipe, RecoverRecipe
from wdp_edge.learn.recovery import Recovery, RecoveryPlan
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import get_target


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scheme", [DYNAMIC, STATIC, WEIGHT_ONLY, Scheme("dynamic"), Scheme("static", paired=True)])
@pytest.mark.parametrize("form", ["plain", "swin"])
def test_forward_it_is_the_simulation(form: str, scheme: Scheme) -> None:
    model, x, calibration = made(form).eval(), images(5), images(32, seed=1)
    rounding = Rounding(scheme, calibration)
    rounding.observe(model)
    with torch.no_grad():
        plain = model(x)
        with rounding.layers(model, len(x)):
            got = model(x)
    wanted = simulate(model, scheme, x, calibration)
    # A last bit that differs may take a value to the other side of a step: a small part of what rounding does in all.
    assert (got - wanted).norm() < 0.2 * (wanted - plain).norm()


def test_gradients_pass_inside_a_range_and_nowhere_else() -> None:
    x = torch.tensor([-2.0, -0.3, 0.0, 0.4, 0.99, 3.0], requires_grad=True)
    y = passing(x, torch.tensor(-1.0), torch.tensor(1.0))
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 1, 0]
    assert torch.allclose(y, x.clamp(-1, 1), atol=1 / 255) and not torch.equal(y[1:5], x[1:5])
    weight = torch.tensor([0.3, -0.7], requires_grad=True)
    straight_through(weight, torch.tensor([0.25, -0.75])).square().sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == pytest.approx([0.5, -1.5]), "of the rounded values"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_weight_gets_a_gradient_close_to_that_without_rounding(checkpointing: bool) -> None:
    dense = made("plain")
    compute = ComputeRecipe(grad_checkpointing=checkpointing)
    grads = []
    for rounding in (None, Rounding(DYNAMIC, images(16, seed=1))):
        plan = RecoveryPlan(10, compute=compute, rounding=rounding)
        small = copy.deepcopy(dense)
        with torch.no_grad():
            for p in small.parameters():
                p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(p.shape)))
        recovery = Recovery(dense, small, plan, RecoverRecipe(lr=0.0))
        seen: dict[str, Tensor] = {}
        for name, p in small.named_parameters():
            p.register_hook(lambda g, name=name, seen=seen: seen.update({name: g.clone()}))
        recovery.step(images(8), torch.zeros(8, dtype=torch.long))
        grads.append(seen)
    plain, rounded = grads
    assert plain.keys() == rounded.keys()
    flat = [torch.cat([g[name].flatten() for name in plain]) for g in grads]
    assert torch.cosine_similarity(flat[0], flat[1], dim=0) > 0.98


def test_training_under_rounding_brings_a_damaged_rounded_model_nearer() -> None:
    """A fifth of the distance is left where this was written; a half leaves room for other processors' sums."""
    dense, calibration, other = made("plain").eval(), images(64, seed=1), images(64, seed=2)
    damaged = copy.deepcopy(dense)
    with torch.no_grad():
        wanted = dense(other)
        for p in damaged.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))

    def distance(model: Any) -> float:
        own = Rounding(STATIC, calibration)
        own.observe(model)
        with torch.no_grad(), own.layers(model, len(other)):
            return float((model(other) - wanted).norm())

    before = distance(damaged)
    plan, options = RecoveryPlan(60, rounding=Rounding(STATIC, calibration)), RecoverRecipe(lr=2e-3, distillation=1.0)
    recovery = Recovery(dense, damaged, plan, options)
    for number in range(60):
        recovery.step(images(32, seed=10 + number), torch.zeros(32, dtype=torch.long))
    after = distance(recovery.average.eval())
    assert after < 0.5 * before


def test_ranges_are_kept_with_the_training_s_state() -> None:
    model = made("plain")
    rounding = Rounding(STATIC, images(16))
    rounding.observe(model)
    again = Rounding(STATIC, images(16))
    again.restore(rounding.state())
    x = images(3, seed=5)
    with torch.no_grad():
        with rounding.layers(model, 3):
            first = model(x)
        with again.layers(model, 3):
            assert torch.equal(first, model(x))


def test_integer_precisions_have_a_scheme_to_train_under_and_others_none() -> None:
    coreml, onnx = get_target("coreml"), get_target("onnx")
    assert trained_scheme(coreml, Precision.W8A8) == Scheme("static")
    assert trained_scheme(onnx, Precision.INT8_DYNAMIC) is not None
    assert trained_scheme(onnx, Precision.FP32) is None and trained_scheme(onnx, Precision.FP16) is None
