"""Files written whole or not at all, and their fingerprints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from wdp_edge.errors import InputError, SetupError


def cache_root() -> Path:
    """$WDP_EDGE_CACHE, or ~/.cache/wdp-edge."""
    given = os.environ.get("WDP_EDGE_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "wdp-edge"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well, and vanishes when it does not.

    Raises SetupError when the disk is full or the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the block ends well, and vanishes when it does not.

    What was at `path` before is replaced. Raises SetupError like `atomic_path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent) as beside:
            # The inner name ends as the final one does: toolkits look at suffixes.
            temporary = Path(beside) / path.name
            yield temporary
            for written in temporary.rglob("*"):
                if written.is_file():
                    with written.open("rb") as file:
                        os.fsync(file.fileno())
            if path.is_dir():
                path.replace(Path(beside) / f"old{path.suffix}")
            temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> SetupError:
    """The sentence for a file that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what, hint = f"No space left while writing {path}.", "Free space"
    else:
        what, hint = f"Cannot write {path}: {error.strerror or error}.", "Check its permissions"
    return SetupError(what, f"{hint}.", {"--out": f"{hint} or choose another folder with --out."})


_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def not_a_folder(path: Path, what: str, hint: str, options: Mapping[str, str] | None = None) -> InputError:
    """The error for a folder that is missing, or is of another kind. what: such as "Image folder".

    options: hints for commands that have an option, as `WdpError` takes them.
    """

    def error(message: str, first: str = "") -> InputError:
        return InputError(message, f"{first}{hint}", {name: f"{first}{text}" for name, text in (options or {}).items()})

    if not path.exists():
        return error(f"{what} {path} does not exist.", "Check the path. ")
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        return error(f"{path} is an archive, not a folder.", "Unpack it. ")
    kind = "a list of images" if suffix in (".csv", ".parquet") else "a file"
    return error(f"{path} is {kind}, not a folder.")


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """For what libraries serialise: when they write it, a full disk is an error that says nothing of it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """In UTF-8. Raises InputError for text with a name of other bytes in it, SetupError like `atomic_path`."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before, after = text[max(0, error.start - 20) : error.start], text[error.start : error.end + 20]
        name = before.rpartition("\n")[2] + after.partition("\n")[0]
        raise InputError(f"{path} cannot hold '{name}': that is not UTF-8.", "Rename the file or folder.") from error
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(to_plain(data), indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Raises InputError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.", "Check the path.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Restore the file or start a new run.") from error


def read_object(path: Path) -> dict[str, Any]:
    """As `read_json`, for a file that holds one JSON object. Raises InputError where it holds anything else."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no JSON object.", "Restore the file or start a new run.")
    return data


def to_plain(data: Any) -> Any:
    """Dataclasses, enums, paths and tuples as JSON knows them; fields that are None are left out."""
    if is_dataclass(data) and not isinstance(data, type):
        if hasattr(data, "to_json"):
            return to_plain(data.to_json())
        named = {f.name: getattr(data, f.name) for f in fields(data)}
        return {k: to_plain(v) for k, v in named.items() if v is not None}
    if isinstance(data, dict):
        return {str(k): to_plain(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [to_plain(v) for v in data]
    if isinstance(data, Enum):
        return data.value
    return str(data) if isinstance(data, Path) else data


def sha256(path: Path) -> str:
    """Of a file's bytes; of a folder, over the names and digests of all files in it."""
    if path.is_dir():
        lines = [f"{p.relative_to(path).as_posix()} {sha256(p)}\n" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inner_path(folder: Path, name: str) -> Path:
    """The file or folder that a text of ours calls `name`, below `folder`; links that lie there are followed.

    Raises InputError for a name that leads elsewhere, or holds control characters: we write none like that.
    """
    pure = PurePath(name)
    controls = any(ord(c) < 32 or ord(c) == 127 for c in name)
    if controls or not pure.parts or pure.is_absolute() or ".." in pure.parts:
        raise InputError(f"{folder} names '{name}' as a part of it, which it is not.", "Restore the folder.")
    return folder / pure


def remove(path: Path) -> None:
    """A file or a folder with all in it; nothing when it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size
