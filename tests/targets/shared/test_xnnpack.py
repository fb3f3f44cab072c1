"""What XNNPACK calls its operators in a profile; real names of a .pte and a .tflite."""

from __future__ import annotations

import pytest

from wdp_edge.protocols.target import OperatorRole
from wdp_edge.targets.shared.xnnpack import role_of


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Fully Connected (NC, F32) GEMM", OperatorRole.LINEAR),
        ("Fully Connected (NC, QD8, F32, QC8W) GEMM", OperatorRole.LINEAR),
        ("Convolution (NHWC, QS8, QC8W) IGEMM", OperatorRole.CONV),
        ("Batch Matrix Multiply (NC, F32) GEMM", OperatorRole.MATMUL),
        ("Softmax (NC, F32)", OperatorRole.SOFTMAX),
        ("Transpose (ND, X32)", OperatorRole.OTHER),
        ("Convert (NC, F32, QD8)", OperatorRole.OTHER),
        ("Add (ND) after Softmax", OperatorRole.OTHER),
        ("", OperatorRole.OTHER),
    ],
)
def test_the_beginning_of_a_name_tells_the_role(name: str, role: OperatorRole) -> None:
    assert role_of(name) is role
