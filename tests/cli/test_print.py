"""Results as people read them, in tables and lines. The library's functions are fakes here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_verbs import PRUNED, SHIPPED, Fake
from tiny_project import Cli

from wdp_edge.cli._print import near, print_table, runs
from wdp_edge.protocols.device import Conditions
from wdp_edge.runs.results import (
    ArtifactFigures,
    CheckedBudget,
    CheckResult,
    ExportResult,
    Limit,
    Parity,
    UnjudgedFile,
    VerifyResult,
)


def artifact(verified: bool) -> ArtifactFigures:
    parity = Parity("shrunk = exported (fp32)", 64, 2e-6, 0.9999, 0.9998, 1.0)
    broken = None if verified else "blocks.3.mlp"
    return ArtifactFigures(Path("r/m.pte"), "executorch", "fp32", 86_000_000, "ab" * 32, parity, 0.91, verified, broken)


def test_export(cli: Cli, fake: Fake) -> None:
    calls = fake("export", ExportResult(Path("r"), [artifact(True)], True))
    said = cli("export", "r", "--precision", "fp32")
    assert calls == [(Path("r"), (), ["fp32"], False, None, None)]
    assert said.code == 0
    assert "r/m.pte" in said.out
    assert "86.0\u00a0MB" in said.out
    data = cli("export", "r", "--json").json
    assert data["artifacts"][0]["parity"]["images"] == 64 and data["artifacts"][0]["sha256"] == "ab" * 32


def test_a_file_that_cannot_be_judged_hides_no_other(cli: Cli, fake: Fake) -> None:
    lost = UnjudgedFile(Path("r/m.mlpackage"), "coreml", "fp32", "It holds softplus.", "Load it on macOS.")
    fake("export", ExportResult(Path("r"), [artifact(True)], False, unjudged=[lost]))
    said = cli("export", "r")
    assert said.code == 2
    rows = [line.split()[0] for line in said.out.splitlines() if line.rstrip().endswith(("yes", "not judged"))]
    assert rows == ["executorch", "coreml"]
    assert "coreml fp32 is not judged: It holds softplus. Load it on macOS." in said.out and "r/m.pte" in said.out
    assert cli("export", "r", "--json").json["unjudged"][0]["reason"] == "It holds softplus."
    fake("verify", VerifyResult(Path("r"), 64, 0.9, 0.9, None, [artifact(False)], False, unjudged=[lost]))
    assert cli("verify", "r").code == 1, "a wrong file weighs more"


def test_an_artifact_too_far_off_ends_with_one(cli: Cli, fake: Fake) -> None:
    fake("export", ExportResult(Path("r"), [artifact(False)], False))
    said = cli("export", "r")
    assert said.code == 1 and "r/m.pte goes wrong at blocks.3.mlp" in said.out
    fake("prune", replace(PRUNED, verified=False))
    assert cli("prune", "--latency-budget", "50%").code == 1


def test_a_device_that_slowed_down_is_said_wherever_its_figures_are(cli: Cli, fake: Fake) -> None:
    slow = Conditions(throttled="the last rounds took 20% longer than the first ones")
    latency = replace(SHIPPED.latency_ms, conditions=slow)
    fake("prune", replace(PRUNED, shipped=replace(SHIPPED, latency_ms=latency)))
    assert "Warning: the device slowed down: the last rounds" in cli("prune", "--latency-budget", "4.1ms").out
    timed = replace(artifact(True), latency_ms=latency)
    fake("verify", VerifyResult(Path("r"), 64, 0.9, 0.9, None, [timed, timed], True))
    assert cli("verify", "r").out.count("Warning: the device slowed down") == 1
    limit = Limit("latency", 4.1, 3.9, "ms", True, conditions=slow)
    budget = CheckedBudget("onnx", "fp32", "local", 1, Path("m.onnx"), [limit], verified=True, met=True)
    fake("check", CheckResult(Path("r"), [budget], True))
    assert "m.onnx, local: the device slowed down" in cli("check", "r").out


@pytest.mark.parametrize(("widths", "text"), [((), ""), ((6,), "6"), ((3, 3, 6, 3), "2 x 3, 6, 3")])
def test_equal_widths_stand_together(widths: Sequence[int], text: str) -> None:
    assert runs(widths) == text


def test_a_path_is_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(tmp_path / "runs/r") == near(Path("runs/r")) == "runs/r"
    assert near(tmp_path.parent / "r") == str(tmp_path.parent / "r")
    assert near(Path("a\x1b[2J")) == r"a\x1b[2J"


def test_figures_stand_to_the_right_and_words_to_the_left(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (False, True):
        print_table("Title", ("name", "figure", "more"), [("a", "1", "2"), ("bb", "100", "200")], words=words)
        title, head, first, _ = capsys.readouterr().out.splitlines()
        assert title == "Title"
        assert first.split() == ["a", "1", "2"] and first.index("1") == head.index("figure") + (0 if words else 5)
