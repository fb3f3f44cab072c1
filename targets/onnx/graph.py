"""A lowered model as an ONNX graph whose weights are called as its layers are."""

from __future__ import annotations

import ast
import contextlib
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from onnx import GraphProto, ModelProto, NodeProto
    from torch.export import ExportedProgram

INPUT = "image"
# Gelu is one operator since 20; before, the runtime does not recognise the five that the exporter writes.
OPSET = 20
KINDS = ("MatMul", "Gemm", "Conv")
_LIMIT = 2**31 - 2**20  # a protobuf message ends there; the graph itself needs some of it
_SCOPES = "pkg.torch.onnx.name_scopes"


def to_onnx(program: ExportedProgram, layers: Sequence[str], output: str) -> ModelProto:
    """The float32 graph of an exported model, with its output called `output`.

    The weight of every one of `layers` that runs is called "<layer>.weight".
    Raises InputError for a model that one file cannot hold.
    """
    import torch

    size = sum(p.numel() * p.element_size() for p in program.parameters())
    if size > _LIMIT:
        raise InputError(
            f"The model has {size / 2**30:.1f} GiB of weights; an ONNX file holds 2.",
            "Prune it further, or choose a smaller model.",
        )
    with one_registry():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[output],
            external_data=False,
            verbose=False,
        )
    if converted is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model: ModelProto = converted.model_proto
    name_weights(model.graph, layers)
    name_by_part(model.graph)
    forget_origins(model)
    return model


@contextlib.contextmanager
def one_registry() -> Iterator[None]:
    """The exporter's translations are collected once in a process and not for every model: it only reads them, and they
    take it a second, as long as four blocks do."""
    from torch.onnx._internal.exporter import _registration

    registry: Any = _registration.ONNXRegistry
    usual = vars(registry)["from_torchlib"]
    registry.from_torchlib = staticmethod(_remembered(registry.from_torchlib))
    try:
        yield
    finally:
        registry.from_torchlib = usual


@functools.cache
def _remembered(make: Any) -> Any:
    return functools.cache(make)


def name_weights(graph: GraphProto, layers: Sequence[str]) -> None:
    """Gives the node of every layer a weight of its own, called "<layer>.weight", as a constant."""
    from onnx import numpy_helper

    constants = {t.name: t for t in graph.initializer}
    transposed = {n.output[0]: n for n in graph.node if n.op_type == "Transpose" and n.input[0] in constants}
    wanted, made = set(layers), {}
    for node in graph.node:
        layer = next((s for s in scopes(node) if s in wanted), None)
        if node.op_type not in KINDS or layer is None:
            continue
        weight = constant(node.input[1], constants, transposed)
        if weight is not None:
            node.input[1] = f"{layer}.weight"
            made[node.input[1]] = weight
    used = {name for node in graph.node if node.output[0] not in transposed for name in node.input}
    dead = [n for n in graph.node if n.output[0] in transposed and n.output[0] not in used]
    for node in dead:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name in used and t.name not in made]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())


def constant(name: str, constants: Mapping[str, object], transposed: Mapping[str, NodeProto]) -> np.ndarray | None:
    """The value of a constant, or of one that the exporter found too large to transpose in advance."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    source = transposed[name].input[0] if name in transposed else name
    tensor = constants.get(source)
    if not isinstance(tensor, TensorProto):
        return None
    value = numpy_helper.to_array(tensor)
    if name in transposed:
        order = next(a.ints for a in transposed[name].attribute if a.name == "perm")
        value = np.ascontiguousarray(value.transpose(order))
    return value


def scopes(node: NodeProto) -> list[str]:
    """Names of the modules that a node of the exporter comes from, the outermost first."""
    found = [p.value for p in node.metadata_props if p.key == _SCOPES]
    return [str(s) for s in ast.literal_eval(found[0])] if found else []


def name_by_part(graph: GraphProto) -> None:
    """Calls operators and what they write by the part of the model they come from, such as "blocks.3.attn.q/MatMul"."""
    taken: Counter[str] = Counter()
    kept = {*(value.name for value in graph.output), ""}
    renamed: dict[str, str] = {}
    for node in graph.node:
        *modules, _ = scopes(node) or [""]  # the last one is the exporter's own name
        part = f"{(modules and modules[-1]) or 'model'}/{node.op_type}"
        node.name = f"{part}_{taken[part]}" if taken[part] else part
        taken[part] += 1
        many = len(node.output) > 1
        new = {name: f"{node.name}:{i}" if many else node.name for i, name in enumerate(node.output)}
        renamed.update({old: name for old, name in new.items() if old not in kept})
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)


def forget_origins(model: ModelProto) -> None:
    """Removes the exporter's notes: they hold paths of the machine that exported, and are larger than the graph."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def layer_nodes(graph: GraphProto, layers: Iterable[str]) -> Iterator[tuple[str, NodeProto]]:
    """Which node runs which layer, found by the name of its weight."""
    names = {f"{layer}.weight": layer for layer in layers}
    for node in graph.node:
        if node.op_type in KINDS and node.input[1] in names:
            yield names[node.input[1]], node
