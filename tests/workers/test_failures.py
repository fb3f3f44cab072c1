"""wdp_edge/workers/failures.py: what a worker's exception is told as."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from wdp_edge.errors import InputError, SetupError
from wdp_edge.workers.failures import check_temporary_folder, failed, mendable


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/model.pte"), "No space left while writing /data"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the temporary folder is"),
        (caused(RuntimeError("export failed"), OSError(errno.ENOSPC, "x", "/data/a")), "No space left"),
        (OSError(errno.EROFS, "Read-only file system", "/ro/a"), "Cannot write /ro/a: Read-only file system"),
        (OSError(errno.ENAMETOOLONG, "x", "/a/" + "b" * 999), "No file can be at '/a/bbb"),
        (OSError(errno.ELOOP, "x", "/a/link"), "No file can be at '/a/link': Too many levels of symbolic links"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
        (ModuleNotFoundError("No module named 'litert.x'", name="litert.x"), "The package litert is missing"),
        (ImportError("libfoo.so: cannot open shared object file"), "cannot be imported: libfoo.so"),
        (AttributeError("'X' object has no attribute 'norm'"), r"failed: AttributeError: 'X' object has no attribute"),
    ],
)
def test_an_exception_is_told_as_what_it_is(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    told = failed("exporting for onnx", error)
    assert isinstance(told, SetupError) and told.message.startswith("Exporting for onnx failed: ")
    assert said in told.message and "damaged" not in told.hint


def test_a_defect_names_the_file_with_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    try:
        raise caused(RuntimeError("export failed"), ValueError("odd\ud800 shape"))
    except RuntimeError as error:
        told = failed("exporting for onnx", error)
    (kept,) = (tmp_path / "tracebacks").iterdir()
    assert str(kept) in told.hint
    text = kept.read_text()
    assert text.startswith("exporting for onnx\n") and "Traceback" in text and "odd" in text and __file__ in text
    for _ in range(30):
        failed("work", ValueError("x"))
    assert len(list((tmp_path / "tracebacks").iterdir())) == 20 and not kept.exists()

    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    assert failed("work", ValueError("x")).hint.endswith("please report it.")


def test_what_the_user_can_mend_leaves_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    failed("work", MemoryError())
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_family_stays_as_it_is() -> None:
    own = InputError("a", "b")
    assert failed("work", own) is own and failed("work", caused(RuntimeError("x"), own)) is own
    assert mendable(ValueError("x")) is None


def test_control_characters_do_not_pass() -> None:
    assert "\x1b" not in failed("work", ValueError("\x1b[31mred\nline")).message


def test_a_temporary_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with pytest.raises(SetupError, match=r"temporary folder .*gone \(\$TMPDIR\) does not exist"):
        check_temporary_folder()


def test_a_full_file_in_the_temporary_folder_names_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = mendable(OSError(errno.ENOSPC, "x", str(tmp_path / "a/b")))
    assert told is not None and f"the temporary folder {tmp_path}" in told.message and "TMPDIR" in told.hint
