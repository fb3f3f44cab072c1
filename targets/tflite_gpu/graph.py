"""A float32 .tflite in the form that LiteRT's GPU accelerator takes whole and computes rightly.

The accelerator gives every tensor four dimensions: batch, height, width, channels. It takes the tokens of [N, D] and
the heads of [heads, N, D] for a batch, and a constant has none there: sums with other shapes and with constants, such
as positions of windows or rotary embeddings, come out wrong without a word, and integer layers are refused. Here every
tensor says its four dimensions itself, with a batch of one: [1, 1, N, D] and [1, heads, N, D].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wdp_edge.errors import InputError
from wdp_edge.targets.tflite.pack import pack, unpack

_RANK = 4
_KEEPS_DIMENSIONS = 5  # first version of FULLY_CONNECTED that knows the option
_HINT = "Export it for the CPU: wdp-edge export --target tflite"
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_SAME_RANK = frozenset(
    {"ADD", "SUB", "MUL", "DIV", "RSQRT", "SQRT", "GELU", "LOGISTIC", "TANH", "RELU", "HARD_SWISH", "SOFTMAX"}
    | {"BATCH_MATMUL", *_CONVOLUTIONS, "CAST", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM", "NEG"}
)
"""Operators whose inputs and outputs have as many dimensions, none of which they name by its number from the front."""


def fitted(data: bytes) -> bytes:
    """The same function. data: a float32 .tflite with one graph, as the converter writes it.

    Raises InputError for an operator that cannot be written so.
    """
    model = unpack(data)
    graph = _Graph(model)
    graph.products_by_layers()
    graph.four_dimensions()
    return pack(model, {})


class _Graph:
    """The first graph of a `ModelT`, changed in place."""

    def __init__(self, model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.model, self.graph = schema, model, model.subgraphs[0]
        kinds = schema.BuiltinOperator
        self.names = {number: name for name, number in vars(kinds).items() if isinstance(number, int)}

    def name(self, operator: Any) -> str:
        code = self.model.operatorCodes[operator.opcodeIndex]
        return self.names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def shape(self, tensor: int) -> list[int]:
        found = self.graph.tensors[tensor].shape
        return [] if found is None else [int(n) for n in found]

    def is_constant(self, tensor: int) -> bool:
        data = self.model.buffers[self.graph.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def products_by_layers(self) -> None:
        """A product whose left side is a constant, such as an average over tokens, as a layer of the right side.

        The accelerator takes constants on the right only. [M, N] times [N, D] is the turned result of a layer with the
        weights [M, N] on the turned right side.
        """
        operators = []
        for operator in self.graph.operators:
            if self.name(operator) != "BATCH_MATMUL" or not self.is_constant(operator.inputs[0]):
                operators.append(operator)
                continue
            left, right, out = (int(i) for i in (*operator.inputs, *operator.outputs))
            *batch, rows, tokens = self.shape(left)
            *lead, _, channels = self.shape(right)
            flags = operator.builtinOptions
            if flags.adjX or flags.adjY or {*batch, *lead} - {1} or len(self.shape(out)) != len(lead) + 2:
                raise InputError(
                    "The GPU accelerator does not take a product of the model whose left side is a constant.", _HINT
                )
            turned = self.tensor([*lead, channels, tokens], out)
            weights = self.constant(self.values(left).reshape(rows, tokens))
            summed = self.tensor([*lead, channels, rows], out)
            operators += [self.turn(right, turned), self.layer(turned, weights, summed), self.turn(summed, out)]
        self.graph.operators = operators

    def four_dimensions(self) -> None:
        """Every tensor that is computed gets as many leading ones as it lacks; the file's inputs and outputs stay."""
        ends = {int(i) for i in self.graph.inputs}
        operators: list[Any] = [self.last_shape(int(out)) for out in self.graph.outputs if len(self.shape(out)) < _RANK]
        ends |= {int(i) for i in self.graph.outputs}
        computed = {int(i) for operator in self.graph.operators for i in operator.outputs} - ends
        self.added = {i: _RANK - len(self.shape(i)) for i in computed}
        if any(ones < 0 for ones in self.added.values()):
            raise InputError("The GPU accelerator takes four dimensions, and the model has a tensor with more.", _HINT)
        for i, ones in self.added.items():
            self.reshape(i, [1] * ones + self.shape(i))
        adapted = [new for operator in self.graph.operators for new in self.adapt(operator)]
        self.graph.operators = adapted + operators

    def last_shape(self, out: int) -> Any:
        """Lets what wrote an output of the file write another tensor, of which this makes it."""
        before = self.tensor(self.shape(out), out)
        for operator in self.graph.operators:
            operator.inputs = np.array([before if int(i) == out else i for i in operator.inputs], np.int32)
            operator.outputs = np.array([before if int(i) == out else i for i in operator.outputs], np.int32)
        return self.reshaping(before, out)

    def adapt(self, operator: Any) -> list[Any]:
        """An operator whose tensors have got their ones: it, and what has to come after it."""
        name = self.name(operator)
        special: dict[str, Callable[[Any], list[Any]]] = {
            "FULLY_CONNECTED": self.adapt_layer,
            "MEAN": self.adapt_mean,
            "SUM": self.adapt_mean,
            "RESHAPE": self.adapt_reshape,
            "TRANSPOSE": self.adapt_turn,
            "SLICE": self.adapt_slice,
            "PAD": self.adapt_padding,
            "CONCATENATION": self.adapt_concatenation,
        }
        if name in special:
            return special[name](operator)
        if name not in _SAME_RANK:
            raise InputError(f"The GPU accelerator is not known to take the operator {name} of the model.", _HINT)
        if name not in _CONVOLUTIONS:  # their weights have a form of their own
            self.give_constants_dimensions(operator)
        return [operator]

    def ones(self, operator: Any) -> int:
        """How many dimensions the operator's first input has got in front."""
        return self.added.get(int(operator.inputs[0]), 0)

    def adapt_reshape(self, operator: Any) -> list[Any]:
        shape = np.array(self.shape(int(operator.outputs[0])), np.int32)
        operator.inputs = np.array([operator.inputs[0], self.constant(shape)], np.int32)
        if operator.builtinOptions is not None:
            operator.builtinOptions.newShape = shape
        return [operator]

    def adapt_turn(self, operator: Any) -> list[Any]:
        order, ones = self.values(operator.inputs[1], np.int32), self.ones(operator)
        self.set_constant(operator, 1, np.array([*range(ones), *(order + ones)], np.int32))
        return [operator]

    def adapt_slice(self, operator: Any) -> list[Any]:
        begin, size = (self.values(i, np.int32) for i in operator.inputs[1:3])
        self.set_constant(operator, 1, np.array([*[0] * self.ones(operator), *begin], np.int32))
        self.set_constant(operator, 2, np.array([*[1] * self.ones(operator), *size], np.int32))
        return [operator]

    def adapt_padding(self, operator: Any) -> list[Any]:
        pads = self.values(operator.inputs[1], np.int32).reshape(-1, 2)
        self.set_constant(operator, 1, np.array([*[[0, 0]] * self.ones(operator), *pads], np.int32))
        return [operator]

    def adapt_concatenation(self, operator: Any) -> list[Any]:
        self.give_constants_dimensions(operator)
        if operator.builtinOptions.axis >= 0:
            operator.builtinOptions.axis += self.added.get(int(operator.outputs[0]), 0)
        return [operator]

    def give_constants_dimensions(self, operator: Any) -> None:
        """Constants among the inputs have their four dimensions too, as a second view of the same bytes."""
        views = [self.view(int(i)) if self.is_constant(i) else int(i) for i in operator.inputs]
        operator.inputs = np.array(views, np.int32)

    def adapt_layer(self, layer: Any) -> list[Any]:
        """A layer keeps the dimensions of its input, and a change of shape comes after it where it made one."""
        entry, out = self.shape(int(layer.inputs[0])), int(layer.outputs[0])
        layer.builtinOptions.keepNumDims = True
        code = self.model.operatorCodes[layer.opcodeIndex]
        code.version = max(code.version, _KEEPS_DIMENSIONS)
        return self.keeping(layer, [*entry[:-1], self.shape(out)[-1]])

    def adapt_mean(self, operator: Any) -> list[Any]:
        """A mean or sum over some dimensions leaves ones in their places."""
        entry, ones = self.shape(int(operator.inputs[0])), self.ones(operator)
        axes = [axis % (_RANK - ones) + ones for axis in self.values(operator.inputs[1], np.int32).ravel()]
        self.set_constant(operator, 1, np.array(axes, np.int32))
        operator.builtinOptions.keepDims = True
        return self.keeping(operator, [1 if place in axes else size for place, size in enumerate(entry)])

    def keeping(self, operator: Any, kept: list[int]) -> list[Any]:
        """An operator that writes this shape, and a change of shape behind it where it has to be another."""
        out = int(operator.outputs[0])
        if kept == self.shape(out):
            return [operator]
        written = self.tensor(kept, out)
        operator.outputs = np.array([written], np.int32)
        return [operator, self.reshaping(written, out)]

    # --- what is added ---

    def values(self, tensor: int, kind: Any = np.float32) -> np.ndarray:
        """Of a constant."""
        found = self.graph.tensors[tensor]
        data = np.asarray(self.model.buffers[found.buffer].data, np.uint8)
        return np.frombuffer(data.tobytes(), kind).reshape(found.shape)

    def set_constant(self, operator: Any, place: int, values: np.ndarray) -> None:
        inputs = operator.inputs.copy()
        inputs[place] = self.constant(values)
        operator.inputs = inputs

    def view(self, tensor: int) -> int:
        """A constant with four dimensions; a single number needs none."""
        shape, found = self.shape(tensor), self.graph.tensors[tensor]
        if len(shape) in (0, _RANK):
            return tensor
        return self._add([1] * (_RANK - len(shape)) + shape, found.type, found.buffer, found.name.decode())

    def reshape(self, tensor: int, shape: list[int]) -> None:
        self.graph.tensors[tensor].shape = np.array(shape, np.int32)
        self.graph.tensors[tensor].shapeSignature = np.array(shape, np.int32)

    def constant(self, values: np.ndarray) -> int:
        """A new constant, float32 or int32."""
        self.model.buffers.append(self.schema.BufferT(np.frombuffer(values.tobytes(), np.uint8)))
        kinds = self.schema.TensorType
        kind = kinds.FLOAT32 if values.dtype == np.float32 else kinds.INT32
        return self._add(list(values.shape), kind, len(self.model.buffers) - 1, "constant")

    def tensor(self, shape: list[int], like: int) -> int:
        """A new float32 tensor that is computed for the one called `like`."""
        return self._add(shape, self.schema.TensorType.FLOAT32, 0, self.graph.tensors[like].name.decode())

    def _add(self, shape: list[int], kind: int, buffer: int, name: str) -> int:
        made = self.schema.TensorT()
        made.shape = made.shapeSignature = np.array(shape, np.int32)
        made.type, made.buffer, made.name = kind, buffer, f"{name};gpu{len(self.graph.tensors)}".encode()
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def reshaping(self, entry: int, out: int) -> Any:
        options = self.schema.ReshapeOptionsT()
        options.newShape = shape = np.array(self.shape(out), np.int32)
        return self._operator("RESHAPE", [entry, self.constant(shape)], out, options, 1)

    def turn(self, entry: int, out: int) -> Any:
        """[..., A, B] -> [..., B, A]."""
        *lead, rows, columns = range(len(self.shape(out)))
        order = self.constant(np.array([*lead, columns, rows], np.int32))
        return self._operator("TRANSPOSE", [entry, order], out, self.schema.TransposeOptionsT(), 1)

    def layer(self, entry: int, weights: int, out: int) -> Any:
        options = self.schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        return self._operator("FULLY_CONNECTED", [entry, weights, -1], out, options, _KEEPS_DIMENSIONS)

    def _operator(self, name: str, inputs: list[int], out: int, options: Any, version: int) -> Any:
        made = self.schema.OperatorT()
        made.opcodeIndex = self._code(name, version)
        made.inputs, made.outputs = np.array(inputs, np.int32), np.array([out], np.int32)
        made.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        made.builtinOptions = options
        return made

    def _code(self, name: str, version: int) -> int:
        number = getattr(self.schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
                code.version = max(code.version, version)
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1
