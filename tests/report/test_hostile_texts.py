"""Texts that came from a device or a file stay texts in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from report_run import build_run
from test_report import Page

from wdp_edge.printable import printable
from wdp_edge.report import report
from wdp_edge.report.junit import write_junit
from wdp_edge.results import CheckedBudget, CheckResult, Limit

HOSTILE = "</td></table><script>alert(1)</script><img src=http://x/ onerror=x>\x1b[2J\x00\u202e\ud800"
SHOWN = printable(HOSTILE)


def test_a_junit_file_is_xml_whatever_texts_hold(tmp_path: Path) -> None:
    limit = Limit("latency", 1.0, 2.0, "ms", False, note=HOSTILE)
    budget = CheckedBudget("onnx", "fp32", f"adb:{HOSTILE}", 1, Path("model\x1b[2J.onnx"), [limit], False, False)
    write_junit(CheckResult(tmp_path, [budget], False), tmp_path / "junit.xml")
    verified, latency = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert latency[0].get("message", "").endswith(SHOWN) and r"model\x1b[2J.onnx" in verified[0].get("message", "")
    assert latency.get("classname") == f"onnx.fp32.adb:{SHOWN}"


def poisoned(value: Any) -> Any:
    """Every text that is not chosen from a list, with something hostile behind it."""
    if isinstance(value, dict):
        return {k: v if k in ("kind", "task", "metric") else poisoned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v) for v in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_no_text_of_a_record_becomes_markup(tmp_path: Path) -> None:
    run = tmp_path / "run"
    build_run(run)
    plain = Page(report(run).path.read_text(encoding="utf-8"))
    for path in [run / "manifest.json", run / "result.json", *(run / "stages").glob("*.json")]:
        path.write_text(json.dumps(poisoned(json.loads(path.read_text(encoding="utf-8")))))
    text = report(run).path.read_text(encoding="utf-8")
    page = Page(text)
    assert set(page.tags) <= set(plain.tags) and "script" not in page.tags and not page.values("onerror")
    assert "alert(1)" in page.text and not set(text) & set("\x1b\x00\u202e\ud800")
