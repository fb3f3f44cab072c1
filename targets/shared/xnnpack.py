"""What XNNPACK calls its operators in a profile; ExecuTorch and LiteRT both run it."""

from __future__ import annotations

from wdp_edge.protocols.target import OperatorRole

_ROLES = {
    "Convolution": OperatorRole.CONV,
    "Fully Connected": OperatorRole.LINEAR,
    "Batch Matrix Multiply": OperatorRole.MATMUL,
    "Softmax": OperatorRole.SOFTMAX,
}


def role_of(name: str) -> OperatorRole:
    """name: such as "Fully Connected (NC, F32) GEMM"."""
    return next((role for start, role in _ROLES.items() if name.startswith(start)), OperatorRole.OTHER)
