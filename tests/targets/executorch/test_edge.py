"""Lowering to XNNPACK: one delegate, the same file without passes that have nothing to do, and texts as methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pte_files import KEPT, dense_model, inspected, some_images, tiny_file, vit
from tiny_families import made
from torch import nn

from wdp_edge.lowering.vit import lower
from wdp_edge.models import vit as vit_of
from wdp_edge.models.surgery import cut
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.targets.executorch import edge as executorch_edge
from wdp_edge.targets.executorch import passes
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
        monkeypatch.setattr(passes, "has_work", lambda name, facts: True)
        assert few == bytes(executorch_edge.to_edge(program).to_executorch().buffer)


class Awkward(nn.Module):
    """What the passes are for: views, mixed types, numbers in the place of tensors, constants, long concatenations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [1, 3, H, W] -> [1, 3, n]."""
        x = x.flatten(2)
        long = torch.cat([x[..., :4]] * 7, -1)
        whole = torch.arange(28) * 2
        return (2.0 - torch.relu(long) / 3) * whole + torch.ones(28) + whole / (whole + 1)


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        ("plain", Precision.INT8_DYNAMIC),
        ("awkward", Precision.FP32),
        ("awkward", Precision.INT8_STATIC),
        pytest.param("plain", Precision.INT8_STATIC, marks=pytest.mark.slow),
        pytest.param("swin v2", Precision.FP32, marks=pytest.mark.slow),
        pytest.param("swin v2", Precision.INT8_DYNAMIC, marks=pytest.mark.slow),
        pytest.param("swin v2", Precision.INT8_STATIC, marks=pytest.mark.slow),
    ],
)
def test_skipped_passes_change_no_file(
    form: str, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Awkward().eval() if form == "awkward" else made(form)
    images = torch.rand(2, 3, 16, 16) if form == "awkward" else torch.rand(2, *vit_of.example_of(model).shape[1:])
    options = ExportOptions(precision, images)
    files = []
    for number in range(2):
        get_target("executorch").export(model, images[:1], tmp_path / f"{number}.pte", options)
        files.append((tmp_path / f"{number}.pte").read_bytes())
        monkeypatch.setattr(passes, "has_work", lambda name, facts: True)
    assert files[0] == files[1]


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
    from executorch.exir.program import _program

    manager, to_edge_passes = preprocess.XNNPACKPassManager, _program._get_aten_to_edge_passes
    with pytest.raises(ValueError), executorch_edge.only_needed_passes():
        assert preprocess.XNNPACKPassManager is not manager
        assert _program._get_aten_to_edge_passes is not to_edge_passes
        raise ValueError
    assert preprocess.XNNPACKPassManager is manager and _program._get_aten_to_edge_passes is to_edge_passes
