"""What is inside a .pte: its own operators and those of every XNNPACK delegate, weights, inputs, outputs, texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from wdp_edge.target import Contents, OperatorCount, TensorInfo, WeightBytes
from wdp_edge.targets.executorch_edge import METADATA_PREFIX
from wdp_edge.targets.executorch_file import PteFile, damaged, graph_of, read

XNNPACK = "XnnpackBackend"
_DTYPES = {
    "BYTE": "uint8", "CHAR": "int8", "SHORT": "int16", "INT": "int32", "LONG": "int64", "HALF": "float16",
    "FLOAT": "float32", "DOUBLE": "float64", "BOOL": "bool",
}  # fmt: skip
_STORED = {
    "fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "qint8": "int8", "quint8": "uint8", "qcint8": "int8",
    "qint32": "int32", "qcint32": "int32", "qcint4": "int4", "qbint4": "int4",
}  # fmt: skip
_SCALES = {"PerChannelQuant": "float32", "PerChannelGroupQuant": "bfloat16"}


@dataclass
class Tally:
    """What was counted so far. weights: type and bytes by the constant's key, so that shared ones count once."""

    outside: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    weights: dict[Any, tuple[str, int]] = field(default_factory=dict)

    def operators(self) -> tuple[OperatorCount, ...]:
        both = self.outside + self.inside
        return tuple(OperatorCount(kind, count, self.inside[kind]) for kind, count in both.most_common())

    def stored(self) -> tuple[WeightBytes, ...]:
        tensors, size = Counter[str](), Counter[str]()
        for dtype, count in self.weights.values():
            tensors[dtype] += 1
            size[dtype] += count
        return tuple(WeightBytes(dtype, tensors[dtype], total) for dtype, total in size.most_common())


def contents(path: Path) -> Contents:
    """What is inside the .pte. Operators in a delegate have the delegate's names.

    Raises InputError when the file is missing, cut short, damaged, or not a .pte.
    """
    file = read(path)
    try:
        return described(file)
    except LookupError as error:
        raise damaged(path, f"it refers to something that is not there ({error})") from error


def described(file: PteFile) -> Contents:
    """What a sound file holds, inside its delegates too."""
    plan, tally = file.plan, Tally()
    tally.outside.update(kernel_calls(plan))
    tally.weights.update(constants(plan))
    for number, delegate in enumerate(plan["delegates"]):
        if delegate["id"] == XNNPACK:
            count_graph(graph_of(file.delegate_bytes(delegate), file.path), number, tally)
    return Contents(
        inputs=tuple(tensors(plan, plan["inputs"], "input")),
        outputs=tuple(tensors(plan, plan["outputs"], "output")),
        operators=tally.operators(),
        weights=tally.stored(),
        delegates=len(plan["delegates"]),
        metadata=metadata_of(file),
    )


def metadata_of(file: PteFile) -> dict[str, str]:
    """The texts that the methods called metadata_<key> return."""
    texts = {}
    for plan in file.program["execution_plan"]:
        returned = [plan["values"][place] for place in plan["outputs"]]
        if plan["name"].startswith(METADATA_PREFIX) and len(returned) == 1 and returned[0]["val_type"] == "String":
            texts[plan["name"].removeprefix(METADATA_PREFIX)] = returned[0]["val"]["string_val"]
    return texts


def tensors(plan: Any, places: Iterable[int], name: str) -> Iterator[TensorInfo]:
    """Inputs or outputs. The format has no names for them: `name`, numbered where there are several."""
    found = [plan["values"][place]["val"] for place in places]
    for number, value in enumerate(found):
        label = name if len(found) == 1 else f"{name}_{number}"
        yield TensorInfo(label, tuple(value["sizes"]), _DTYPES[value["scalar_type"]])


def kernel_calls(plan: Any) -> Iterator[str]:
    """Names of the operators that run outside of delegates, such as aten::expand_copy."""
    for chain in plan["chains"]:
        for instruction in chain.get("instructions", []):
            if instruction["instr_args_type"] == "KernelCall":
                yield plan["operators"][instruction["instr_args"]["op_index"]]["name"]


def constants(plan: Any) -> Iterator[tuple[Any, tuple[str, int]]]:
    """Constant tensors outside of delegates: their buffer, type and bytes."""
    for value in (v["val"] for v in plan["values"] if v["val_type"] == "Tensor"):
        if value["data_buffer_idx"] > 0 and "allocation_info" not in value:
            dtype = _DTYPES[value["scalar_type"]]
            yield ("program", value["data_buffer_idx"]), (dtype, prod(value["sizes"]) * np.dtype(dtype).itemsize)


def count_graph(graph: Any, number: int, tally: Tally) -> None:
    """Adds the nodes and the constants of delegate `number`, whose scales are constants of their own."""
    tally.inside.update(node["xnode_union_type"].removeprefix("XNN") for node in graph["xnodes"])
    for value in (v["xvalue_union"] for v in graph["xvalues"]):
        tensor = value.get("tensor_value", value)
        kind = tensor["datatype"].removeprefix("xnn_datatype_")
        used = [(tensor["constant_buffer_idx"], _STORED.get(kind, kind))]
        if scales := _SCALES.get(value.get("quant_params_type", "")):
            used.append((value["quant_params"]["scale_buffer_idx"], scales))
        for index, dtype in used:
            if index:  # 0 stands for no constant
                stored = graph["constant_data"][index]
                tally.weights[stored.get("named_key") or (number, index)] = (dtype, stored["size"])
