"""What a .pt or .pth says about itself, looked at before anything is allocated."""

from __future__ import annotations

import zipfile
from pathlib import Path

from torch import Tensor, strided

from wdp_edge.models.weight_files import has_checksums


def archive_fault(path: Path) -> str:
    """What is wrong with a torch.save archive, in words: it unpacks to more than its file holds, or is damaged.

    torch.save itself never compresses; torch.load does not look at the checksums, and torch.save may be told to leave
    them out. "" for a sound one, and for what is no zip archive: its tensors are read from the file one by one.
    """
    if not zipfile.is_zipfile(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
                return "it unpacks to more than the file holds"
            broken = archive.testzip() if has_checksums(archive) else None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        return f"the archive cannot be read ({error})"
    return f"the checksum of {broken} is wrong" if broken else ""


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has its numbers, each in its own place: neither sparse, quantized, complex nor without data."""
    if tensor.layout is not strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        return False
    # A stride of 0 makes any shape out of one number.
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
