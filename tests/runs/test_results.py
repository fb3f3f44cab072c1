"""wdp_edge/runs/results.py: what the verbs return, as it is stored and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_verbs import PRUNED
from report_run import result

from wdp_edge.errors import InputError
from wdp_edge.io.files import to_plain
from wdp_edge.io.plain import from_plain
from wdp_edge.protocols.device import Conditions, Kind, Latency
from wdp_edge.protocols.target import Contents, OperatorCount, TensorInfo, WeightBytes
from wdp_edge.runs.results import (
    ArtifactFigures,
    CheckedBudget,
    CheckResult,
    EvaluateResult,
    ExportResult,
    InspectResult,
    KindTime,
    Limit,
    OperatorProfile,
    OperatorProfiles,
    Parity,
    PartTime,
    ProcessorProof,
    ProfileResult,
    PruneResult,
    ReportResult,
    SetupResult,
    SetupStep,
    TriedFigures,
    UnjudgedFile,
    VerifyResult,
)

RUN, PARITY = Path("runs/r"), Parity("x", 64, 2e-6, 0.9999, 0.9998, 1.0)
LOST = UnjudgedFile(None, "coreml", "fp32", "It holds softplus.", "Load it on macOS.", "a phone")
FILE = ArtifactFigures(
    RUN / "m.onnx",
    "onnx",
    "int8-dynamic",
    9,
    "ab",
    PARITY,
    None,
    True,
    None,
    ["head"],
    Latency(1.0, 2.0, 0.5, Kind.VIRTUAL, Conditions((41.0, 42.0)), "timed by another"),
    [ProcessorProof("x86-64 avx2", True, 32, "qemu-x86_64", 0.01)],
)
PROFILE = OperatorProfile(RUN / "m.onnx", 2.0, 0.5, [KindTime("linear", 4, 4, 2.0)], [PartTime("MLP", None, 1.0)])
LIMIT = Limit("latency", 4.1, 3.9, "ms", True, Kind.ESTIMATED, Conditions(throttled="slow"), "a note")
INPUTS, OPERATORS = (TensorInfo("x", (1, 3), "uint8"),), (OperatorCount("linear", 2, 1),)
CONTENTS = Contents(INPUTS, (), OPERATORS, (WeightBytes("int8", 2, 9),), 1, {"k": "v"})
RESULTS: list[Any] = [
    PRUNED,
    result(RUN),
    ExportResult(RUN, [FILE], False, [TriedFigures("fp16", ["head"], 0.9, 0.1, 1.0, 9, True)], unjudged=[LOST]),
    VerifyResult(RUN, 64, 0.9, None, PARITY, [FILE], True),
    InspectResult(RUN / "m.onnx", "onnx", 9, CONTENTS, {"classes": ["a"]}),
    ProfileResult(RUN, "onnx", "local", 1, Latency(1.0, 2.0, 0.5), 9, operators=OperatorProfiles(PROFILE, None)),
    CheckResult(RUN, [CheckedBudget("onnx", "fp32", "local", 1, RUN / "m.onnx", [LIMIT], True, True)], True),
    EvaluateResult(RUN / "m.onnx", "onnx", 10, 0.9, "Recall@1", {"mAP": 0.5}),
    SetupResult("qemu", [SetupStep("Fetch", ["a.deb"], None)]),
    ReportResult(RUN, RUN / "report.html"),
]


@pytest.mark.parametrize("found", RESULTS, ids=lambda found: type(found).__name__)
def test_a_result_is_read_back_as_it_was(found: Any) -> None:
    stored = json.loads(json.dumps(to_plain(found)))
    assert stored["version"] == 1
    assert from_plain(type(found), stored) == found


def test_results_of_before_are_read() -> None:
    """Without what was added since: what each class loses, warnings, the basis of the budget."""
    stored = to_plain(PRUNED)
    for name in ("drops", "warnings", "pruned", "task", "metric", "verified"):
        stored.pop(name, None)
    stored["budget"].pop("basis")
    found = from_plain(PruneResult, stored)
    assert found == PRUNED and found.drops is None and found.budget.basis == "p50"


def test_a_file_that_is_not_there_was_not_made(tmp_path: Path) -> None:
    error, path = InputError("Wrong.", "Mend it."), tmp_path / "m.onnx"
    lost = UnjudgedFile.of(error, path, "onnx", "fp32")
    assert (lost.path, lost.state, lost.reason, lost.hint) == (None, "not made", "Wrong.", "Mend it.")
    path.write_bytes(b"x")
    assert UnjudgedFile.of(error, path, "onnx", "fp32").state == "not judged"
    assert UnjudgedFile.of(error, path, "onnx", "fp32", "haswell").state == "not judged on haswell"
    assert UnjudgedFile.of(error, None, "onnx", "fp32").state == "not made"
