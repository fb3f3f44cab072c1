"""How much each layer alone, quantized, moves the model's predictions: which layers are worth keeping in float."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.calibration.fake_quant import Scheme, stand_ins
from wdp_edge.lowering.swin import LoweredSwin
from wdp_edge.lowering.vit import LoweredViT
from wdp_edge.protocols.task import get_task

_BATCH = 32
_TEMPERATURE = 2.0


@dataclass(frozen=True)
class LayerSensitivity:
    """divergence: T² · KL(float ‖ layer quantized) of softened predictions, nats, mean over images.

    name: of the layer in the lowered model, as `ExportOptions.keep_float` takes it. parameters: weights and bias.
    """

    name: str
    divergence: float
    parameters: int


@dataclass(frozen=True)
class _Stage:
    """A piece of the model that runs as a whole: what is before a layer's stage is computed once for all layers.

    holds: beginnings of the names of its layers.
    """

    holds: tuple[str, ...]
    run: Callable[[Tensor], Tensor]


def sensitivity(
    lowered: nn.Module, images: Tensor, calibration: Tensor | None, scheme: Scheme, task: str = "classify"
) -> tuple[LayerSensitivity, ...]:
    """Every layer that the scheme quantizes, the most sensitive first.

    lowered: what `lower` returns, not modified. images: [n, 3, H, W] to compare predictions on; no labels needed.
    calibration: [m, 3, H, W] for static activations. task: name of the model's; its divergence is what counts.
    Raises InputError when calibration is needed and missing.
    """
    model = copy.deepcopy(lowered)
    layers = stand_ins(model, scheme, calibration)
    stages = _stages(model)
    places = [next(i for i, s in enumerate(stages) if name.startswith(s.holds)) for name in layers]
    total, diverge = dict.fromkeys(layers, 0.0), get_task(task).divergence
    with torch.no_grad(), progress.task("layer sensitivity", len(images)) as advance:
        for part in images.split(_BATCH):
            inputs = _inputs(stages, part)
            for (name, layer), place in zip(layers.items(), places, strict=True):
                original = model.get_submodule(name)
                model.set_submodule(name, layer)
                got = _run(stages[place:], inputs[place])
                model.set_submodule(name, original)
                # In float32, a layer that moves next to nothing would get a divergence below zero.
                outputs, reference = (logits.flatten(0, 1).double() for logits in (got, inputs[-1]))
                divergence = diverge(outputs, reference, _TEMPERATURE)
                total[name] += float(divergence) * len(part)
            advance(len(part))
    found = [LayerSensitivity(n, total[n] / len(images), _parameters(model.get_submodule(n))) for n in layers]
    return tuple(sorted(found, key=lambda s: -s.divergence))


def _parameters(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def _stages(model: Any) -> list[_Stage]:
    """A lowered ViT as embedding, sub-layers and head; one whose head reads several blocks, or any other module, as one
    piece."""
    if not isinstance(model, LoweredViT | LoweredSwin) or getattr(model, "taps", None) is not None:
        return [_Stage(("",), model)]
    stages = [_Stage(("embedding.",), model.embed)]
    for number, block in enumerate(model.blocks):
        stages.append(_Stage((f"blocks.{number}.attn.", f"blocks.{number}.enter."), _method(block, "attend")))
        stages.append(_Stage((f"blocks.{number}.fc",), _method(block, "transform")))
    return [*stages, _Stage(("",), model.classify)]


def _method(block: Any, name: str) -> Callable[[Tensor], Tensor]:
    method: Callable[[Tensor], Tensor] = getattr(block, name)
    return method


def _run(stages: list[_Stage], x: Tensor) -> Tensor:
    """x: [b, 1, ...], images as `vmap` sees them: a lowered model takes one at a time."""
    for stage in stages:
        x = torch.func.vmap(stage.run)(x)
    return x


def _inputs(stages: list[_Stage], images: Tensor) -> list[Tensor]:
    """What each stage reads, and at the end the logits. images: [b, 3, H, W]."""
    inputs = [images[:, None]]
    for stage in stages:
        inputs.append(_run([stage], inputs[-1]))
    return inputs
