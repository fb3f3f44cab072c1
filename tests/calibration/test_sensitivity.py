"""Sensitivity of layers: what it says is what quantizing one layer alone does, in the imitation and in real files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from rounded_models import fake_quantized, predict
from scipy.stats import spearmanr
from tiny_vit import TINY, lively
from toolkit_int8 import quantized_by_toolkit
from torch import Tensor, nn

from wdp_edge.calibration.fake_quant import DYNAMIC, STATIC, Scheme, integer_layers
from wdp_edge.calibration.sensitivity import LayerSensitivity, sensitivity
from wdp_edge.errors import InputError
from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, Observer, get_target
from wdp_edge.protocols.task import facts_of, get_task
from wdp_edge.tasks.classify import distillation

TENSORS = Scheme("dynamic", convolutions=False)
RANGES = Scheme("static", Observer.MINMAX, outputs=True)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def lowered() -> nn.Module:
    torch.manual_seed(0)
    return lower(lively(create(TINY)))


def divergences(lowered: nn.Module, x: Tensor, quantized: Callable[[str], Tensor]) -> dict[str, float]:
    """What `quantized` (logits of a model with one quantized layer) loses, for every linear layer."""
    reference = predict(lowered, x)
    names = [n for n in quantized_layers(lowered) if isinstance(lowered.get_submodule(n), nn.Linear)]
    return {n: float(distillation(quantized(n), reference, 2.0)) for n in names}


@pytest.mark.parametrize("scheme", [DYNAMIC, STATIC])
def test_equals_whole_models_with_one_quantized_layer(scheme: Scheme) -> None:
    model, x, calibration = lowered(), images(40), images(8, seed=1)
    names = integer_layers(model, scheme)

    def alone(name: str) -> Tensor:
        others = [n for n in names if n != name]
        return predict(fake_quantized(model, scheme, calibration, others), x)

    found = sensitivity(model, x, calibration, scheme)
    assert {s.name for s in found} == set(names)
    assert [s.divergence for s in found] == sorted((s.divergence for s in found), reverse=True)
    expected = divergences(model, x, alone)
    assert all(abs(s.divergence - expected[s.name]) < 1e-6 + 1e-3 * s.divergence for s in found if s.name in expected)
    assert found[0].divergence > 10 * found[-1].divergence > 0


def test_the_model_is_not_touched() -> None:
    model = lowered()
    before = predict(model, images(3))
    first = sensitivity(model, images(8), None, DYNAMIC)
    assert torch.equal(predict(model, images(3)), before)
    assert sensitivity(model, images(8), None, DYNAMIC) == first


def test_a_layer_made_fragile_comes_first() -> None:
    model: Any = lowered()
    with torch.no_grad():  # one weight takes the whole range of its channel
        model.blocks[1].fc2.weight[:, 0] *= 1000
        model.blocks[1].fc1.weight[0] = 0
        model.blocks[1].fc1.bias[0] = 0
    assert sensitivity(model, images(16), None, DYNAMIC)[0].name == "blocks.1.fc2"


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "vit_base_patch16_gap_224"])
def test_other_heads(name: str) -> None:
    args = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 4}
    model = lower(lively(timm.create_model(name, num_classes=5, **args)))
    assert {s.name for s in sensitivity(model, images(4), images(4), STATIC)} == set(quantized_layers(model))


@pytest.mark.parametrize("task", ["features", "retrieve"])
def test_embeddings_are_judged_by_their_task(task: str) -> None:
    spec = ModelSpec(TINY.name, 0, TINY.args, facts_of(task).output)
    model, x = lower(lively(create(spec))), images(12)
    found = sensitivity(model, x, None, DYNAMIC, task)
    assert {s.name for s in found} == {s.name for s in sensitivity(lowered(), x, None, DYNAMIC)} - {"head"}
    coarse = copy.deepcopy(model)
    with torch.no_grad():
        coarse.get_submodule(found[0].name).weight.round_(decimals=1)
    other = get_task(task).divergence(predict(coarse, x), predict(model, x))
    assert 0 < found[0].divergence < float(other)


def test_other_modules() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 13 * 13, 5))
    found = sensitivity(lower(model), images(8), images(8), STATIC)
    assert sorted((s.name, s.parameters) for s in found) == [("0", 4 * 48 + 4), ("3", 4 * 169 * 5 + 5)]


def test_static_needs_calibration_images() -> None:
    with pytest.raises(InputError, match="calibration images"):
        sensitivity(lowered(), images(2), None, STATIC)


def ranks(found: tuple[LayerSensitivity, ...], real: dict[str, float]) -> float:
    """Spearman's correlation over the layers that were really quantized."""
    mine = {s.name: s.divergence for s in found}
    return float(spearmanr([mine[n] for n in real], list(real.values())).statistic)


CHOSEN = [f"blocks.{b}.{n}" for b, n in ((0, "attn.v"), (0, "fc1"), (1, "attn.q"), (1, "attn.proj"), (1, "fc2"))]
CHOSEN += ["blocks.2.attn.k", "blocks.2.fc1", "head"]


@pytest.mark.parametrize("calibration", [None, images(16, seed=1)], ids=["dynamic", "static"])
def test_ranks_layers_as_the_toolkit_does(calibration: Tensor | None) -> None:
    model, x = lowered(), images(24)
    scheme = TENSORS if calibration is None else RANGES
    reference = predict(model, x)
    real = {n: float(distillation(quantized_by_toolkit(model, calibration, [n])(x), reference, 2.0)) for n in CHOSEN}
    assert ranks(sensitivity(model, x, calibration, scheme), real) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "scheme"), [(Precision.INT8_DYNAMIC, DYNAMIC), (Precision.INT8_STATIC, STATIC)])
def test_ranks_layers_as_real_files_do(precision: Precision, scheme: Scheme, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    target = get_target("executorch")
    torch.manual_seed(0)
    model, x, calibration = lively(create(TINY)), images(64), images(32, seed=1)
    layers, reference, real = lower(model), predict(lower(model), x), {}
    for name in CHOSEN:
        others = tuple(n for n in quantized_layers(layers) if n != name)
        options = ExportOptions(precision, calibration=calibration, keep_float=others)
        artifact = target.export(model, x[:1], tmp_path / f"{name}{target.suffix}", options)
        program = target.load(artifact.path, 1)
        real[name] = float(distillation(torch.cat([program(i) for i in x.split(1)]), reference, 2.0))
    assert ranks(sensitivity(layers, x, calibration, scheme), real) > 0.9
