"""The folder inside a Core ML delegate: it comes out as it was put in, and nothing leaves it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdp_edge.errors import InputError
from wdp_edge.targets.executorch_coreml.delegate import unpack

Tree = dict[str, Any]
FILE, FOLDER = 0, 1
names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='/\\"'), min_size=1, max_size=9)
names = names.filter(lambda name: not name.startswith(".")).map(str.lower)
trees = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


def packed(tree: Tree) -> bytes:
    """As Core ML's delegate has it: the files' bytes, then the nodes as JSON, backwards."""
    nodes: list[Tree] = []
    data = bytearray()

    def add(name: str, content: Tree | bytes) -> int:
        if isinstance(content, bytes):
            region = {"offset": len(data), "size": len(content)}
            data.extend(content)
            nodes.append({"children": {}, "dataRegion": region, "kind": FILE, "name": name})
        else:
            children = {name: add(name, inner) for name, inner in content.items()}
            nodes.append({"children": children, "dataRegion": {"offset": 0, "size": 0}, "kind": FOLDER, "name": name})
        return len(nodes) - 1

    add("root", tree)
    return bytes(data) + json.dumps({"nodes": nodes}).encode()[::-1]


def unpacked(folder: Path) -> Tree:
    return {p.name: p.read_bytes() if p.is_file() else unpacked(p) for p in folder.iterdir()}


@settings(max_examples=30)
@given(st.dictionaries(names, trees, max_size=4))
def test_any_folder_comes_out_as_it_was_put_in(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unpack(packed(tree), Path(folder), Path("x.pte"))
        assert unpacked(Path(folder)) == tree


@given(st.binary(max_size=120))
def test_any_other_bytes_are_called_damaged(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(InputError, match=r"x\.pte is damaged"):
            unpack(data, Path(folder), Path("x.pte"))
        assert not list(Path(folder).iterdir())


@pytest.mark.parametrize(("offset", "size"), [(0, 99_999), (-1, 1), (1, -1)])
def test_regions_that_are_not_there(tmp_path: Path, offset: int, size: int) -> None:
    sound, wrong = (json.dumps({"offset": at, "size": n}).encode()[::-1] for at, n in ((0, 7), (offset, size)))
    made = packed({"a": b"content"}).replace(sound, wrong)
    with pytest.raises(InputError, match="a is cut short"):
        unpack(made, tmp_path, Path("x.pte"))


def test_folders_in_folders_come_to_an_end(tmp_path: Path) -> None:
    """A folder that holds itself would be written for ever."""
    root = {"children": {"again": 0}, "dataRegion": {"offset": 0, "size": 0}, "kind": FOLDER, "name": "root"}
    with pytest.raises(InputError, match="too many folders"):
        unpack(json.dumps({"nodes": [root]}).encode()[::-1], tmp_path, Path("x.pte"))


@pytest.mark.parametrize("name", ["../out", "/out", ".hidden", "a\\b", ""])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    file = {"children": {}, "dataRegion": {"offset": 0, "size": 2}, "kind": 0, "name": name}
    root = {"children": {name: 0}, "dataRegion": {"offset": 0, "size": 0}, "kind": 1, "name": "root"}
    packed = b"ab" + json.dumps({"nodes": [file, root]}).encode()[::-1]
    with pytest.raises(InputError, match="not a file name"):
        unpack(packed, tmp_path, Path("x.pte"))
    unpack(packed.replace(json.dumps(name).encode()[::-1], b'"a"'), tmp_path, Path("x.pte"))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"ab"]
