"""protocols/precision.py: a precision is its name, wherever it comes from."""

from __future__ import annotations

import copy
import pickle

import pytest

from wdp_edge.protocols.precision import PRECISIONS, Precision, PrecisionFamily


def test_a_precision_is_its_name() -> None:
    one = Precision("fp16", PrecisionFamily.FP16, speed=0.3)
    assert one == Precision.FP16 == "fp16" and {Precision.FP16: 1}[one] == 1 and f"{one}" == "fp16"
    assert (one.speed, Precision.FP16.speed) == (0.3, 0.8)
    for wrong in ("", "auto", "default", "../up", "two words", "Ä"):
        with pytest.raises(ValueError, match="cannot be the name"):
            Precision(wrong, PrecisionFamily.FP16)


@pytest.mark.parametrize("precision", [*PRECISIONS, Precision("own", PrecisionFamily.FP16, speed=0.3)])
def test_one_that_another_process_sent_is_the_same(precision: Precision) -> None:
    """Exports run in processes of their own."""
    assert pickle.loads(pickle.dumps(precision)) is copy.deepcopy(precision) is precision
