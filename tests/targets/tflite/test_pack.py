"""Writing a .tflite: what is packed again is the same, aligned, and states the versions that it needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import flatbuffers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.protocols.target import get_target
from wdp_edge.targets.tflite.file import CONV_2D, FLOAT32, FULLY_CONNECTED, INT8
from wdp_edge.targets.tflite.pack import aligned, pack, state_versions, unpack
from wdp_edge.targets.tflite.runtime import contents


def test_weights_are_aligned_and_inside_the_flatbuffer(sound: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    data = sound.read_bytes()
    model = schema.Model.GetRootAs(data)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    assert sum(b.DataLength() for b in buffers) > 64 * 128
    for buffer in buffers:
        assert buffer.Offset() == 0
        if buffer.DataLength():
            table = buffer._tab
            assert table.Vector(table.Offset(4)) % 16 == 0


def test_hybrid_layers_state_the_version_that_knows_them(sound: Path) -> None:
    model = unpack(sound.read_bytes())
    versions = {c.builtinCode: c.version for c in model.operatorCodes}
    assert (versions[FULLY_CONNECTED], versions[CONV_2D]) == (12, 5)


def test_packing_again_changes_nothing(sound: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tflite"
    again.write_bytes(pack(unpack(sound.read_bytes()), {"wdp_edge.more": "x"}))
    before, after = contents(sound), contents(again)
    assert (before.operators, before.inputs, before.outputs) == (after.operators, after.inputs, after.outputs)
    assert after.metadata == {"name": "ü", "more": "x"}
    x = torch.randn(1, 3, 8, 8)
    target = get_target("tflite")
    assert torch.equal(target.load(again, 1)(x), target.load(sound, 1)(x))


@pytest.mark.parametrize("text", ["", "x", "Käse 犬" * 9])
def test_texts_of_any_length_come_back(sound: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "texts.tflite"
    path.write_bytes(pack(unpack(sound.read_bytes()), {"wdp_edge.one": text, "wdp_edge.two": "y"}))
    assert contents(path).metadata == {"name": "ü", "one": text, "two": "y"}


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=6))
def test_any_bytes_are_aligned_wherever_they_come(parts: list[bytes]) -> None:
    """Read back as FlatBuffers says: the length of a vector stands before its first byte."""
    builder = flatbuffers.Builder(0)
    offsets = [aligned(builder, np.frombuffer(part, np.uint8)) for part in parts]
    builder.StartObject(0)
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    for part, offset in zip(parts, offsets, strict=True):
        start = len(data) - offset
        assert int.from_bytes(data[start : start + 4], "little") == len(part)
        assert data[start + 4 : start + 4 + len(part)] == part and (start + 4) % 16 == 0


def test_only_hybrid_layers_get_a_higher_version() -> None:
    """FAKE: a graph of one operator of each kind, as far as it is looked at."""
    kinds = {"int8": SimpleNamespace(type=INT8), "float": SimpleNamespace(type=FLOAT32)}
    for weight, known, version in (("int8", 1, 12), ("int8", 14, 14), ("float", 1, 1)):
        code = SimpleNamespace(builtinCode=FULLY_CONNECTED, version=known)
        graph = SimpleNamespace(
            operators=[SimpleNamespace(opcodeIndex=0, inputs=[0, 1])], tensors=[kinds["float"], kinds[weight]]
        )
        state_versions(SimpleNamespace(subgraphs=[graph], operatorCodes=[code]))
        assert code.version == version
