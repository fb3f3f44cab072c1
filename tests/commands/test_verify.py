"""wdp_edge/commands/verify.py: a real int8 file held against its model on emulated processors."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest
from fake_clock_run import FakeClock, recipe_of
from tiny_project import small_project

from wdp_edge.artifacts.sidecar import read_sidecar
from wdp_edge.cli._shared import code_of
from wdp_edge.commands.export import export
from wdp_edge.commands.source import dense_run
from wdp_edge.commands.verify import verify
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.device import Device
from wdp_edge.runners import runtimes

LACKING = [name for name in ("qemu-x86_64", "qemu-aarch64") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="haswell is emulated on x86-64"),
    pytest.mark.skipif(bool(LACKING), reason=f"{', '.join(LACKING)} not installed: see docs/guides/verify.md"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that was not pruned, with an int8 file."""
    run = dense_run(recipe_of(small_project(tmp_path_factory.mktemp("project")), "80%"))
    export(run, ["onnx"], ["int8-dynamic"])
    return run


def test_a_file_is_proven_on_haswell_and_a_target_without_a_runner_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "RUNTIMES", {})  # FAKE: as if .onnx files had no native runner
    monkeypatch.setattr("wdp_edge.commands.verify.get_device", lambda name: FakeClock())
    result = verify(run, ["haswell", "cortex-a53"])
    (file,) = result.artifacts
    here, haswell = file.proven_on
    assert here.emulator == "" and here.verified and here.difference is None
    assert haswell.processor == "x86-64 avx2" and haswell.emulator == "qemu-x86_64 -cpu Haswell"
    assert haswell.verified and haswell.images > 0
    # Integer products of an exact file are the same on every processor, so all that is left is float32's rounding,
    # and now and then an activation on the other side of a step.
    assert haswell.difference is not None and haswell.difference < 0.05
    assert read_sidecar(file.path).proven_on == file.proven_on
    (lost,) = result.unjudged
    assert (lost.where, lost.state) == ("cortex-a53", "not judged on cortex-a53")
    assert "no native runner for target 'onnx'" in lost.reason
    assert file.verified and not result.verified and code_of(result) == 2


def test_a_device_that_is_lost_hides_no_judgement(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Device:
        """FAKE: a device that is lost as soon as it is asked."""
        raise SetupError("The device is gone.", "Plug it in.")

    monkeypatch.setattr("wdp_edge.commands.verify.get_device", gone)
    result = verify(run)
    assert [file.verified for file in result.artifacts] == [True] and result.artifacts[0].latency_ms is None
    assert [u.reason for u in result.unjudged] == ["It could not be timed: The device is gone."]
    assert result.verified and code_of(result) == 2


def test_a_run_without_integer_files_has_none_to_emulate(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # FAKE: as if int8-dynamic multiplied no integers
    monkeypatch.setattr("wdp_edge.commands.verify.multiplies_integers", lambda artifact: False)
    with pytest.raises(InputError, match="has none to emulate"):
        verify(run, ["haswell"])
