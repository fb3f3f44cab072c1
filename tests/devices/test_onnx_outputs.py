"""wdp_edge/devices/onnx_outputs.py: what ONNX Runtime computes, in a process without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


def test_every_input_has_its_output_and_torch_is_not_imported(tmp_path: Path) -> None:
    """A file for one image at a time: each row times two."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    model, given, got = (str(tmp_path / name) for name in ("twice.onnx", "inputs.npy", "outputs.npy"))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), model)
    inputs = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(given, inputs)
    code = (
        "import sys; from wdp_edge.devices.onnx_outputs import main; main(*sys.argv[1:]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, model, given, got], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    outputs = np.load(got, allow_pickle=False)
    assert outputs.dtype == np.float32 and (outputs == 2 * inputs).all()
