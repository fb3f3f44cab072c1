"""From an exported program to ExecuTorch's, with everything that XNNPACK takes inside its delegate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram

METADATA_PREFIX = "metadata_"
# Passes of the delegate that change nothing unless an operator whose name contains the word is there.
_NEEDED_BY = {
    "ConvertToUpsampleBilinear2d": "index",
    "ConvertToSDPAPass": "mul.Scalar",
    "FuseBatchNormPass": "batch_norm",
    "DecomposeBatchNorm": "batch_norm",
    "InsertPadQDQPass": "pad",
    "PReLUReshapePass": "prelu",
}


def to_edge(program: ExportedProgram, metadata: Mapping[str, str] | None = None) -> Any:
    """The program in edge dialect, lowered (EdgeProgramManager).

    metadata: every text becomes a method `metadata_<key>` that returns it, which any ExecuTorch runtime can call.

    Skipped: checks of the graph after every pass, operators for memory layouts that no ViT has, and passes of the
    delegate that find nothing to do. The file is the same to the byte, in half the time together with the non-strict
    capture; every artifact is run and compared with its model anyway.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    config = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    methods = {METADATA_PREFIX + key: text for key, text in (metadata or {}).items()}
    with only_needed_passes():
        return to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], compile_config=config, constant_methods=methods or None
        )


@contextlib.contextmanager
def only_needed_passes() -> Iterator[None]:
    """Leaves out passes of the XNNPACK delegate that have nothing to do in a graph; each would trace it again."""
    from executorch.backends.xnnpack import xnnpack_preprocess as preprocess

    manager = preprocess.XNNPACKPassManager

    def needed(program: ExportedProgram, passes: list[Any] | None = None) -> Any:
        made = manager(program, passes=passes)
        names = {str(node.target) for node in program.graph.nodes}
        made.passes = [p for p in made.passes if has_work(p.__name__, names)]
        return made

    preprocess.XNNPACKPassManager = needed
    try:
        yield
    finally:
        preprocess.XNNPACKPassManager = manager


def has_work(pass_name: str, operators: set[str]) -> bool:
    """Whether a pass may change a graph with these operators."""
    return any(_NEEDED_BY.get(pass_name, "") in name for name in operators)
