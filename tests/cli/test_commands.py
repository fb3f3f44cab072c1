"""What commands take, print and return. The library's functions are fakes here, but for `report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_verbs import MISSED, PRUNED, Fake
from report_run import build_run
from tiny_project import Cli

from wdp_edge.commands.doctor import Check, DoctorResult
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.demo.run import DemoResult
from wdp_edge.errors import InputError
from wdp_edge.protocols.device import Conditions, Kind, Latency
from wdp_edge.protocols.target import Contents, OperatorCount, TensorInfo, WeightBytes
from wdp_edge.runs.figures import BudgetFigures
from wdp_edge.runs.results import (
    ArtifactFigures,
    CheckedBudget,
    CheckResult,
    EvaluateResult,
    ExportResult,
    InspectResult,
    Limit,
    Parity,
    ProcessorProof,
    ProfileResult,
    SetupResult,
    SetupStep,
    UnjudgedFile,
    VerifyResult,
)

# --- check


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


def test_a_budget_that_could_not_be_judged_is_said_apart(cli: Cli, fake: Fake) -> None:
    limit = Limit("max_class_drop", 1.0, 0.25, "points", True, note="the class 'cat' loses most")
    budget = CheckedBudget("onnx", "fp32", "local", 1, Path("m.onnx"), [limit], verified=True, met=True)
    lost = UnjudgedFile(None, "coreml", "fp16", "It holds softplus.", "Load it on macOS.")
    fake("check", CheckResult(Path("r"), [budget], False, unjudged=[lost]))
    said = cli("check", "r")
    assert said.code == 2
    assert "coreml fp16 is not made: It holds softplus. Load it on macOS." in said.out
    assert "m.onnx, max class drop: the class 'cat' loses most." in said.out and "0 of 1 are missed" in said.out


# --- demo


@pytest.mark.parametrize(("result", "code"), [(PRUNED, 0), (MISSED, 1)])
def test_a_demo_ends_as_its_run_does(cli: Cli, monkeypatch: pytest.MonkeyPatch, result: object, code: int) -> None:
    calls: list[tuple[Path, bool]] = []

    def fake(out: Path, short: bool) -> DemoResult:
        calls.append((out, short))
        return DemoResult(**vars(result), report=Path("demo/runs/r/report.html"), seconds=90.0)

    monkeypatch.setattr("wdp_edge.demo.run.demo", fake)
    said = cli("demo")
    assert said.code == code
    assert "Report: demo/runs/r/report.html" in said.out and "1.5 minutes" in said.out
    said = cli("demo", "--out", "there", "--short", "--json")
    assert (said.code, said.json["seconds"], said.json["budget"]["met"]) == (code, 90.0, code == 0)
    assert calls == [(Path("demo"), False), (Path("there"), True)]


# --- devices


def test_what_was_made_ready_is_said(cli: Cli, fake: Fake) -> None:
    steps = [SetupStep("Fetch qemu-user", ["qemu-user.deb"], 11_000_000), SetupStep("Build the plugin", [], None)]
    calls = fake("set_up", SetupResult("qemu", steps))
    said = cli("devices", "setup", "qemu")
    assert (said.code, calls) == (0, [("qemu",)])
    assert said.out.startswith("2 ") and "qemu:" in said.out
    data = cli("devices", "setup", "qemu", "--json").json
    assert data["steps"][0] == {"title": "Fetch qemu-user", "files": ["qemu-user.deb"], "bytes": 11_000_000}
    assert "bytes" not in data["steps"][1]


def test_a_kind_that_needs_nothing_is_refused(cli: Cli, fake: Fake) -> None:
    fake("set_up", InputError("Devices 'ssh' need nothing.", "Name qemu."))
    said = cli("devices", "setup", "ssh")
    assert (said.code, said.out) == (2, "") and "'ssh'" in said.err


def test_without_a_verb_it_shows_its_help(cli: Cli) -> None:
    said = cli("devices")
    assert said.code == 0 and "setup" in said.out


# --- doctor


ONNX = Check("onnx", "the target onnx", "onnx 1.19", "")
CMAKE = Check("cmake", "building native runners", "", "sudo apt-get install cmake")
ADB = Check("adb", "Android devices", "", "", "adb hung.")


def test_what_is_missing_stands_with_the_way_to_get_it(cli: Cli, fake: Fake) -> None:
    fake("doctor", DoctorResult((ONNX,), (CMAKE,), (ADB,)))
    said = cli("doctor")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert said.code == 0, "something that is missing is no error"
    assert "onnx the target onnx onnx 1.19" in lines and "cmake building native runners missing" in lines
    assert "cmake: sudo apt-get install cmake" in lines and "adb: adb hung." in lines
    assert lines[-1].startswith("2 of 3 ")
    assert not [line for line in lines if line.startswith("onnx:")]
    data = cli("doctor", "--json").json
    assert [check["found"] for part in ("toolkits", "compilers", "devices") for check in data[part]] == [
        "onnx 1.19",
        "",
        "",
    ]


def test_a_machine_with_everything(cli: Cli, fake: Fake) -> None:
    fake("doctor", DoctorResult((ONNX,), (), ()))
    assert "missing" not in cli("doctor").out


# --- evaluate


def test_evaluate(cli: Cli, fake: Fake) -> None:
    calls = fake("evaluate", EvaluateResult(Path("m.pte"), "executorch", 10_000, 0.9061))
    assert "90.61\u00a0% of 10000 images" in cli("evaluate", "m.pte").out
    assert cli("evaluate", "m.pte", "--val", "v", "--json").json["accuracy"] == 0.9061
    assert calls == [(Path("m.pte"), None), (Path("m.pte"), Path("v"))]


def test_another_metric_is_named_with_its_figures(cli: Cli, fake: Fake) -> None:
    fake("evaluate", EvaluateResult(Path("m.pte"), "executorch", 100, 0.5, "Recall@1", {"mAP": 0.25}))
    assert "Recall@1 50.00 %, mAP 25.00 % on 100 images" in cli("evaluate", "m.pte").out.replace("\u00a0", " ")


# --- inspect


CONTENTS = Contents(
    (TensorInfo("x", (1, 3, 16, 16), "uint8"),),
    (TensorInfo("y", (1, 3), "float32"),),
    (OperatorCount("linear", 12, 10),),
    (WeightBytes("int8", 12, 86_000),),
    delegates=2,
    metadata={},
)
ABOUT = {
    "model": "vit",
    "structure": {"digest": "abcd"},
    "recipe": "1234",
    "classes": ["a", "b"],
    "output": "logits",
    "input": {"normalization": "folded"},
}
INSPECTED = InspectResult(Path("m.pte"), "executorch", 90_000, CONTENTS, ABOUT)


def lines_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_contents_and_origin(cli: Cli, fake: Fake) -> None:
    calls = fake("inspect", replace(INSPECTED, proven_on=[ProcessorProof("aarch64 dotprod", True, 64)]))
    lines = lines_of(cli("inspect", "m.pte").out)
    assert calls == [(Path("m.pte"), None, None)]
    assert lines[0] == "m.pte: executorch, 90.0 kB, 2 delegates"
    assert {"input: x 1x3x16x16 uint8", "output: y 1x3 float32", "linear 12 10", "int8 12 86.0 kB"} < set(lines)
    assert {"model: vit, structure abcd, recipe 1234", "classes: 2, normalization: folded"} < set(lines)
    assert [line for line in lines if "aarch64 dotprod" in line]
    assert cli("inspect", "m.pte", "--json").json["about"]["recipe"] == "1234"


def test_a_file_of_another_maker_and_one_without_classes(cli: Cli, fake: Fake) -> None:
    fake("inspect", replace(INSPECTED, about={}))
    assert "model:" not in cli("inspect", "m.pte").out
    fake("inspect", replace(INSPECTED, about={**ABOUT, "classes": [], "output": "embedding"}))
    assert "output: embedding, normalization: folded" in cli("inspect", "m.pte").out


# --- profile


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


# --- report


def test_the_page_of_the_latest_run(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build_run(Path("runs/r"))
    said = cli("report")
    assert said.code == 0 and "runs/r/report.html" in said.out and Path("runs/r/report.html").exists()
    assert Path(cli("report", "runs/r", "--json").json["path"]) == Path("runs/r/report.html")


def test_a_damaged_run_is_refused(cli: Cli, tmp_path: Path) -> None:
    run = build_run(tmp_path / "r")
    (run / "stages/select.json").write_text("{")
    said = cli("report", run)
    assert (said.code, said.out) == (2, "") and "select.json" in said.err and not (run / "report.html").exists()


# --- table


def test_table(cli: Cli, fake: Fake) -> None:
    key = TableKey("executorch", "int8-dynamic", "local|cpu|2", 1, 384, 64, 17, {"torch": "2.14.1"})
    points = ((1.0, 0.1), (6.0, 0.4)), ((128.0, 0.05), (1536.0, 0.6))
    calls = fake("table", LatencyTable(*points, 0.3, 12.0, Kind.MEASURED, key, ()))
    said = cli("table", "--threads", "1")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == "int8-dynamic executorch file, measured, 1 thread, on local|cpu|2"
    assert "attention 6 heads 0.400 ms 3.3 %" in lines
    assert "MLP 1536 units 0.600 ms 5.0 %" in lines
    assert "dense model 12.0 ms 100.0 %" in lines
    assert calls[0][0].prune.threads == 1
    assert cli("table", "--json").json["dense_ms"] == 12.0


# --- verify


PARITY = Parity("shrunk = exported (fp32)", 64, 2e-6, 0.9999, 0.9998, 1.0)
JUDGED = ArtifactFigures(Path("r/m.pte"), "executorch", "fp32", 86_000_000, "ab" * 32, PARITY, 0.91, True)


def test_the_chain_from_the_dense_model_to_the_file(cli: Cli, fake: Fake) -> None:
    fake("verify", VerifyResult(Path("r"), 64, 0.92, 0.905, PARITY, [JUDGED], True))
    said = cli("verify", "r")
    words = " ".join(said.out.split())
    assert said.code == 0 and "by heart" not in words
    assert "64 held-back training images; dense model: 92.00 % accuracy" in words
    assert "Pruned model: 90.50 % accuracy, 100.00 %" in words
    assert "executorch fp32 100.0 % 0.9998 91.0 % 86.0 MB yes" in words
    fake("verify", VerifyResult(Path("r"), 64, 0.92, 0.92, None, [JUDGED], True, held_back=False))
    said = cli("verify", "r")
    assert (
        "64 training images" in said.out
        and "Pruned" not in said.out
        and "shrunk" not in cli("verify", "r", "--json").json
    )


def test_agreement_on_memorised_images_is_said_to_be_too_good(cli: Cli, fake: Fake) -> None:
    fake("verify", VerifyResult(Path("r"), 64, 1.0, 0.99, PARITY, [JUDGED], True, memorised=True))
    words = " ".join(cli("verify", "r").out.split())
    assert "may know them by heart: then it is surer" in words and "`wdp-edge evaluate FILE` tells" in words
    assert cli("verify", "r", "--json").json["memorised"] is True
    fake("export", ExportResult(Path("r"), [JUDGED], True, memorised=True))
    assert "may know them by heart: then it is surer" in " ".join(cli("export", "r").out.split())


def test_verify_says_what_int8_files_are_proven_on(cli: Cli, fake: Fake) -> None:
    proofs = [
        ProcessorProof("aarch64 dotprod", True, 64),
        ProcessorProof("x86-64 avx2", False, 32, "qemu-x86_64 -cpu Haswell", 0.031),
    ]
    proven = replace(JUDGED, proven_on=proofs, verified=False)
    calls = fake("verify", VerifyResult(Path("r"), 64, 0.9, 0.9, None, [proven], False))
    said = cli("verify", "r", "--processor", "haswell")
    assert calls == [(Path("r"), ["haswell"])] and said.code == 1
    words = " ".join(said.out.split())
    assert "r/m.pte is proven on aarch64 dotprod: 64 images" in words
    assert "is NOT close enough to its model on x86-64 avx2 (qemu-x86_64 -cpu Haswell): 32 images, outputs" in words
    assert "by at most 3.1e-02 of the largest" in words
