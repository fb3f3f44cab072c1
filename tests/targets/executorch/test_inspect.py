"""What is inside a .pte, as inspect tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pte_files import LINEAR, NORMS, counted, damaged, exported, inspected, some_images, stored, vit

from wdp_edge.errors import InputError
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, OperatorCount, TensorInfo

BYTES = {"float32": 3.9, "float16": 1.9, "int8": 1.0, "int4": 0.5}  # per parameter, at least


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.FP32, "float32"),
        (Precision.FP16, "float16"),
        (Precision.INT8_DYNAMIC, "int8"),
        (Precision.INT8_STATIC, "int8"),
        (Precision.INT4_WEIGHT, "int4"),
    ],
)
def test_inspect_tells_what_is_inside(tmp_path: Path, precision: Precision, dtype: str) -> None:
    path = exported(tmp_path, ExportOptions(precision, some_images(4), metadata={"wdp_edge": '{"a": "bé"}', "x": ""}))
    contents = inspected(path)
    assert contents.inputs == (TensorInfo("input", (1, 3, 16, 16), "float32"),)
    assert contents.outputs == (TensorInfo("output", (1, 4), "float32"),)
    assert contents.delegates == 1
    assert counted(contents, "FullyConnected") == OperatorCount("FullyConnected", LINEAR + NORMS, LINEAR + NORMS)
    assert counted(contents, "Softmax").delegated == 1
    # Only the class token's expansion, and float16's way in and out, stay outside of the delegate.
    outside = {o.kind: o.count for o in contents.operators if not o.delegated}
    assert outside == {"aten::expand_copy": 1} | ({"aten::_to_copy": 2} if precision == Precision.FP16 else {})
    assert stored(contents)[dtype] >= LINEAR
    # All that is stored, and not twice: the rest of so small a file is structure.
    parameters = sum(p.numel() for p in vit().parameters())
    assert BYTES[dtype] * parameters < sum(w.bytes for w in contents.weights) < path.stat().st_size
    assert contents.metadata == {"wdp_edge": '{"a": "bé"}', "x": ""}


def test_inspect_refuses_what_load_refuses(small: Path, tmp_path: Path) -> None:
    whole = small.read_bytes()
    path = tmp_path / "damaged.pte"
    for content, words in (
        (whole[:-9], "cut short"),
        (b"no" * 99, "not an ExecuTorch"),
        (damaged(whole), "damaged|load"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            inspected(path)
    with pytest.raises(InputError, match="does not exist"):
        inspected(tmp_path / "absent.pte")
