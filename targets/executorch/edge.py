"""From an exported program to ExecuTorch's, with everything that XNNPACK takes inside its delegate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

METADATA_PREFIX = "metadata_"


def to_edge(program: ExportedProgram, metadata: Mapping[str, str] | None = None) -> Any:
    """The program in edge dialect, lowered (EdgeProgramManager).

    metadata: every text becomes a method `metadata_<key>` that returns it, which any ExecuTorch runtime can call.

    Skipped: checks of the graph after every pass, operators for memory layouts that no ViT has, and passes that find
    nothing to do. The file is the same to the byte, in half the time together with the non-strict capture; every
    artifact is run and compared with its model anyway.
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
    """Leaves out passes that have nothing to do in a graph; each would trace it again."""
    from executorch.backends.xnnpack import xnnpack_preprocess as preprocess
    from executorch.exir.program import _program
    from torch.fx.passes.infra.pass_base import PassResult

    from wdp_edge.targets.executorch.passes import facts_of, has_work

    manager, to_edge_passes = preprocess.XNNPACKPassManager, _program._get_aten_to_edge_passes

    def needed(program: ExportedProgram, passes: list[Any] | None = None) -> Any:
        made, facts = manager(program, passes=passes), facts_of(program.graph)
        made.passes = [p for p in made.passes if has_work(p.__name__, facts)]
        return made

    def watched(config: Any) -> tuple[list[Any], list[Any]]:
        before, after = to_edge_passes(config)
        return [where_needed(p) for p in before], after

    def where_needed(change: Any) -> Any:
        name = type(getattr(change, "__wrapped__", change)).__name__

        def run(module: GraphModule) -> PassResult:
            found: PassResult = change(module) if has_work(name, facts_of(module.graph)) else PassResult(module, False)
            return found

        return run

    changed: Any = _program
    preprocess.XNNPACKPassManager, changed._get_aten_to_edge_passes = needed, watched
    try:
        yield
    finally:
        preprocess.XNNPACKPassManager, changed._get_aten_to_edge_passes = manager, to_edge_passes
