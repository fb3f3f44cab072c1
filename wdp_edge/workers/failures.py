"""What went wrong inside third-party code, as an error of the one family where the user can fix it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from wdp_edge.errors import InputError, SetupError, WdpError
from wdp_edge.io.files import cache_root, disk_error

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAYS_FULL = re.compile(r"no space left on device|os error 28\b|errno 28\b|disk quota exceeded", re.IGNORECASE)
_SAYS_MEMORY = re.compile(r"can't allocate memory|std::bad_alloc|out of memory|cannot allocate memory", re.IGNORECASE)
_LONGEST = 300
_KEPT = 20
_LITTLE = 16 * 1024**2  # bytes; less than the weights of the smallest model that timm has trained


def mendable(error: BaseException) -> WdpError | None:
    """The error, or the one that caused it, as what the user can do something about; None for a defect.

    Full or read-only disks, the temporary folder among them, too little memory and missing packages.
    """
    for cause in _causes(error):
        if isinstance(cause, WdpError):
            return cause
        if found := _of_disk(cause) or _of_memory(cause) or _of_package(cause):
            return found
    return None


def described(error: BaseException) -> str:
    """Type, message and place of an error on one line, without control characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    place, trace = "", error.__traceback__
    while trace is not None:
        place = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"


def check_temporary_folder() -> None:
    """Raises SetupError for a $TMPDIR in which nothing can be written.

    Python would silently take another folder, native code would not.
    """
    given = os.environ.get("TMPDIR")
    if not given:
        return
    if not Path(given).is_dir():
        raise SetupError(
            f"The temporary folder {given} ($TMPDIR) does not exist.", "Make it, or set TMPDIR to another."
        )
    try:
        with tempfile.TemporaryFile(dir=given) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError as error:
        raise _temporary(error, Path(given)) from error


def no_room() -> SetupError | None:
    """The error when the temporary folder is all but full, which native code does not report when it dies of that."""
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free >= _LITTLE:
        return None
    return SetupError(
        f"No space is left in the temporary folder {folder} ({free // 1024} kB are free).",
        "Free space there, or set TMPDIR to a folder with more.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those it was raised from or while handling."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _of_disk(error: BaseException) -> WdpError | None:
    code = error.errno if isinstance(error, OSError) else None
    if code in _FULL or _SAYS_FULL.search(str(error)):
        place = Path(os.fsdecode(error.filename)) if isinstance(error, OSError) and error.filename else None
        return _no_space(place)
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return SetupError("No temporary folder is writable.", "Set TMPDIR to a folder with space.")
    if isinstance(error, OSError) and (code == errno.EROFS or (code == errno.EACCES and error.filename)):
        return disk_error(OSError(code, os.strerror(code or 0)), Path(os.fsdecode(error.filename or "a file")))
    if code in (errno.EMFILE, errno.ENFILE):
        return SetupError("Too many files are open.", "Raise the limit with: ulimit -n 4096")
    if isinstance(error, OSError) and code in (errno.ENAMETOOLONG, errno.ELOOP):
        name = os.fsdecode(error.filename or "")[:_LONGEST]
        return SetupError(f"No file can be at '{name}': {os.strerror(code)}.", "Check the path, and links in it.")
    return None


def _no_space(place: Path | None) -> SetupError:
    """When nothing says which file it was, the temporary folder is the likely one."""
    folder = Path(tempfile.gettempdir())
    if place is None:
        return SetupError(
            f"No space left while writing (the temporary folder is {folder}).",
            "Free space there, or set TMPDIR to a folder with more.",
        )
    inside = place.absolute().is_relative_to(folder)
    return _temporary(OSError(errno.ENOSPC, ""), folder) if inside else disk_error(OSError(errno.ENOSPC, ""), place)


def _temporary(error: OSError, folder: Path) -> SetupError:
    what = "No space left in" if error.errno in _FULL else f"{error.strerror}: cannot write in"
    return SetupError(
        f"{what} the temporary folder {folder}.", "Free space there, or set TMPDIR to a folder with more."
    )


def _of_memory(error: BaseException) -> WdpError | None:
    if not isinstance(error, MemoryError) and not _SAYS_MEMORY.search(str(error)):
        return None
    return SetupError(
        "There is not enough memory.",
        "Close other programs, or use a machine with more memory; a smaller model needs less.",
    )


def _of_package(error: BaseException) -> WdpError | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return SetupError(f"The package {package} is missing.", "`wdp-edge doctor` shows what to install.")
    if isinstance(error, ImportError):
        said = " ".join(str(error).split())[:_LONGEST]
        return SetupError(f"A package cannot be imported: {said}.", "`wdp-edge doctor` shows what to install.")
    return None


def failed(what: str, error: BaseException) -> WdpError:
    """For an error inside a piece of work: what can be mended, or what it is, and where its traceback is kept."""
    if (known := mendable(error)) is not None:
        if known is error or isinstance(known, InputError):
            return known
        return type(known)(f"{what[:1].upper()}{what[1:]} failed: {known.message}", known.hint)
    report = f"please report it{_with_traceback(what, error)}"
    return SetupError(
        f"{what[:1].upper()}{what[1:]} failed: {described(error)}.",
        f"Try another precision or target; if it fails for a sound file, {report}.",
    )


def _with_traceback(what: str, error: BaseException) -> str:
    """The end of a sentence that names the file to which the traceback was written; "" where it cannot be.

    The last of them are kept, in `tracebacks` in wdp-edge's cache.
    """
    folder = cache_root() / "tracebacks"
    path = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{os.getpid()}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{what}\n\n{''.join(traceback.format_exception(error))}", "utf-8", errors="backslashreplace")
        for old in sorted(folder.glob("*.txt"))[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError:  # what went wrong is still reported
        return ""
    return f" with the traceback in {path}"
