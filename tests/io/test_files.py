"""wdp_edge/io/files.py: files that are there whole or not at all, and names that stay in their folder."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import (
    atomic_folder,
    atomic_path,
    cache_root,
    disk_error,
    inner_path,
    not_a_folder,
    read_json,
    read_object,
    remove,
    sha256,
    size_of,
    to_plain,
    write_bytes,
    write_json,
    write_text,
)


def test_a_file_is_there_when_its_block_ended_well(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "whole" and path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_a_folder_takes_the_place_of_the_one_before_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.mlpackage"
    for content in ("first", "second"):
        with atomic_folder(path) as temporary:
            assert temporary.suffix == path.suffix and not temporary.exists()
            (temporary / "inner").mkdir(parents=True)
            (temporary / f"inner/{content}").write_text(content)
    assert [p.name for p in path.rglob("*")] == ["inner", "second"]
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as temporary:
        temporary.mkdir()
        raise ZeroDivisionError
    assert (path / "inner/second").exists() and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file/below", tmp_path / "file/far/below"):
        with pytest.raises(SetupError, match=r"Cannot write .*below"), atomic_path(place):
            pytest.fail("there is no such folder")
        with pytest.raises(SetupError, match=r"Cannot write .*below"), atomic_folder(place):
            pytest.fail("there is no such folder")
    full = disk_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert full.message.startswith("No space left") and "--out" in full.hint_for({"--out"})


def test_a_folder_that_is_none_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_text("")
    (tmp_path / "train.csv").write_text("")
    (tmp_path / "notes").write_text("")
    for name, said in (
        ("nowhere", "nowhere does not exist"),
        ("data.zip", "archive"),
        ("train.csv", "list of images"),
        ("notes", "is a file"),
    ):
        error = not_a_folder(tmp_path / name, "Image folder", "Set train.", {"--train": "Give --train."})
        assert said in error.message and error.hint.endswith("Set train.")
        assert error.hint_for({"--train"}) == error.hint.replace("Set train.", "Give --train.")


def test_text_is_utf_8_or_refused_by_the_name_in_it(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "Zürich 東京\n")
    assert (tmp_path / "text").read_bytes() == "Zürich 東京\n".encode()
    with pytest.raises(InputError, match=r"text cannot hold 'caf.*\.jpg'"):
        write_text(tmp_path / "text", "a = 1\ncaf\udce9.jpg\n")
    write_bytes(tmp_path / "bytes", memoryview(b"\x00\xff"))
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "text").read_text(encoding="utf-8") == "Zürich 東京\n", "the old one stays"


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_json_that_is_none_is_one_sentence_with_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json cannot be read"):
        read_json(tmp_path / "x.json")


def test_json_that_is_not_there_or_no_object(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.json does not exist"):
        read_json(tmp_path / "x.json")
    values: tuple[object, ...] = ([], 1, None, "text")
    for value in values:
        write_json(tmp_path / "x.json", value)
        assert read_json(tmp_path / "x.json") == value
        with pytest.raises(InputError, match=r"x\.json holds no JSON object"):
            read_object(tmp_path / "x.json")
    write_json(tmp_path / "x.json", {"a": 1})
    assert read_object(tmp_path / "x.json") == {"a": 1}


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Thing:
    path: Path
    colour: Colour
    pair: tuple[int, int]
    maybe: int | None = None


@dataclass(frozen=True)
class Special:
    """Writes itself."""

    secret: int

    def to_json(self) -> dict[str, object]:
        return {"twice": (2 * self.secret,)}


def test_values_become_what_json_knows() -> None:
    thing = Thing(Path("a/b"), Colour.RED, (1, 2))
    assert to_plain(thing) == {"path": "a/b", "colour": "red", "pair": [1, 2]}, "what is None is left out"
    assert to_plain({3: [Special(4), thing.pair]}) == {"3": [{"twice": [8]}, [1, 2]]}
    assert json.loads(json.dumps(to_plain([thing, None]))) == [to_plain(thing), None]


@given(st.text(max_size=30))
@example("..")
@example("a/../../b")
@example("/etc/passwd")
@example("a\nb")
@example("artifacts/model.pte")
def test_a_name_from_a_file_stays_below_its_folder(name: str) -> None:
    folder = Path("/run")
    try:
        path = inner_path(folder, name)
    except InputError:
        return
    assert path.is_relative_to(folder) and path != folder and ".." not in path.parts
    assert not any(ord(c) < 32 or ord(c) == 127 for c in str(path))


def test_a_digest_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    def made(name: str, files: dict[str, bytes]) -> Path:
        for place, data in files.items():
            (tmp_path / name / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / place).write_bytes(data)
        return tmp_path / name

    one = made("one", {"a": b"1", "inner/b": b"22"})
    assert sha256(one) == sha256(made("two", {"inner/b": b"22", "a": b"1"}))
    assert sha256(one) != sha256(made("three", {"a": b"1", "inner/c": b"22"}))
    assert sha256(one) != sha256(made("four", {"a": b"1", "inner/b": b"23"}))
    assert (size_of(one), size_of(one / "inner/b")) == (3, 2)


def test_what_is_removed_is_not_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "link")
    assert (tmp_path / "kept/file").exists() and not (tmp_path / "link").is_symlink()
    remove(tmp_path / "kept")
    remove(tmp_path / "kept")
    assert not list(tmp_path.iterdir())


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", "/scratch/cache")
    assert cache_root() == Path("/scratch/cache")
    monkeypatch.setenv("WDP_EDGE_CACHE", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_root() == Path("/home/someone/.cache/wdp-edge")
