"""An .onnx file whose weights are said to be in another file: nothing outside its folder is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from wdp_edge.errors import InputError
from wdp_edge.target import get_target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights in `beside.bin`, in a name of two lines, outside the folder, and there through a link."""
    weights, inside = np.eye(4, dtype=np.float32).tobytes(), tmp_path / "inside"
    inside.mkdir()
    for path in (inside / "beside.bin", inside / "two\nlines.bin", tmp_path / "outside.bin"):
        path.write_bytes(weights)
    (inside / "link.bin").symlink_to(tmp_path / "outside.bin")
    return inside


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


@pytest.mark.parametrize(
    "location", ["beside.bin", "two\nlines.bin", "../outside.bin", "link.bin", "/etc/passwd", "a\0b"]
)
def test_inspect_takes_no_file_with_weights_elsewhere(
    folder: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"model\.onnx is not a sound ONNX model: its weights are in other files"):
        get_target("onnx").inspect(with_weights_at(folder, location))


@pytest.mark.parametrize(
    "location", ["../outside.bin", "inside/../../outside.bin", "link.bin", "/etc/passwd", "a\0b", ""]
)
def test_the_runtime_reads_no_weights_outside_the_folder(folder: Path, location: str) -> None:
    location = location.replace("inside/", f"{folder.name}/")
    with pytest.raises(InputError, match=r"model\.onnx is not a sound ONNX model"):
        get_target("onnx").load(with_weights_at(folder, location), threads=1)


def test_absolute_places_are_refused_even_below_the_folder(folder: Path) -> None:
    assert onnx.load(with_weights_at(folder, "beside.bin")).graph.initializer[0].raw_data, "the file itself is sound"
    with pytest.raises(InputError, match="not a sound ONNX model"):
        get_target("onnx").load(with_weights_at(folder, str(folder / "beside.bin")), threads=1)
