"""The form that the GPU accelerator takes: the same function, four dimensions everywhere, no batch but one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cut_families import cut_model
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.lowering.vit import lower
from wdp_edge.targets.tflite.export import convert
from wdp_edge.targets.tflite.file import GraphRecord, read_file
from wdp_edge.targets.tflite.runtime import TFLiteProgram
from wdp_edge.targets.tflite_gpu.graph import fitted

FORMS = ("average pooling", "swin with filled windows")
_BATCH_MATMUL, _SUMS = 126, (0, 18, 41)  # in the schema: the product, and ADD, MUL, SUB


def file(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def computed(graph: GraphRecord) -> list[int]:
    return [i for operator in graph.operators for i in operator.outputs if i not in graph.outputs]


@pytest.mark.parametrize("form", FORMS)
def test_the_function_stays_and_every_tensor_says_its_four_dimensions(form: str, tmp_path: Path) -> None:
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    before = convert(lower(cut_model(form)), images[:1])
    paths = [file(tmp_path, name, data) for name, data in (("old.tflite", before), ("new.tflite", fitted(before)))]
    old, new = (torch.cat([TFLiteProgram(path, 1)(x) for x in images.split(1)]) for path in paths)
    assert torch.allclose(old, new, atol=1e-5 * float(old.abs().max()))
    graph = read_file(paths[1]).graphs[0]
    assert {len(graph.tensors[i].shape) for i in computed(graph)} == {4}
    # In sums and products a constant has no batch, and what is computed has one and the same: where one lacks it, the
    # accelerator reads the first entry for all.
    for operator in (o for o in graph.operators if o.kind in _SUMS):
        entries = [graph.tensors[i] for i in operator.inputs]
        assert {t.shape[0] for t in entries if t.data and t.shape} <= {1}
        assert len({t.shape[0] for t in entries if not t.data}) == 1


class Averaged(nn.Module):
    """A constant product from the left, of several rows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.rand(1, 3, 5))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.bmm(self.weights, x).flatten(1)
        return found


def test_a_constant_on_the_left_of_a_product_becomes_a_layer(tmp_path: Path) -> None:
    x = torch.randn(1, 5, 8)
    model = Averaged()
    path = file(tmp_path, "model.tflite", fitted(convert(model, x)))
    assert torch.allclose(TFLiteProgram(path, 1)(x), model(x), atol=1e-6)
    assert _BATCH_MATMUL not in {o.kind for o in read_file(path).graphs[0].operators}


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).cumsum(1)


def test_what_the_accelerator_is_not_known_to_take_is_said() -> None:
    with pytest.raises(InputError, match=r"not known to take the operator CUMSUM.*wdp-edge export --target tflite"):
        fitted(convert(Sorted(), torch.randn(1, 3, 4, 4)))
