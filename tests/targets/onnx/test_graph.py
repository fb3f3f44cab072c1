"""A lowered model as an ONNX graph: weights called as their layers, operators as their parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from onnx_files import INT8, TARGET, centred_cosine, export, int8_weights, operators
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.protocols.precision import Precision
from wdp_edge.targets.onnx import graph
from wdp_edge.targets.onnx.graph import INPUT, layer_nodes, to_onnx
from wdp_edge.targets.shared.quiet import quiet


@pytest.mark.parametrize("precision", INT8)
def test_matrices_that_the_exporter_leaves_transposed(tmp_path: Path, precision: Precision) -> None:
    """It folds transposes of small constants only, and the tools do not quantize a transposed one."""
    torch.manual_seed(0)
    shared = nn.Linear(1536, 1536)
    model = nn.Sequential(shared, nn.GELU(), nn.Linear(1536, 1536, bias=False), nn.Flatten(), nn.Linear(3072, 4))
    model[2].weight = shared.weight
    x = torch.randn(8, 1, 2, 1536)
    path = tmp_path / "x.onnx"
    export(model.eval(), path, precision, example=x[0], calibration=x.reshape(8, 2, 1536))
    assert int8_weights(path) == {"0", "2", "4"}
    assert "Transpose" not in operators(path)
    with torch.no_grad():
        reference = torch.cat([model(image) for image in x])
    # A constant, as below: what is no timm model is not simulated.
    assert centred_cosine(torch.cat([TARGET.load(path, 1)(image) for image in x]), reference) > 0.99


class Tied(nn.Module):
    """Two layers with one weight, one of which the exporter turns; a third that does not run."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.idle = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


@pytest.fixture(scope="module")
def tied() -> onnx.ModelProto:
    with quiet(), torch.no_grad():
        program = torch.export.export(Tied().eval(), (torch.zeros(1, 6),))
        return to_onnx(program, ["first", "second", "idle"], "logits")


def test_every_layer_that_runs_has_a_weight_of_its_own_name(tied: onnx.ModelProto) -> None:
    onnx.checker.check_model(tied)
    weights = {t.name: numpy_helper.to_array(t) for t in tied.graph.initializer if t.name.endswith(".weight")}
    assert set(weights) == {"first.weight", "second.weight"}
    assert [layer for layer, _ in layer_nodes(tied.graph, ["first", "second", "idle"])] == ["first", "second"]
    assert ([i.name for i in tied.graph.input], [o.name for o in tied.graph.output]) == ([INPUT], ["logits"])
    session = ort.InferenceSession(tied.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.randn(1, 6)
    (got,) = session.run(None, {INPUT: x.numpy()})
    assert torch.allclose(torch.from_numpy(got), Tied()(x), atol=1e-5)


def test_operators_are_named_by_their_part_and_notes_are_gone(tied: onnx.ModelProto) -> None:
    assert all(node.name.split("/")[0] in ("first", "second", "model") for node in tied.graph.node)
    written = [name for node in tied.graph.node for name in node.output]
    assert len(set(written)) == len(written) and "logits" in written
    parts = (tied, tied.graph, *tied.graph.node, *tied.graph.initializer, *tied.graph.value_info)
    assert not any(part.metadata_props or part.doc_string for part in parts)


def test_a_model_that_one_file_cannot_hold_is_refused() -> None:
    """FAKE: a program of which only its parameters are looked at, on a device where they take no memory."""
    program: Any = SimpleNamespace(parameters=lambda: [torch.empty(3 * 2**28, device="meta")])
    with pytest.raises(InputError, match=r"3\.0 GiB of weights; an ONNX file holds 2"):
        to_onnx(program, [], "logits")


def test_translations_are_collected_once_and_the_file_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the exporter of whoever else uses it in this process is as it was."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    graph._remembered.cache_clear()
    usual, made = ONNXRegistry.__dict__["from_torchlib"], []

    def collect(cls: Any, **options: int) -> Any:
        made.append(options)
        return usual.__func__(cls, **options)

    monkeypatch.setattr(ONNXRegistry, "from_torchlib", classmethod(collect))
    model = nn.Sequential(nn.Linear(4, 3), nn.GELU()).eval()
    program = torch.export.export(model, (torch.zeros(1, 4),))
    with quiet():
        files = [to_onnx(program, [], "out").SerializeToString() for _ in range(2)]
    assert files[0] == files[1] and len(made) == 1
    assert ONNXRegistry.__dict__["from_torchlib"].__func__ is collect
    graph._remembered.cache_clear()
