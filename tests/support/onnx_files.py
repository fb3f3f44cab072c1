"""Files of a small cut model for ONNX, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from tiny_vit import TINY, lively
from torch import Tensor, nn

from wdp_edge.calibration.fake_quant import Scheme
from wdp_edge.models.spec import create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, Contents, ExportOptions
from wdp_edge.targets.onnx.target import ONNXTarget

TARGET = ONNXTarget()
# Other heads and widths in every block, and one block less.
KEPT = Kept(heads=((0, 2, 3), (1,)), hidden=(tuple(range(0, 128, 2)), tuple(range(40))))
BLOCKS = len(KEPT.heads)
INT8 = (Precision.INT8_DYNAMIC, Precision.INT8_STATIC)
SCHEMES = {
    Precision.INT8_DYNAMIC: Scheme("dynamic", convolutions=False, paired=True),
    Precision.INT8_STATIC: Scheme("static", TARGET.observers[0], paired=True),
}
METADATA = {"wdp_edge.classes": '["Katze", "Käse"]', "empty": ""}


def small_model() -> nn.Module:
    torch.manual_seed(0)
    model = cut(lively(create(TINY)), KEPT)
    return model.eval()


def some_images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def export(model: nn.Module, path: Path, precision: Precision, **options: Any) -> Artifact:
    example = options.pop("example", some_images(1))
    options.setdefault("calibration", some_images(16, 2))
    return TARGET.export(model, example, path, ExportOptions(precision, **options))


def run(path: Path, images: Tensor) -> Tensor:
    program = TARGET.load(path, threads=1)
    return torch.cat([program(x) for x in images.split(1)])


def centred_cosine(got: Tensor, reference: Tensor) -> float:
    mean = reference.mean(0)
    return float(torch.cosine_similarity((got - mean).flatten(1), (reference - mean).flatten(1)).min())


def weights(contents: Contents) -> dict[str, int]:
    return {w.dtype: w.bytes for w in contents.weights}


def operators(path: Path) -> dict[str, int]:
    return {o.kind: o.count for o in TARGET.inspect(path).operators}


def int8_weights(path: Path) -> set[str]:
    """Names of the layers that have an int8 weight."""
    found = [t.name for t in onnx.load(path).graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    return {name.partition(".weight")[0] for name in found}


def with_weights_at(folder: Path, location: str) -> Path:
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    set_external_data(weights, location)
    weights.ClearField("raw_data")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("image", "logits")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "w"], ["logits"])], "g", ends[:1], ends[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def other_model(*inputs: tuple[str, int, list[Any]]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(*i) for i in inputs]
    result = helper.make_tensor_value_info("y", inputs[0][1], inputs[0][2])
    node = helper.make_node("Sum", [i[0] for i in inputs], ["y"])
    graph = helper.make_graph([node], "g", values, [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
