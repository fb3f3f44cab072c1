"""Lowering to XNNPACK: one delegate, the same file without passes that have nothing to do, and texts as methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pte_files import KEPT, dense_model, inspected, some_images, tiny_file, vit
from torch import nn

from wdp_edge.lowering.vit import lower
from wdp_edge.models.surgery import cut
from wdp_edge.targets.executorch import edge as executorch_edge
from wdp_edge.targets.executorch.edge import to_edge
from wdp_edge.targets.shared.quiet import quiet


def test_metadata_can_be_read_by_the_runtime_alone(small: Path, tmp_path: Path) -> None:
    from executorch.extension.pybindings import _C

    assert _C._load_program(str(small)).load_method("metadata_wdp_edge")([]) == ["text"]
    assert inspected(tiny_file(tmp_path, {})).metadata == {}


@pytest.mark.parametrize(
    "model",
    [
        lower(vit()),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Upsample(scale_factor=2, mode="bilinear")),
    ],
    ids=["vit", "others"],
)
def test_skipped_passes_change_nothing(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    with quiet(), torch.no_grad():
        program = torch.export.export(model.eval(), (some_images(1),))
        few = bytes(executorch_edge.to_edge(program).to_executorch().buffer)
        monkeypatch.setattr(executorch_edge, "has_work", lambda name, operators: True)
        assert few == bytes(executorch_edge.to_edge(program).to_executorch().buffer)


def test_the_whole_model_is_one_delegate() -> None:
    with quiet():
        program = torch.export.export(lower(cut(dense_model(), KEPT)), (some_images(1),))
        edge = to_edge(program).exported_program()
    calls = [n for n in edge.graph.nodes if n.op == "call_function" and "delegate" in n.name]
    assert len(calls) == 1
    # The class token is expanded to a batch of one before; everything else is inside.
    outside = [n.name for n in edge.graph.nodes if n.op == "call_function" and n.name.startswith("aten")]
    assert outside == ["aten_expand_copy_default"]


def test_passes_are_back_after_an_error() -> None:
    from executorch.backends.xnnpack import xnnpack_preprocess as preprocess

    manager = preprocess.XNNPACKPassManager
    with pytest.raises(ValueError), executorch_edge.only_needed_passes():
        assert preprocess.XNNPACKPassManager is not manager
        raise ValueError
    assert preprocess.XNNPACKPassManager is manager


def test_a_pass_is_left_out_only_where_nothing_needs_it() -> None:
    plain = {"aten.linear.default", "aten.softmax.int"}
    assert executorch_edge.has_work("AnyOtherPass", plain)
    assert not executorch_edge.has_work("FuseBatchNormPass", plain)
    assert executorch_edge.has_work("FuseBatchNormPass", {*plain, "aten._native_batch_norm_legit.default"})
