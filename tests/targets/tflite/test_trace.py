"""Times of operators: real .tflite files under LiteRT's profiler."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from operator_times import PRECISIONS, check_refusal, check_times_and_parts, exported
from torch import Tensor, nn

from wdp_edge.errors import SetupError
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, OperatorRole, get_target
from wdp_edge.targets.tflite.profiler import DELEGATED_OPERATOR, Event
from wdp_edge.targets.tflite.trace import operators, trace

TFLITE = get_target("tflite")  # converts a model once
_ROLES = {
    "FULLY_CONNECTED": OperatorRole.LINEAR,
    "CONV_2D": OperatorRole.CONV,
    "BATCH_MATMUL": OperatorRole.MATMUL,
    "SOFTMAX": OperatorRole.SOFTMAX,
}


class Refused(nn.Module):
    """XNNPACK has no cumulative sum: that part of the file stays outside of the delegate."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after = nn.Linear(48, 64), nn.Linear(64, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.relu(torch.cumsum(self.before(x.flatten(1)), 1)))


def test_operators_outside_of_the_delegate_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    TFLITE.export(Refused().eval(), torch.zeros(1, 3, 4, 4), path, ExportOptions(Precision.FP32))
    found = trace(path, 1, 2)
    assert [time.name for time in found if not time.delegated] == ["CUMSUM"]
    linears = [i for i, time in enumerate(found) if time.role is OperatorRole.LINEAR]
    outside = next(i for i, time in enumerate(found) if not time.delegated)
    assert len(linears) == 2 and linears[0] < outside < linears[1]


def test_the_mean_is_taken_over_runs() -> None:
    runs = [[Event("Invoke", 1, 9), Event("Softmax (NC, F32)", DELEGATED_OPERATOR, us)] for us in (1000, 2000, 90000)]
    (time,) = operators(runs)
    assert (time.role, time.ms, time.delegated) == (OperatorRole.SOFTMAX, 1.5, True)
    with pytest.raises(SetupError, match="not report the times of operators"):
        operators([run[:1] for run in runs])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    return exported("tflite", tmp_path_factory.mktemp("trace"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_roles_are_those_of_the_operators_in_the_file(precision: Precision, files: dict[Precision, Path]) -> None:
    inside = Counter({o.kind: o.count for o in TFLITE.inspect(files[precision]).operators})
    found = Counter(time.role for time in trace(files[precision], 1, 2))
    assert {role: inside[kind] for kind, role in _ROLES.items()} == {role: found[role] for role in _ROLES.values()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operators_of_a_file_are_timed_and_belong_to_parts(precision: Precision, files: dict[Precision, Path]) -> None:
    check_times_and_parts("tflite", files[precision])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    check_refusal("tflite", tmp_path)
