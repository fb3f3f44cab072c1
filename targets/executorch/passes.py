"""Which of ExecuTorch's passes have anything to do in a graph: each traces it again, and none of them looks first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import Graph, Node

# Passes that change nothing unless an operator whose name contains one of the words is there, or what `facts_of` says.
_NEEDED_BY = {
    # of the delegate
    "DimOrderOpsRevertPass": ("dim_order",),
    "ConvertToUpsampleBilinear2d": ("index",),
    "ConvertToSDPAPass": ("mul.Scalar",),
    "FuseBatchNormPass": ("batch_norm",),
    "DecomposeBatchNorm": ("batch_norm",),
    "FuseActivationPass": ("relu", "hardtanh"),
    "DecomposeConcatenate": ("cat of many",),
    "RemoveGetItemPass": ("max_pool2d", "max.dim"),
    "InsertPadQDQPass": ("pad",),
    "Conv1dUnsqueezePass": ("conv1d", "batch_norm"),  # which becomes a convolution before
    "PropagateCustomMetaPass": ("note",),
    "ConstPropPass": ("constant",),
    "PReLUReshapePass": ("prelu",),
    # on the way to the edge dialect
    "NormalizeTransposePass": ("aten.t.default",),
    "ReplaceBrokenOpsWithFunctionalOpsPass": ("view of another",),
    "ScalarToTensorPass": ("number for a tensor",),
    "SymToTensorPass": ("symbolic",),
    "RemoveMixedTypeOperators": ("mixed types",),
}

_CAT = 5  # tensors that XNNPACK's concatenation takes at most
_PROMOTED = ("aten.add.Tensor", "aten.mul.Tensor", "aten.sub.Tensor", "aten.div.Tensor", "aten.minimum")


def has_work(pass_name: str, facts: set[str]) -> bool:
    """Whether a pass may change a graph of which these facts are known; one that is not in the table always may."""
    return any(word in fact for word in _NEEDED_BY.get(pass_name, ("",)) for fact in facts)


def facts_of(graph: Graph) -> set[str]:
    """Names of the operators, and what no name says, in words of the table."""
    return {fact for node in graph.nodes for fact in (str(node.target), *_facts_of(node))}


def _facts_of(node: Node) -> Iterator[str]:
    """`custom` is where quantizers leave notes; a size or number may be known only when the program runs."""
    from torch import SymBool, SymFloat, SymInt, Tensor

    name, value = str(node.target), node.meta.get("val")
    shape: Any = value.shape if isinstance(value, Tensor) else (value,)
    if any(isinstance(size, SymInt | SymFloat | SymBool) for size in shape):
        yield "symbolic"
    if "custom" in node.meta:
        yield "note"
    if node.op != "call_function":
        return
    if getattr(node.target, "is_view", False):
        yield "view of another"
    if all(source.op == "get_attr" for source in node.all_input_nodes):
        yield "constant"
    if "convolution" in name and len(shape) < 4:
        yield "conv1d"
    joined = node.args[0] if node.args else ()
    if "aten.cat" in name and isinstance(joined, list | tuple) and len(joined) > _CAT:
        yield "cat of many"
    if any(promoted in name for promoted in _PROMOTED):
        types = {_type_of(argument) for argument in node.args}
        # The quotient of whole numbers is none.
        if len(types) > 1 or ("aten.div" in name and not next(iter(types)).is_floating_point):
            yield "mixed types"
    schema = getattr(node.target, "_schema", None)
    for number, declared in enumerate(schema.arguments if schema else ()):
        argument = node.args[number] if number < len(node.args) else node.kwargs.get(declared.name)
        if isinstance(argument, int | float) and str(declared.type) == "Tensor":
            yield "number for a tensor"


def _type_of(argument: Any) -> Any:
    """The tensor's element type; Python's type of what is none."""
    value = argument.meta.get("val") if hasattr(argument, "meta") else argument
    return getattr(value, "dtype", type(value))
