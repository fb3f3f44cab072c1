"""wdp_edge/devices/apple/device.py: Core ML packages timed on a Mac, and on a phone that is connected to it.

No Mac is here. What runs is wdp-edge and coremltools above its native classes; what stands for Core ML, Xcode and the
phone is a fake: fake_core_ml.py, fake_xcode.py, and devicectl.json, which was written after the form of devicectl's
output in public projects (Xcode 16) and recorded from no device of ours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_xcode import IDENTIFIER, NANOSECONDS, UDID, calls
from host_contract import runs_somewhere
from hypothesis import given
from hypothesis import strategies as st
from real_sshd import wait_until
from tiny_vit import TINY, lively

from wdp_edge.commands import profile as operators
from wdp_edge.devices.apple import device as apple
from wdp_edge.devices.apple.device import UNITS, AppleDevice, parse_name
from wdp_edge.errors import InputError, SetupError
from wdp_edge.models.spec import create
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.device import Kind, TimingPlan, check_pair, get_device, runs_on
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.report.parts import outside, part_rows
from wdp_edge.workers.process import WorkerProcess

PLAN = TimingPlan(rounds=2, runs=3, warmup=3)
ONCE = TimingPlan(rounds=1, runs=1, warmup=0)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model in fp16, and as one that takes pixels."""
    target, folder, model = get_target("coreml"), tmp_path_factory.mktemp("coreml"), lively(create(TINY))
    made = {"float": torch.zeros(1, 3, 16, 16), "pixels": torch.zeros(1, 3, 16, 16, dtype=torch.uint8)}
    return {
        name: target.export(model, example, folder / f"{name}.mlpackage", ExportOptions(Precision.FP16)).path
        for name, example in made.items()
    }


# --- names ---


@pytest.mark.parametrize(
    ("name", "udid", "units"),
    [
        ("apple", "", "all"),
        *((f"apple:{units}", "", units) for units in UNITS),
        (f"apple:{UDID}", UDID, "all"),
        (f"apple:{IDENTIFIER}:cpu+ne", IDENTIFIER, "cpu+ne"),
        (f"apple:{'0123456789abcdef' * 2}01234567:cpu", f"{'0123456789abcdef' * 2}01234567", "cpu"),
    ],
)
def test_names(name: str, udid: str, units: str, mac: Path) -> None:
    assert parse_name(name) == (udid, units)
    device = get_device(name)
    assert device.name == name and device.kind is Kind.MEASURED


@pytest.mark.parametrize(
    "name",
    ["apple:", "apple:tpu", "apple:CPU", f"apple:{UDID}:", f"apple:cpu:{UDID}", f"apple:{UDID}; rm", "apple:x:y:z"],
)
def test_names_of_no_device(name: str, mac: Path) -> None:
    with pytest.raises(InputError, match=r"no device 'apple:.*apple:UNITS.*apple:UDID"):
        get_device(name)
    with pytest.raises(InputError, match=r"UNITS are one of all, cpu, cpu\+gpu, cpu\+ne"):
        parse_name(name)


@given(st.text())
def test_any_name_is_parsed_or_refused(text: str) -> None:
    try:
        udid, units = parse_name(f"apple:{text}")
    except InputError:
        return
    assert units in UNITS and f"{udid}:{units}".strip(":").startswith(text)


def test_it_is_named_among_the_devices() -> None:
    with pytest.raises(InputError, match="apple, apple:UNITS, apple:UDID"):
        get_device("toaster")


def test_this_is_no_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    for name in ("apple", "apple:cpu+ne", f"apple:{UDID}"):
        with pytest.raises(SetupError, match=rf"'{name.replace('+', '.')}' needs a Mac.*another device"):
            get_device(name)


