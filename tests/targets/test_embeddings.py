"""Models that put out embeddings, as files of every target."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_vit import TINY, lively

from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.protocols.task import Output

HALF = tuple(range(0, 128, 2))


# The two outputs differ in the last operators only: one target tells that the plain one is right, too.
@pytest.mark.parametrize(
    ("name", "output"),
    [*((name, Output.UNIT) for name in ("executorch", "tflite", "onnx", "coreml")), ("executorch", Output.EMBEDDING)],
)
def test_files_put_out_the_model_s_embedding(name: str, output: Output, tmp_path: Path) -> None:
    target = get_target(name)
    torch.manual_seed(0)
    model = lively(create(ModelSpec(TINY.name, 0, TINY.args, output)))
    model = cut(model, Kept(((0, 1), (1, 2, 3)), (HALF,) * 2)).eval().requires_grad_(False)
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    path = tmp_path / f"x{target.suffix}"
    target.export(model, images[:1], path, ExportOptions(Precision.FP32, images))
    program = target.load(path, threads=1)
    got, reference = torch.cat([program(x) for x in images.split(1)]), model(images)
    assert got.shape == (4, 32)
    if name in ("onnx", "coreml"):  # whose outputs have names
        assert [o.name for o in target.inspect(path).outputs] == ["embedding"]
    assert float((got - reference).abs().max()) < 1e-4
    lengths = got.norm(dim=-1)
    assert torch.allclose(lengths, torch.ones(4), atol=1e-4) == (output is Output.UNIT)
