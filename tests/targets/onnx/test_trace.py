"""Times of operators: real files of the tiny ViT under the runtime's own profiler."""

from __future__ import annotations

from pathlib import Path

import pytest
from operator_times import PRECISIONS, check_refusal, check_times_and_parts, exported

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import OperatorRole
from wdp_edge.targets.onnx.trace import operators


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    return exported("onnx", tmp_path_factory.mktemp("trace"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operators_of_a_file_are_timed_and_belong_to_parts(precision: Precision, files: dict[Precision, Path]) -> None:
    check_times_and_parts("onnx", files[precision])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    check_refusal("onnx", tmp_path)


def test_operators_are_told_apart_by_name_and_kept_in_order() -> None:
    """As ONNX Runtime's profiler writes them: microseconds, one event for each run; the first three warm up."""
    events = [
        {"name": name, "dur": us, "args": {"op_name": kind}}
        for us in (9000, 9000, 9000, 1000, 2000)
        for name, kind in (("q_kernel_time", "Gemm"), ("a_kernel_time", "Softmax"), ("k_kernel_time", "Gemm"))
    ]
    found = operators(events)
    assert [(time.name, time.role) for time in found] == [
        ("Gemm", OperatorRole.LINEAR),
        ("Softmax", OperatorRole.SOFTMAX),
        ("Gemm", OperatorRole.LINEAR),
    ]
    assert all(time.ms == pytest.approx(1.5) for time in found)
    (other,) = operators([{"name": "x", "dur": 1, "args": {"op_name": "Unheard"}}] * 4)
    assert other.role is OperatorRole.OTHER
