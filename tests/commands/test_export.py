"""wdp_edge/commands/export.py: what is made of the targets and precisions that were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_clock_run import recipe_of
from tiny_project import small_project

from wdp_edge.cli._shared import code_of
from wdp_edge.commands.export import export, planned
from wdp_edge.commands.source import Source, dense_run
from wdp_edge.errors import InputError
from wdp_edge.protocols.precision import Precision


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense_run(recipe_of(small_project(tmp_path_factory.mktemp("project")), "80%"))


def test_a_target_without_the_precision_keeps_no_other_from_it(run: Path) -> None:
    plans, lost = planned(Source.of(run), ["coreml", "onnx", "tflite"], ["int8-dynamic", "int8-weight"])
    assert plans == {
        "coreml": [Precision.INT8_WEIGHT],
        "onnx": [Precision.INT8_DYNAMIC],
        "tflite": [Precision.INT8_DYNAMIC, Precision.INT8_WEIGHT],
    }
    assert [(u.target, u.precision, u.path, u.state) for u in lost] == [
        ("coreml", "int8-dynamic", None, "not made"),
        ("onnx", "int8-weight", None, "not made"),
    ]
    assert "Target 'coreml' has no precision 'int8-dynamic'" in lost[0].reason and "palette4" in lost[0].hint


def test_what_leaves_nothing_to_make_is_refused(run: Path) -> None:
    source = Source.of(run)
    with pytest.raises(InputError, match="Target 'onnx' has no precision 'palette4'"):
        planned(source, ["onnx", "tflite"], ["palette4"])
    with pytest.raises(InputError, match=r"no precision 'int9'.*int8-dynamic"):
        planned(source, ["onnx"], ["fp32", "int9"])


def test_a_skipped_precision_ends_with_two(run: Path) -> None:
    result = export(run, ["onnx", "coreml"], ["int8-dynamic"])
    assert [file.target for file in result.artifacts] == ["onnx"] and result.artifacts[0].verified
    assert [file.target for file in result.unjudged] == ["coreml"]
    assert code_of(result) == 2
