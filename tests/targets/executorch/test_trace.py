"""Times of operators: real files of the tiny ViT under the runtime's own profiler."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from operator_times import PRECISIONS, check_refusal, check_times_and_parts, exported

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import OperatorRole
from wdp_edge.targets.executorch.trace import operator


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    return exported("executorch", tmp_path_factory.mktemp("trace"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operators_of_a_file_are_timed_and_belong_to_parts(precision: Precision, files: dict[Precision, Path]) -> None:
    check_times_and_parts("executorch", files[precision])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    check_refusal("executorch", tmp_path)


def test_an_operator_has_a_name_for_people_and_its_mean_without_the_first_runs() -> None:
    """FAKE: an event of ExecuTorch's Inspector, which only its own profiles make."""
    raw = [900.0, 900.0, 900.0, 1.0, 2.0, 9.0]
    event: Any = SimpleNamespace(
        name="Fully Connected (NC, F32) GEMM #2", perf_data=SimpleNamespace(raw=raw), is_delegated_op=True
    )
    found = operator(event)
    assert (found.name, found.role, found.delegated) == (
        "Fully Connected (NC, F32) GEMM",
        OperatorRole.LINEAR,
        True,
    )
    assert 1 <= found.ms <= 9
    event.name, event.is_delegated_op = "native_call_expand_copy.out", False
    assert (operator(event).name, operator(event).delegated) == ("expand_copy.out", False)