def test_other_files_are_not_for_it(mac: Path) -> None:
    device = get_device("apple")
    check_pair(device, "coreml")
    with pytest.raises(InputError, match="'apple' times files of target 'coreml' only, not of 'onnx'"):
        check_pair(device, "onnx")
    assert not runs_on(device, "executorch-coreml") and runs_on(get_device("local"), "onnx")


# --- this Mac ---


@pytest.mark.parametrize("units", UNITS)
def test_predictions_are_timed_on_the_units_of_the_name(packages: dict[str, Path], mac: Path, units: str) -> None:
    seen: list[tuple[int, int]] = []
    files = [packages["float"], packages["pixels"]]
    found = AppleDevice(f"apple:{units}").time("coreml", files, PLAN, lambda *done: seen.append(done))
    ms = NANOSECONDS[UNITS[units]] / 1e6
    for timing in found:
        assert (timing.latency.p50, timing.latency.p90, timing.rounds) == (ms, ms, (ms, ms)), "without the warm-up"
        assert timing.latency.kind is Kind.MEASURED and timing.peak_memory is None
    assert seen == [(1, 2), (2, 2)] and not (mac / "calls").exists(), "Xcode is not needed"


def test_a_worker_process_times_and_leaves_nothing(
    packages: dict[str, Path], mac: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a phone, whose app ends with the worker."""
    monkeypatch.setattr(apple, "WORKER", "fake_core_ml")
    monkeypatch.setattr(apple, "WorkerProcess", WorkerProcess)
    (mac / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(mac / "tmp"))
    (timing,) = AppleDevice(f"apple:{UDID}").time("coreml", [packages["float"]], ONCE)
    assert timing.rounds == (NANOSECONDS["ALL"] / 1e6,)
    assert not list((mac / "tmp").iterdir())
    wait_until(lambda: not runs_somewhere(f"{mac}/bin"))


def test_operators_are_shared_out_by_the_compute_plan(packages: dict[str, Path], mac: Path) -> None:
    found = AppleDevice("apple:cpu+ne").trace("coreml", packages["float"], threads=1, runs=4)
    assert sum(operator.ms for operator in found) == pytest.approx(NANOSECONDS["CPU_AND_NE"] / 1e6)
    names = [operator.name for operator in found]
    heavy = [name for name in names if name.split(",")[0] in ("conv", "linear", "matmul")]
    block = ["linear"] * 3 + ["matmul"] * 2 + ["linear"] * 3
    assert [name.split(",")[0] for name in heavy] == ["conv", *block * 3, "linear"], "in the order of the program"
    assert all(operator.delegated == operator.name.endswith("Neural Engine") for operator in found)
    assert {"linear, Neural Engine", "matmul, CPU", "softmax, CPU", "layer_norm, CPU"} < set(names)


def test_an_estimate_says_so(packages: dict[str, Path], mac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = SimpleNamespace(target="coreml", structure=structure_of(create(TINY)))
    monkeypatch.setattr(operators, "read_sidecar", lambda path: about)
    device = operators.traced_on(get_device("apple"), "coreml")
    profiles = operators.profile_operators(device, packages["float"], None, threads=1)
    assert profiles.file.kind is Kind.ESTIMATED and profiles.file.ms == pytest.approx(NANOSECONDS["ALL"] / 1e6)
    assert profiles.file.parts is not None and 0 < profiles.file.outside_ms < profiles.file.ms
    titles = [(title, head) for title, head, _ in part_rows(profiles)]
    assert [title.rpartition(", ")[2] for title, _ in titles] == ["by Core ML’s estimate"] * 2
    assert (
        "off the CPU" in titles[1][1]
        and "on the CPU" in outside(profiles.file)
        and "estimated" in outside(profiles.file)
    )
    measured = replace(profiles.file, kind=Kind.MEASURED)
    assert "estimate" not in outside(measured) and "outside of delegates" in outside(measured)


def test_a_package_that_core_ml_refuses(packages: dict[str, Path], mac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """coremltools tells the reason in a warning only."""
    monkeypatch.setenv("FAKE_REFUSAL", "Error in building plan\nunsupported operator")
    with pytest.raises(SetupError, match=r"cannot run .*float\.mlpackage \(ValueError, last words: unsupported op"):
        AppleDevice("apple").time("coreml", [packages["float"]], PLAN)


def test_this_mac_is_probed(mac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.5", ("", "", ""), "arm64"))
    info = AppleDevice("apple:cpu").probe()
    assert (info.name, info.system) == ("apple:cpu", "macOS 15.5") and info.model and info.cores >= 1


# --- a connected device ---


# coremltools sends a last word when its event loop has ended.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", [UDID, IDENTIFIER.lower()])
def test_predictions_are_timed_on_a_connected_device(packages: dict[str, Path], mac: Path, name: str) -> None:
    seen: list[int] = []
    plan = TimingPlan(rounds=24, runs=1, warmup=3)
    (timing,) = AppleDevice(f"apple:{name}:cpu").time("coreml", [packages["float"]], plan, lambda n, _: seen.append(n))
    assert timing.rounds == (NANOSECONDS["CPU_ONLY"] / 1e6,) * 6 and seen == [1, 2, 3, 4, 5, 6]
    asked = calls(mac)
    (built,) = [words for words in asked if words[0] == "xcodebuild"]
    assert {"DEVELOPMENT_TEAM=ABCDE12345", "PRODUCT_BUNDLE_IDENTIFIER=wdp-edge.modelrunner.abcde12345"} < set(built)
    assert f"platform=iOS,id={UDID}" in built
    launch = ["xcrun", "devicectl", "device", "process", "launch", "--console", "-d", IDENTIFIER, "the.app"]
    assert asked.count(launch) == 1
    sent = [words for words in asked if words[1:4] == ["device", "copy", "to"]]
    model = [words for words in sent if words[words.index("--source") + 1].endswith("model.mlmodelc")]
    assert len(model) == 1 and len(sent) == 2 * (1 + 6 * 2), "the model once; a prediction is two files"
    app = next((mac / "cache/apple").rglob("*.app"))
    assert not list((mac / "cache/apple").rglob("message.json")), "what was said is not kept"
    AppleDevice(f"apple:{name}").time("coreml", [packages["float"]], ONCE)
    assert len([words for words in calls(mac) if words[0] == "xcodebuild"]) == 1 and app.is_dir(), "built once"


def test_a_device_is_probed(mac: Path) -> None:
    info = AppleDevice(f"apple:{UDID}").probe()
    assert (info.model, info.system, info.cores) == ("iPhone 14 Pro", "iOS 18.4.1 (22E252)", 0)
    assert calls(mac)[0][:-1] == ["xcrun", "devicectl", "list", "devices", "--json-output"]


def test_pictures_are_not_handed_to_a_device(packages: dict[str, Path], mac: Path) -> None:
    with pytest.raises(InputError, match=r"takes images.*without normalization"):
        AppleDevice(f"apple:{UDID}").time("coreml", [packages["pixels"]], PLAN)


def test_nobody_signs(packages: dict[str, Path], mac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for team in ("", "abc", "ABCDE12345; rm -r /"):
        monkeypatch.setenv("WDP_EDGE_APPLE_TEAM", team)
        with pytest.raises(SetupError, match=r"has to be signed.*WDP_EDGE_APPLE_TEAM.*Team ID"):
            AppleDevice(f"apple:{UDID}").time("coreml", [packages["float"]], PLAN)


def test_an_app_that_cannot_be_built(packages: dict[str, Path], mac: Path) -> None:
    (mac / "bin/xcodebuild").write_text("#!/bin/sh\nexit 65\n")
    with pytest.raises(SetupError, match=rf"not start on {UDID} \(Error, last words: .*65.*ModelRunner.xcworkspace"):
        AppleDevice(f"apple:{UDID}").time("coreml", [packages["float"]], PLAN)
