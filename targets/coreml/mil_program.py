"""Runs a saved ML program (MIL) with torch, operator by operator, in the types that the program states.

Core ML itself exists on Apple's systems only. This says on any system what the numbers in a package mean: compressed
weights are read as the format defines them, and whatever the program calls fp16 is rounded to fp16 after every
operator. Each operator computes in float32 first: then there is one rounding, and on CPUs without half-precision
products that is several times faster than torch's own float16. How hardware accumulates is its own affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wdp_edge.targets.coreml.mil_ops import OPS, Function, MilOp, UnsupportedParameter
from wdp_edge.targets.coreml.package import FUNCTION, Package

_CONSTANT = "constexpr_"


class UnsupportedProgram(ValueError):
    """operators: what the evaluator cannot run, each with the reason where it is not the operator itself."""

    def __init__(self, operators: list[str]) -> None:
        super().__init__(", ".join(operators))
        self.operators = operators


@dataclass(frozen=True)
class _Call:
    """One operator, ready to run: values[outputs] = function(values[inputs])."""

    function: Function
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    rounded: tuple[bool, ...]


def load_function(package: Package) -> Any:
    """The program's function as coremltools' own loader reads it from the saved files."""
    from coremltools.converters.mil.frontend.milproto.load import load

    version = package.model.specificationVersion
    program = load(package.model, specification_version=version, file_weights_dir=str(package.weights))
    return program.functions[FUNCTION]


class MilProgram:
    """A MIL function compiled to a list of torch calls; constants are prepared once.

    Raises UnsupportedProgram, naming every operator that it cannot run.
    """

    def __init__(self, function: Any) -> None:
        self._values: list[Tensor | None] = [None]  # place 0 stands for arguments that are left out
        self._places: dict[Any, int] = {}
        self._inputs = [self._place(v) for v in function.inputs.values()]
        self._halved = [is_half(v) for v in function.inputs.values()]
        self._calls: list[_Call] = []
        unsupported = []
        for operation in function.operations:
            if operation.op_type == "const":
                continue
            if operation.op_type.startswith(_CONSTANT):
                self._hold(operation.outputs[0], operation.materialized_val_inference())
                continue
            try:
                self._calls.append(self._compile(operation))
            except UnsupportedParameter as error:
                unsupported.append(f"{operation.op_type} ({error})" if str(error) else operation.op_type)
        if unsupported:
            raise UnsupportedProgram(sorted(set(unsupported)))
        self._outputs = [self._place(v) for v in function.outputs]

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """inputs: float32, in the program's order -> its outputs, float32 where the program says fp16 or fp32."""
        values: list[Any] = list(self._values)
        for place, half, x in zip(self._inputs, self._halved, inputs, strict=True):
            values[place] = round_to_half(x) if half else x
        for call in self._calls:
            result = call.function(*[values[i] for i in call.inputs])
            results = result if isinstance(result, tuple) else (result,)
            for place, rounded, value in zip(call.outputs, call.rounded, results, strict=True):
                values[place] = round_to_half(value) if rounded else value
        return [values[place] for place in self._outputs]

    def _place(self, var: Any) -> int:
        """Where the value of a variable is kept. Constants are held as soon as they are asked for."""
        if var not in self._places:
            if var.val is not None:
                self._hold(var, var.val)
            else:
                self._places[var] = len(self._values)
                self._values.append(None)
        return self._places[var]

    def _hold(self, var: Any, value: Any) -> None:
        self._places[var] = len(self._values)
        self._values.append(constant(value))

    def _compile(self, operation: Any) -> _Call:
        op = OPS.get(operation.op_type)
        if op is None:
            raise UnsupportedParameter
        given = {k: plain(v) for k, v in operation.inputs.items() if k not in op.tensors and v is not None}
        return _Call(
            op.function(given),
            tuple(self._arguments(op, operation)),
            tuple(self._place(v) for v in operation.outputs),
            tuple(is_half(v) and not op.moves for v in operation.outputs),
        )

    def _arguments(self, op: MilOp, operation: Any) -> Iterator[int]:
        for name in op.tensors:
            argument = operation.inputs.get(name)
            several = argument if isinstance(argument, list | tuple) else [argument]
            yield from (0 if var is None else self._place(var) for var in several)


def is_half(var: Any) -> bool:
    from coremltools.converters.mil.mil import types

    return bool(var.dtype == types.fp16)


def round_to_half(x: Tensor) -> Tensor:
    """The nearest float16 values, as float32."""
    return x.half().float()


def constant(value: Any) -> Tensor:
    """A MIL constant (numpy) as a tensor; both float types become float32."""
    import numpy

    tensor = torch.from_numpy(numpy.array(value))
    return tensor.float() if tensor.is_floating_point() else tensor


def plain(var: Any) -> Any:
    """A constant argument as Python knows it. Raises UnsupportedParameter when it is computed in the program."""
    if var.val is None:
        raise UnsupportedParameter(f"{var.name} is not a constant")
    return var.val.tolist() if hasattr(var.val, "tolist") else var.val
