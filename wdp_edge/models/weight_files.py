"""What a file given as a checkpoint is, judged by its first bytes: a kind that can be read, or what to do instead.

Reads no more than a few kilobytes and imports nothing heavy: nothing in the file is run or trusted.
"""

from __future__ import annotations

import difflib
import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from wdp_edge.errors import InputError
from wdp_edge.models.strange_folders import FORMATS as _FORMATS
from wdp_edge.models.strange_folders import MAX_NAMED, WEIGHT_SUFFIXES, unreadable

_SAVE = "If you trust the file, save its weights alone: torch.save(model.state_dict(), 'weights.pth')."
_HEAD = 4096
_LOCAL = struct.Struct("<26xHH")  # of a zip archive's own header before each part: lengths of its name and extra field
_MODEL_MODULES = ("timm.models.", "timm.layers.", "torch.nn.modules.")
_BEFORE = "Give the weights that it was made from: " + _FORMATS[4:]
_EXPORTED = "Give the weights that it was exported from: " + _FORMATS[4:]
_CONVERT = "Load it in the library that wrote it, and save it for PyTorch. " + _FORMATS
_UNFINISHED = (".crdownload", ".part", ".incomplete", ".aria2")
_FLAX = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9][\x20-\x7e]", re.DOTALL)  # a table with a text key
# The first two or three fields of an ONNX or a Core ML model: a version, then a text or a graph.
_PROTOBUF = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x3a\x42]", re.DOTALL)


class FileKind(Enum):
    """Kinds of files that can be read."""

    SAFETENSORS = "safetensors"
    TORCH = "torch.save"


# Beginning of the file: what it is, and what to do.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights themselves", "Fetch them with: git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file (Keras or TensorFlow)", _CONVERT),
    (b"\x93NUMPY", "is a NumPy array", _FORMATS),
    (b"GGUF", "is a GGUF file", _BEFORE),
    (b"lmgg", "is a GGML file", _BEFORE),
    (b"tjgg", "is a GGML file", _BEFORE),
    (b"\xff\xd8\xff", "is an image", _FORMATS),
    (b"\x89PNG", "is an image", _FORMATS),
    (b"%PDF", "is a PDF document", _FORMATS),
    (b"\x7fELF", "is a program or a library", _FORMATS),
    (b"\x1f\x8b", "is a gzip archive", "Unpack it and name the weights file in it."),
    (b"BZh", "is a bzip2 archive", "Unpack it and name the weights file in it."),
    (b"\xfd7zXZ", "is an xz archive", "Unpack it and name the weights file in it."),
    (b"\x28\xb5\x2f\xfd", "is a zstd archive", "Unpack it and name the weights file in it."),
    (b"7z\xbc\xaf", "is a 7z archive", "Unpack it and name the weights file in it."),
    (b"Rar!", "is a rar archive", "Unpack it and name the weights file in it."),
)


def check_file(path: Path) -> None:
    """Raises InputError unless `path` is a file that can be opened: what is there instead is said."""
    if path.is_dir():
        raise unreadable(path)
    if not path.exists():
        raise _absent(path)
    if not path.is_file():
        raise InputError(f"Checkpoint {path} is not a regular file.", _FORMATS)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"Checkpoint {path} cannot be read: {error.strerror}.", "Check its permissions.") from error


def kind_of(path: Path) -> FileKind:
    """How to read the file, whatever it is called.

    Raises InputError for one that is not a weights file, or that cannot be read without running what is in it.
    """
    check_file(path)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise InputError(f"Checkpoint {path} is empty.", "Copy or download it again.")
    if path.suffix.lower() in _UNFINISHED:
        raise InputError(f"Checkpoint {path} is a download that did not end.", "Download it again.")
    for magic, what, hint in _MAGIC:
        if head.startswith(magic):
            raise InputError(f"Checkpoint {path} {what}.", hint)
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if _is_exported(path, head):
        raise InputError(f"Checkpoint {path} is an exported file, not a trained model.", _EXPORTED)
    if head[6:9] == b"\0\0{":  # the length of a header and its first byte
        _check_length(path, int.from_bytes(head[:8], "little"))
        return FileKind.SAFETENSORS
    if head[:1] == b"\x80" and b"\x02" <= head[1:2] <= b"\x05":
        return _pickle_kind(path)
    if head[257:262] == b"ustar":
        raise InputError(f"Checkpoint {path} is a tar archive.", "Unpack it and name the weights file in it.")
    if _FLAX.match(head):
        raise InputError(f"Checkpoint {path} is a msgpack file (Flax, JAX).", _CONVERT)
    raise _text(path, head) or damaged(path)


