"""Smaller weights for a converted .tflite: the layers of the lowered model, found again by what they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.lowering.vit import matches, quantized_layers
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, Observer
from wdp_edge.targets.tflite.file import CONV_2D, FULLY_CONNECTED
from wdp_edge.targets.tflite.pack import unpack

_KINDS = (FULLY_CONNECTED, CONV_2D)


def quantize(model: bytes, lowered: nn.Module, options: ExportOptions, observer: Observer) -> bytes | bytearray:
    """The .tflite in another precision. model: the float32 file of `lowered`.

    Raises InputError when a layer to be quantized is not in the file as `lowered` has it.
    """
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.quantizer import Quantizer

    kinds = {
        k: getattr(qtyping.TFLOperationName, n) for k, n in zip(_KINDS, ("FULLY_CONNECTED", "CONV_2D"), strict=True)
    }
    names = [n for n in quantized_layers(lowered) if not matches(n, options.keep_float)]
    places = layer_tensors(model, lowered, names)
    quantizer = Quantizer(model)
    for kind, _, output in {p for found in places.values() for p in found}:
        # A scope is the output's name and a semicolon; names stand for themselves, not for patterns.
        add_rule(quantizer, f"^{re.escape(output)};$", kinds[kind], options.precision)
    ranges = None
    if options.precision == Precision.INT8_STATIC and options.calibration is not None:
        ranges = tensor_ranges(lowered, places, options.calibration, observer)
    result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model
    assert result is not None
    return result


def add_rule(quantizer: Any, scope: str, kind: Any, precision: Precision) -> None:
    """What happens to the operators in a scope. int8 weights always have a scale per channel."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    if precision == Precision.INT8_DYNAMIC:
        quantizer.add_dynamic_config(scope, kind, 8)
    elif precision == Precision.INT8_WEIGHT:
        quantizer.add_weight_only_config(scope, kind, 8)
    elif precision == Precision.INT8_STATIC:
        quantizer.add_static_config(scope, kind, activation_num_bits=8, weight_num_bits=8)
    else:
        half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT
        )
        quantizer.update_quantization_recipe(scope, kind, config, AlgorithmName.FLOAT_CASTING)


def layer_tensors(model: bytes, lowered: nn.Module, names: Sequence[str]) -> dict[str, list[tuple[int, str, str]]]:
    """Kind of operator, input and output tensor of each layer: found by its weights, which the converter copies.

    The converter's own names of tensors are of no use here: it merges those of neighbours.
    """
    found: dict[tuple[tuple[int, ...], bytes], list[tuple[int, str, str]]] = {}
    contents = unpack(model)
    graph = contents.subgraphs[0]
    for operator in graph.operators:
        kind = contents.operatorCodes[operator.opcodeIndex].builtinCode
        data = contents.buffers[graph.tensors[operator.inputs[1]].buffer].data if kind in _KINDS else None
        if data is not None and len(data):
            x, weight = (graph.tensors[i] for i in operator.inputs[:2])
            key = tuple(int(n) for n in weight.shape), sha256(data).digest()
            names_of = x.name.decode(), graph.tensors[operator.outputs[0]].name.decode()
            found.setdefault(key, []).append((int(kind), *names_of))
    places = {name: found.get(weight_key(lowered.get_submodule(name)), []) for name in names}
    known = {weight_key(m) for m in lowered.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    lost = [name for name, at in places.items() if not at]
    # Without a strange operator in the file, a layer that is not there is one that does not run.
    if lost and found.keys() - known:
        raise InputError(
            f"The converter merged {', '.join(lost[:3])} with operators beside {'them' if lost[1:] else 'it'}.",
            "Fold these into the weights before, or name the layers in keep_float.",
        )
    return places


def weight_key(layer: Any) -> tuple[tuple[int, ...], bytes]:
    """Shape and digest of a layer's weights, in the order in which a .tflite stores them."""
    weight = layer.weight.detach()
    array = (weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight).contiguous().numpy()
    return array.shape, sha256(array.tobytes()).digest()


def tensor_ranges(
    lowered: nn.Module, places: dict[str, list[tuple[int, str, str]]], images: Tensor, observer: Observer
) -> dict[str, dict[str, np.ndarray]]:
    """Ranges of the quantized layers' inputs and outputs, as the quantizer takes them: by tensor."""
    from wdp_edge.calibration.ranges import input_and_output_ranges

    ranges: dict[str, dict[str, np.ndarray]] = {}
    for name, both in input_and_output_ranges(lowered, list(places), images, observer).items():
        for _, *tensors in places[name]:
            for tensor, (low, high) in zip(tensors, both, strict=True):
                ranges[tensor] = {"min": low.reshape(1).numpy(), "max": high.reshape(1).numpy()}
    return ranges
