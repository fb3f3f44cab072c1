"""What commands print and return. The library's functions are fakes here: every outcome can be had."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from fake_verbs import PRUNED, SHIPPED, Fake
from tiny_project import Cli

from wdp_edge.cli._shared import perform
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.device import Conditions, Kind, Latency
from wdp_edge.errors import InputError, SetupError
from wdp_edge.progress import task
from wdp_edge.results import (
    ArtifactFigures,
    BudgetFigures,
    CheckedBudget,
    CheckResult,
    EvaluateResult,
    ExportResult,
    Limit,
    Parity,
    ProcessorProof,
    ProfileResult,
    UnjudgedFile,
    VerifyResult,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("It is wrong.", "Mend it."), 2),
        (SetupError("It is not here.", "Fetch it."), 2),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2),
        (ZeroDivisionError("oh"), 70),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_say_what_to_do(cli: Cli, fake: Fake, error: BaseException, code: int, as_json: bool) -> None:
    fake("prune", error)
    said = cli("prune", "--latency-budget", "50%", *["--json"] * as_json)
    assert said.code == code
    if as_json:
        assert said.json.keys() == {"error"}
        assert all(said.json["error"][key] for key in ("message", "hint"))
    else:
        assert said.out == ""
        assert "error: " in said.err
        assert "\nhint: " in said.err
    assert ("Traceback" in said.err) == (code == 70)


def test_no_space_left_names_the_file(cli: Cli, fake: Fake) -> None:
    fake("prune", OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    said = cli("prune", "--latency-budget", "50%", "--json")
    assert "No space left" in said.json["error"]["message"]
    assert "/x/y" in said.json["error"]["message"]


def artifact(verified: bool) -> ArtifactFigures:
    parity = Parity("shrunk = exported (fp32)", 64, 2e-6, 0.9999, 0.9998, 1.0)
    broken = None if verified else "blocks.3.mlp"
    return ArtifactFigures(Path("r/m.pte"), "executorch", "fp32", 86_000_000, "ab" * 32, parity, 0.91, verified, broken)


def test_export(cli: Cli, fake: Fake) -> None:
    calls = fake("export", ExportResult(Path("r"), [artifact(True)], True))
    said = cli("export", "r", "--precision", "fp32")
    assert calls == [(Path("r"), (), ["fp32"], False, None)]
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


def test_profile_judges_a_budget(cli: Cli, fake: Fake) -> None:
    result = ProfileResult(
        Path("m.pte"),
        "executorch",
        "local",
        1,
        Latency(3.9, 4.0, 3.8),
        10_000_000,
        Latency(8.2, 8.4, 8.1),
        0.475,
        BudgetFigures(3.0, 3.9, 1.3, False),
    )
    calls = fake("profile", result)
    said = cli("profile", "m.pte", "--threads", "1", "--latency-budget", "3ms")
    assert calls == [(Path("m.pte"), None, 1, "3ms", None, False, None)]
    assert said.code == 1
    assert "47.5\u00a0% of the dense file's latency" in said.out
    fake("profile", replace(result, budget=None, dense_latency_ms=None, ratio=None))
    said = cli("profile", "m.pte")
    assert said.code == 0
    assert "dense" not in said.out


def test_profile_shows_how_the_device_was(cli: Cli, fake: Fake) -> None:
    conditions = Conditions((41.04, 44.5), (2400.0, 1500.0), "its clock fell from 2400 to 1500 MHz")
    latency = Latency(3.9, 4.0, 3.8, conditions=conditions, caveat="timed by benchmark_model")
    result = ProfileResult(Path("m.tflite"), "tflite", "adb:X", 1, latency, 10_000_000, peak_memory=60_000_000)
    calls = fake("profile", result)
    said = cli("profile", "m.tflite", "--device", "adb:X", "--runner", "tools/benchmark_model")
    assert calls[0][-1] == Path("tools/benchmark_model")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "peak memory 60.0 MB" in lines
    assert "temperature 41.0 → 44.5 °C" in lines and "clock 2400 → 1500 MHz" in lines
    assert "Warning: the device slowed down: its clock fell from 2400 to 1500 MHz." in said.out
    assert "Note: timed by benchmark_model." in lines
    data = cli("profile", "m.tflite", "--json").json["latency_ms"]
    assert data["conditions"]["temperature"] == [41.04, 44.5] and "2400" in data["conditions"]["throttled"]
    fake("profile", replace(result, latency_ms=Latency(3.9, 4.0, 3.8, conditions=Conditions((41.0, 41.0)))))
    said = cli("profile", "m.tflite")
    assert "41.0 → 41.0" in said.out and "clock" not in said.out and "Warning" not in said.out
    assert cli("profile", "m.tflite", "--json").json["latency_ms"]["conditions"] == {"temperature": [41.0, 41.0]}


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


def test_verify_says_what_int8_files_are_proven_on(cli: Cli, fake: Fake) -> None:
    proofs = [
        ProcessorProof("aarch64 dotprod", True, 64),
        ProcessorProof("x86-64 avx2", False, 32, "qemu-x86_64 -cpu Haswell", 0.031),
    ]
    proven = replace(artifact(True), proven_on=proofs, verified=False)
    calls = fake("verify", VerifyResult(Path("r"), 64, 0.9, 0.9, None, [proven], False))
    said = cli("verify", "r", "--processor", "haswell")
    assert calls == [(Path("r"), ["haswell"])] and said.code == 1
    words = " ".join(said.out.split())
    assert "r/m.pte is proven on aarch64 dotprod: 64 images" in words
    assert "is NOT close enough to its model on x86-64 avx2 (qemu-x86_64 -cpu Haswell): 32 images, outputs" in words
    assert "by at most 3.1e-02 of the largest" in words


def test_check(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    limits = [
        Limit("latency", 4.1, 3.9, "ms", True, Kind.VIRTUAL),
        Limit("size", 6_000_000, 7_000_000, "bytes", False),
        Limit("accuracy_drop", 1.0, 0.25, "points", True),
    ]
    budget = CheckedBudget("onnx", "fp32", "local", 1, Path("m.onnx"), limits, verified=True, met=False)
    calls = fake("check", CheckResult(Path("r"), [budget], False))
    said = cli("check", "r", "--junit", tmp_path / "junit.xml")
    assert (said.code, calls) == (1, [(Path("r"), ())])
    for words in (
        "3.90\u00a0ms of 4.10\u00a0ms",
        "virtual",
        "MISSED",
        "0.25 of 1.00 points",
        "1 of 1 budgets are missed.",
    ):
        assert words in said.out
    assert "7.00\u00a0MB of 6.00\u00a0MB" in (tmp_path / "junit.xml").read_text()
    fake("check", CheckResult(Path("r"), [replace(budget, met=True)], True))
    said = cli("check", "r", "--json")
    assert (said.code, said.json["budgets"][0]["limits"][0]["kind"]) == (0, "virtual")


def test_evaluate(cli: Cli, fake: Fake) -> None:
    calls = fake("evaluate", EvaluateResult(Path("m.pte"), "executorch", 10_000, 0.9061))
    assert "90.61\u00a0% of 10000 images" in cli("evaluate", "m.pte").out
    assert cli("evaluate", "m.pte", "--val", "v", "--json").json["accuracy"] == 0.9061
    assert calls == [(Path("m.pte"), None), (Path("m.pte"), Path("v"))]


def test_table(cli: Cli, fake: Fake) -> None:
    key = TableKey("executorch", "int8-dynamic", "local|cpu|2", 1, 384, 64, 17, {"torch": "2.14.1"})
    points = ((1.0, 0.1), (6.0, 0.4)), ((128.0, 0.05), (1536.0, 0.6))
    calls = fake("table", LatencyTable(*points, 0.3, 12.0, Kind.MEASURED, key))
    said = cli("table", "--threads", "1")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == "int8-dynamic executorch file, measured, 1 thread, on local|cpu|2"
    assert "attention 6 heads 0.400 ms 3.3 %" in lines
    assert "MLP 1536 units 0.600 ms 5.0 %" in lines
    assert "dense model 12.0 ms 100.0 %" in lines
    assert calls[0][0].prune.threads == 1
    assert cli("table", "--json").json["dense_ms"] == 12.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prune", "--thread", "2"), "--thread"),
        (("prune", "--threads"), "--threads"),
        (("prune", "--threads", "two"), "--threads"),
        (("prun",), "prun"),
        (("evaluate",), "FILE"),
        (("init",), "--model"),
    ],
)
def test_usage_errors(cli: Cli, words: tuple[str, ...], message: str) -> None:
    said = cli(*words)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert "--help`" in said.err
    said = cli(*words[:1], "--json", *words[1:])
    assert said.code == 2
    assert message in said.json["error"]["message"]
    assert "Traceback" not in said.err


def test_progress_stays_silent_after_the_command(cli: Cli, fake: Fake, capfd: pytest.CaptureFixture[str]) -> None:
    fake("prune", PRUNED)
    cli("prune", "--latency-budget", "50%")
    perform(lambda: PRUNED, lambda result: None, as_json=False)
    with task("Work", 1):
        pass
    assert capfd.readouterr().err == ""


def test_module_and_command_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from wdp_edge import __main__, cli

    assert __main__.main is cli.main
