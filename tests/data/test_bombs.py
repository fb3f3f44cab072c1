"""Small files that claim, or unpack to, far more pixels or text than they should."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from class_folders import write_classes

from wdp_edge.data.folder import scan
from wdp_edge.data.loading import check_headers
from wdp_edge.errors import InputError

MOST_MIB = 256  # what a decoding process may need for all of them; Pillow's own limit of texts in a PNG is 64 MiB
_READ = """
import json, resource, sys
from wdp_edge.data.worker import View, decode
view = View(sys.argv[1], (16, 16), "bicubic", 0.9, "center", (0, 0, 0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
errors = decode(view, sys.argv[2:], [0] * len(sys.argv[2:]), [])[1]
print(json.dumps([errors, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, extra: bytes = b"", rows: int = 0) -> bytes:
    """Black pixels of one bit. extra: chunks before them. rows: how many there really are; 0 for all."""
    packed = zlib.compress(bytes((1 + (width + 7) // 8) * (rows or height)), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def bombs() -> dict[str, bytes]:
    text = zlib.compress(bytes(100 << 20), 9)
    mebibyte = zlib.compress(bytes((1 << 20) - 1), 9)
    return {
        "pixels.png": png(20_000, 20_000),
        "header.png": png(2**24, 2**24, rows=1),
        "text.png": png(8, 8, chunk(b"zTXt", b"k\0\0" + text)),
        "profile.png": png(8, 8, chunk(b"iCCP", b"k\0\0" + text)),
        "texts.png": png(8, 8, b"".join(chunk(b"zTXt", b"%d\0\0" % i + mebibyte) for i in range(80))),
        "header.ppm": b"P6 60000 60000 255\n" + bytes(12),
        "header.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 66, 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
        "header.tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 65_535, 65_535, 24, 0) + b"\xff" * 16,
        "frame.gif": b"GIF89a" + struct.pack("<HHBBBcHHHHB", 8, 8, 0, 0, 0, b",", 0, 0, 65_535, 65_535, 0) + b"\2\0;",
        "canvas.webp": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xff" * 6,
    }


def test_bombs_are_named_in_little_memory(tmp_path: Path) -> None:
    names = []
    for name, data in bombs().items():
        (tmp_path / name).write_bytes(data)
        names.append(name)
    command = [sys.executable, "-c", _READ, str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    errors, grown = json.loads(done.stdout)
    assert list(errors) == names and all(errors.values()), errors
    assert grown < MOST_MIB << 10, f"{grown >> 10} MiB"


@pytest.mark.parametrize("name", ["pixels.png", "frame.gif"])
def test_their_headers_alone_are_enough(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / name).write_bytes(bombs()[name])
    with pytest.raises(InputError, match=f"1 image in .* cannot be read: cat/{name} .*"):
        check_headers(scan(tmp_path))
