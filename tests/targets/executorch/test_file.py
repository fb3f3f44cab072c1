"""Reading a .pte as plain data: what is damaged is refused before anything trusts it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pte_files import damaged

from wdp_edge.errors import InputError
from wdp_edge.targets.executorch.file import HEADER, check_file, graph_of, has_root, read


def test_a_flatbuffer_without_a_sound_root(small: Path) -> None:
    whole = small.read_bytes()
    at = whole.index(b"XN01") - 4
    assert has_root(whole) and has_root(whole[at:])
    broken = damaged(whole)[at:]
    for wrong in (b"", b"\x04", b"\xff" * 64, broken, whole[at : at + 40]):
        assert not has_root(wrong)


@given(st.binary(max_size=80))
def test_no_bytes_make_the_search_for_a_root_fail(data: bytes) -> None:
    """Nothing is read outside of them: a root is an offset and a table that points to its fields at least."""
    assert not has_root(data) or len(data) >= 8


@given(st.integers(0, 3), st.integers(0, 40), st.integers(-1, 40))
def test_a_root_s_fields_lie_within_its_table(fields: int, table: int, place: int) -> None:
    """An offset, a list of `fields` places of which the last is `place`, and a table of `table` bytes behind it."""
    own = 4 + 2 * fields
    places = [*[0] * (fields - 1), place % 2**16][:fields]
    listed = struct.pack(f"<HH{fields}H", own, table, *places)
    data = struct.pack("<I", 4 + own) + listed + struct.pack("<i", own) + bytes(36)
    sound = table <= 40 and all(p < table for p in places)
    assert has_root(data) == sound


def test_a_file_is_its_program_and_the_graphs_of_its_delegates(small: Path) -> None:
    file = read(small)
    assert [plan["name"] for plan in file.program["execution_plan"]] == ["forward", "metadata_wdp_edge"]
    assert file.plan["name"] == "forward"
    (delegate,) = file.plan["delegates"]
    graph = graph_of(file.delegate_bytes(delegate), small)
    assert [node["xnode_union_type"] for node in graph["xnodes"]] == ["XNNFullyConnected"]
    for wrong in (b"", file.delegate_bytes(delegate)[:20], b"?" * 100):
        with pytest.raises(InputError, match="delegate"):
            graph_of(wrong, small)


def test_a_program_without_the_method_that_runs_the_model(small: Path) -> None:
    file = read(small)
    file.program["execution_plan"] = file.program["execution_plan"][1:]
    with pytest.raises(InputError, match="no method 'forward'"):
        _ = file.plan


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_byte_that_the_header_promises_must_be_there(
    tmp_path: Path, program: int, segments: int, size: int, apart: bool
) -> None:
    at = program if apart and program else 0  # 0: no segments behind the program
    promised = max(program, at + segments if at else program)
    head = HEADER.pack(b"root", b"ET12", b"eh00", HEADER.size, program, at, segments)
    path = tmp_path / "x.pte"
    path.write_bytes(head.ljust(size, b"\0"))
    if path.stat().st_size >= promised:
        check_file(path)
        return
    with pytest.raises(InputError, match=rf"cut short: {path.stat().st_size} bytes of {promised}"):
        check_file(path)
