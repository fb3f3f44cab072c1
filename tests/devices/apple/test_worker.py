"""wdp_edge/devices/apple/worker.py: what is wrong is said, and nothing stays behind.

Its times, with fakes for Core ML and a phone, are in test_device.py.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import pytest

from wdp_edge.devices.apple.device import AppleDevice
from wdp_edge.devices.apple.worker import cache_folder, explained, own_temporary_folder
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.device import TimingPlan

PLAN = TimingPlan(rounds=2, runs=3, warmup=3)


def test_a_file_that_is_no_package(mac: Path) -> None:
    (mac / "noise.mlpackage").write_bytes(b"noise")
    with pytest.raises(InputError, match="is not a Core ML package"):
        AppleDevice("apple").time("coreml", [mac / "noise.mlpackage"], PLAN)


class Refused(Exception):
    """As coremltools raises some: the text is bytes."""

    message = b"no \xff plan"


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError("first\nlast"), "ValueError, last words: last"), (Refused(), "Refused, last words: no \ufffd plan")],
)
def test_an_error_of_any_type_is_one_sentence_with_its_last_words(error: Exception, said: str) -> None:
    with pytest.raises(SetupError) as caught, explained("Core ML cannot run it", "Export it again."):
        raise error
    assert (caught.value.message, caught.value.hint) == (f"Core ML cannot run it ({said}).", "Export it again.")


def test_the_cause_may_be_in_a_warning_alone() -> None:
    with pytest.raises(SetupError, match="unsupported operator"), explained("It does not load", "Export it."):
        warnings.warn("unsupported operator", RuntimeWarning, stacklevel=1)
        raise ValueError


def test_an_error_of_ours_stays_as_it_is() -> None:
    with pytest.raises(InputError, match="as it is"), explained("It does not load", "Export it."):
        raise InputError("This stays as it is.", "Mend it.")


def test_copies_that_coremltools_leaves_go_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ZeroDivisionError), own_temporary_folder():
        left = Path(tempfile.mkdtemp())
        assert left.parent.parent == tmp_path
        raise ZeroDivisionError
    assert tempfile.tempdir == str(tmp_path) and not list(tmp_path.iterdir())


def test_the_app_is_kept_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "apple"