def _is_exported(path: Path, head: bytes) -> bool:
    known = head[4:8] == b"TFL3" or (head[4:6] == b"ET" and head[6:8].isdigit())
    return known or path.suffix.lower() in (".onnx", ".engine") or _PROTOBUF.match(head) is not None


def _check_length(path: Path, header: int) -> None:
    """Raises InputError where a .safetensors file is shorter than its own header, of this length, says."""
    size = path.stat().st_size
    if header > size - 8:
        raise damaged(path, f"its header says {header} bytes, {max(0, size - 8)} are there")
    with path.open("rb") as file:
        file.seek(8)
        ends = [
            int(end) for end in re.findall(rb'"data_offsets"\s*:\s*\[\s*\d+\s*,\s*(\d{1,15})\s*\]', file.read(header))
        ]
    if ends and max(ends) + header + 8 > size:
        raise InputError(
            f"Checkpoint {path} is cut short or corrupt: {size} of {max(ends) + header + 8} bytes.",
            "Copy or download it again.",
        )


def damaged(path: Path, reason: str = "") -> InputError:
    """For a file of a kind that can be read, which cannot be. reason: what the reader said."""
    said = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    return InputError(
        f"Checkpoint {path} is corrupt or not a weights file{f' ({said[:160]})' if said else ''}.",
        "Copy or download it again. " + _FORMATS,
    )


def _absent(path: Path) -> InputError:
    if path.is_symlink():
        return InputError(f"Checkpoint {path} is a link to {path.readlink()}, which does not exist.", "Fix the link.")
    try:
        beside = {p.stem: p for p in path.parent.iterdir()}
    except OSError:
        beside = {}
    message = f"Checkpoint {path} does not exist."
    if near := difflib.get_close_matches(path.stem, beside, n=1):
        return InputError(message, f"Did you mean {beside[near[0]]}?")
    hint = "Set checkpoint in [model]"
    return InputError(message, f"{hint}.", {"--checkpoint": f"{hint} or give --checkpoint."})


