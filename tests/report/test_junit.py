"""wdp_edge/report/junit.py: the file that a CI system reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from wdp_edge.errors import printable
from wdp_edge.report.junit import write_junit
from wdp_edge.runs.results import CheckedBudget, CheckResult, Limit, UnjudgedFile

HOSTILE = "</td></table><script>alert(1)</script><img src=http://x/ onerror=x>\x1b[2J\x00\u202e\ud800"
SHOWN = printable(HOSTILE)
LIMIT = Limit("size", 6e6, 7e6, "bytes", False, note="with its weights")
BUDGET = CheckedBudget("onnx", "fp32", "local", 1, Path("model.onnx"), [LIMIT], verified=True, met=False)


def suite_of(result: CheckResult, path: Path) -> ElementTree.Element:
    write_junit(result, path)
    (suite,) = ElementTree.parse(path).getroot()
    return suite


def test_limits_are_cases_and_what_was_not_judged_is_an_error(tmp_path: Path) -> None:
    lost = UnjudgedFile(None, "coreml", "fp16", "It holds softplus.", "Load it on macOS.", "a phone")
    suite = suite_of(CheckResult(tmp_path, [BUDGET], False, unjudged=[lost]), tmp_path / "junit.xml")
    assert [suite.get(count) for count in ("tests", "failures", "errors")] == ["3", "1", "1"]
    verified, size, judged = suite
    assert (verified.get("name"), len(verified)) == ("verified", 0)
    failure = size[0].get("message", "")
    assert (size.get("classname"), size[0].tag) == ("onnx.fp32.local", "failure")
    assert "7.00\u00a0MB of 6.00\u00a0MB" in failure and failure.endswith("with its weights")
    assert (judged.get("classname"), judged[0].tag) == ("coreml.fp16.a phone", "error")
    assert "softplus" in judged[0].get("message", "")


def test_a_kept_budget_has_no_failure(tmp_path: Path) -> None:
    kept = replace(BUDGET, limits=[replace(LIMIT, met=True)], met=True)
    suite = suite_of(CheckResult(tmp_path, [kept], True), tmp_path / "junit.xml")
    assert suite.get("failures") == "0" and not any(len(case) for case in suite)


def test_a_junit_file_is_xml_whatever_texts_hold(tmp_path: Path) -> None:
    limit = Limit("latency", 1.0, 2.0, "ms", False, note=HOSTILE)
    budget = CheckedBudget("onnx", "fp32", f"adb:{HOSTILE}", 1, Path("model\x1b[2J.onnx"), [limit], False, False)
    verified, latency = suite_of(CheckResult(tmp_path, [budget], False), tmp_path / "junit.xml")
    assert latency[0].get("message", "").endswith(SHOWN) and r"model\x1b[2J.onnx" in verified[0].get("message", "")
    assert latency.get("classname") == f"onnx.fp32.adb:{SHOWN}"
