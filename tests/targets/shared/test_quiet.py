"""What is kept off while a toolkit works is on again afterwards, and changes nothing of what it makes."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import timm
import torch
from torch import fx, nn

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions
from wdp_edge.targets.executorch import target as executorch
from wdp_edge.targets.executorch.target import ExecuTorchTarget
from wdp_edge.targets.shared.quiet import deferred_code, paused_collection


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_code_is_written_when_it_is_called_or_read() -> None:
    with deferred_code():
        called, read, later = (fx.symbolic_trace(Doubled()) for _ in range(3))
        assert torch.equal(called(torch.ones(2)), torch.full((2,), 2.0))
        assert "mul" in read.code
        assert str(later) == "Doubled"
    assert torch.equal(later(torch.ones(2)), torch.full((2,), 2.0))
    assert "mul" in str(later)
    after = fx.symbolic_trace(Doubled())
    assert not hasattr(type(after).forward, "unwritten")


def test_an_edited_graph_is_written_again() -> None:
    with deferred_code():
        traced = fx.symbolic_trace(Doubled())
        assert traced(torch.ones(1)) == 2
        (node,) = [n for n in traced.graph.nodes if n.op == "call_function"]
        node.args = (3, node.args[1])
        traced.recompile()
        assert traced(torch.ones(1)) == 3


def test_the_original_is_back_after_an_error() -> None:
    before = {name: vars(fx.GraphModule)[name] for name in ("recompile", "code", "__str__")}
    with pytest.raises(ValueError), deferred_code():
        raise ValueError
    assert {name: vars(fx.GraphModule)[name] for name in before} == before


def test_a_file_is_the_same_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=32, depth=1, num_heads=2, num_classes=3)
    target, example, options = ExecuTorchTarget(), torch.randn(1, 3, 32, 32), ExportOptions(Precision.INT8_DYNAMIC)
    target.export(model.eval(), example, tmp_path / "deferred.pte", options)
    monkeypatch.setattr(executorch, "deferred_code", torch.no_grad)
    target.export(model, example, tmp_path / "plain.pte", options)
    assert (tmp_path / "deferred.pte").read_bytes() == (tmp_path / "plain.pte").read_bytes()


def test_collection_is_paused_only_inside() -> None:
    with pytest.raises(ValueError), paused_collection():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()