def _zip_kind(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            pickled = next((name for name in names if name.rpartition("/")[2] == "data.pkl"), None)
            if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
                raise InputError(
                    f"Checkpoint {path} is a TorchScript archive: code, not only weights.",
                    "Save its weights: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth').",
                )
            if pickled:
                # torch.save never compresses: what claims to hold more than its file would fill the memory.
                if sum(entry.file_size for entry in entries) > path.stat().st_size:
                    raise damaged(path, "its parts claim to be larger than the file")
                _check_pickle(path, _part(path, archive, pickled))
                return FileKind.TORCH
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise damaged(path, str(error)) from error
    raise _other_zip(path, names)


def _other_zip(path: Path, names: list[str]) -> InputError:
    """For an archive without a pickle of torch.save."""
    if any(name.endswith("encoderblock_0/MlpBlock_3/Dense_0/kernel.npy") for name in names):
        return InputError(
            f"Checkpoint {path} holds a ViT with Google's names, for JAX (.npz).",
            "timm reads it: model = timm.create_model(NAME, num_classes=N); model.load_pretrained(FILE); then save "
            "model.state_dict().",
        )
    if any(name.endswith(".npy") for name in names):
        return InputError(f"Checkpoint {path} is a NumPy archive (.npz), as JAX models come in.", _CONVERT)
    if any(name.endswith((".h5", ".keras")) for name in names):
        return InputError(f"Checkpoint {path} is a Keras model.", _CONVERT)
    if any(name.rpartition("/")[2] in ("archive_format", "serialized_exported_program.json") for name in names):
        return InputError(
            f"Checkpoint {path} is a program that torch.export saved, not only weights.",
            "Save its weights: torch.save(dict(torch.export.load(FILE).state_dict), 'weights.pth').",
        )
    if any(".mlpackage/" in name for name in names):
        return InputError(f"Checkpoint {path} is an exported file, not a trained model.", _EXPORTED)
    inside = [name for name in names if name.lower().endswith(WEIGHT_SUFFIXES)]
    shown = f": {', '.join(inside[:MAX_NAMED])}" if inside else ""
    return InputError(
        f"Checkpoint {path} is a zip archive that torch.save did not write.",
        f"Unpack it and name the weights file in it{shown}.",
    )


def has_checksums(archive: zipfile.ZipFile) -> bool:
    """Whether an archive records them: torch.serialization.set_crc32_options(False) writes zeros instead."""
    return any(entry.CRC for entry in archive.infolist())


def _part(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """What is stored in an archive under this name. Without checksums it is read past zipfile, which asks for them."""
    entry = archive.getinfo(name)
    if has_checksums(archive) or entry.compress_type != zipfile.ZIP_STORED:
        return archive.read(entry)
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile(f"{name} is not where the archive says")
        file.seek(sum(_LOCAL.unpack(head)), os.SEEK_CUR)
        return file.read(entry.file_size)


def _pickle_kind(path: Path) -> FileKind:
    """What torch.save wrote before 1.6, or another pickle."""
    with path.open("rb") as file:
        head = file.read(2**16)
    if head[:1] == b"\x80" and head[1:2] > b"\x03":
        raise InputError(
            f"Checkpoint {path} is a plain Python pickle: reading it could run code.",
            "If you trust it, load it with pickle and save its tensors with safetensors.torch.save_file.",
        )
    return FileKind.TORCH


def _check_pickle(path: Path, data: bytes) -> None:
    """Raises InputError for what torch's safe unpickler would refuse, by what it is. Runs nothing."""
    if data[:1] == b"\x80" and data[1:2] > b"\x03":
        raise InputError(
            f"Checkpoint {path} is pickled with protocol {data[1]}, which cannot be read safely.",
            "Save it with torch's own protocol: torch.save(…) without pickle_protocol.",
        )
    foreign(path, list(_globals(data)))


def foreign(path: Path, names: list[str]) -> None:
    """names: of the classes that a pickle wants made. Raises InputError where they make it a whole model."""
    if found := [name for name in names if name.startswith(_MODEL_MODULES) and name.isprintable()]:
        raise InputError(f"Checkpoint {path} is a whole pickled model ({found[0]}), not its weights.", _SAVE)


def _globals(data: bytes) -> Iterator[str]:
    """Names of what a pickle of protocol 2 imports, such as "torch.nn.modules.linear.Linear"."""
    try:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name == "GLOBAL" and isinstance(argument, str):
                yield argument.replace(" ", ".")
    except Exception:  # cut short or garbage: whoever reads it says so
        return


def _text(path: Path, head: bytes) -> InputError | None:
    """For a file of text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if re.match(rb"(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype|html|head|body|error)\b", start, re.DOTALL):
        return InputError(
            f"Checkpoint {path} is a web page, not weights: the server answered the download with a page.",
            "Download it again, from the address of the file itself and logged in where that is needed.",
        )
    if start.startswith((b"{", b"[")):
        return InputError(
            f"Checkpoint {path} is a JSON file, not weights.", "Name the weights file that stands beside it."
        )
    if _printable(head) and head.isascii():
        begins = head.strip().split(b"\n")[0][:60].decode("ascii").strip()
        return InputError(f"Checkpoint {path} is a text file, not weights. It begins: {begins!r}.", _FORMATS)
    return None


def _printable(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in head)
