"""targets/tflite_file.py and tflite_pack.py: sound files pass, foreign, cut and damaged ones are refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.target import ExportOptions, Precision, get_target
from wdp_edge.targets.tflite_file import CONV_2D, FULLY_CONNECTED, GraphRecord, OperatorRecord, TensorRecord, read_file
from wdp_edge.targets.tflite_pack import pack, unpack
from wdp_edge.targets.tflite_run import contents, delegated


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, int8-dynamic."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 64), nn.Linear(64, 3)).eval()
    path = tmp_path_factory.mktemp("file") / "model.tflite"
    options = ExportOptions(Precision.INT8_DYNAMIC, metadata={"name": "ü"})
    get_target("tflite").export(model, torch.randn(1, 3, 8, 8), path, options)
    return path


def test_what_a_sound_file_says(sound: Path) -> None:
    record = read_file(sound)
    (graph,) = record.graphs
    assert [graph.tensors[i].shape for i in (*graph.inputs, *graph.outputs)] == [(1, 3, 8, 8), (1, 3)]
    assert [o.kind for o in graph.operators if o.kind in (FULLY_CONNECTED, CONV_2D)] == [
        CONV_2D,
        *[FULLY_CONNECTED] * 2,
    ]
    assert sorted(t.shape for t in graph.tensors if t.dtype == "int8") == [(3, 64), (8, 2, 2, 3), (64, 128)]
    assert record.metadata["wdp_edge.name"] == "ü".encode()
    assert graph.hybrid_per_channel()


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


@pytest.mark.parametrize("kept", [0, 3, 7, 8, 20, 100, 0.3, 0.5, 0.9, -1])
def test_a_file_that_was_cut_short(sound: Path, tmp_path: Path, kept: float) -> None:
    whole = sound.read_bytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    for use in (lambda: get_target("tflite").load(path, 1), lambda: get_target("tflite").inspect(path)):
        with pytest.raises(InputError, match=r"cut short or damaged|not a TFLite model"):
            use()


@pytest.mark.parametrize("content", [b"not a model" * 50, random.Random(0).randbytes(4096), b"PK\x03\x04" * 99])
def test_a_foreign_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a TFLite model"):
        get_target("tflite").load(path, 1)
    with pytest.raises(InputError, match="does not exist"):
        get_target("tflite").load(tmp_path / "absent.tflite", 1)
    with pytest.raises(InputError, match="does not exist"):
        get_target("tflite").inspect(tmp_path)


def test_noise_behind_the_identifier(tmp_path: Path) -> None:
    """Whatever follows, the answer is an InputError: nothing is read outside the file."""
    path, source = tmp_path / "model.tflite", random.Random(1)
    for size in (0, 4, 40, 400, 4000):
        for _ in range(40):
            path.write_bytes(struct.pack("<I", source.randrange(8, size + 64)) + b"TFL3" + source.randbytes(size))
            with pytest.raises(InputError, match="damaged"):
                read_file(path)


def test_contradictions(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    for spoil, message in (
        (lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [999, 0]), "tensor that it does not have"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "opcodeIndex", 99), "operator that it does not have"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "buffer", 999), "buffer that it does not have"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1, -4]), "negative size"),
        (lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 5), "graph that it does not have"),
        (lambda m: setattr(m, "subgraphs", []), "no graph"),
        (halve_a_weight, "do not fit its shape"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "name", b"a\xf4b"), "name in it is no text"),
        (lambda m: setattr(m.operatorCodes[0], "customCode", b"a\xf4b"), "name in it is no text"),
    ):
        model = unpack(sound.read_bytes())
        spoil(model)  # type: ignore[operator]
        path.write_bytes(pack(model, {}))
        with pytest.raises(InputError, match=message):
            read_file(path)


def test_metadata_that_is_no_text(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(pack(unpack(sound.read_bytes()), {"wdp_edge.other": "a text"}).replace(b"a text", b"a \xfe\xffxt"))
    with pytest.raises(InputError, match="metadata is no text"):
        contents(path)


def halve_a_weight(model) -> None:  # type: ignore[no-untyped-def]
    buffer = max(model.buffers, key=lambda b: 0 if b.data is None else len(b.data))
    buffer.data = buffer.data[: len(buffer.data) // 2]


def test_which_layers_are_hybrid() -> None:
    def graph(x: int, weight: int, scales: int) -> GraphRecord:
        tensors = (TensorRecord("x", (1, 4), x, 0, 0, 0), TensorRecord("w", (2, 4), weight, 1, 8, scales))
        return GraphRecord(tensors, (OperatorRecord(FULLY_CONNECTED, (0, 1, -1), (0,)),), (0,), (0,))

    assert graph(0, 9, 2).hybrid_per_channel()
    assert not graph(0, 9, 1).hybrid_per_channel()  # one scale
    assert not graph(9, 9, 2).hybrid_per_channel()  # static
    assert not graph(0, 0, 0).hybrid_per_channel()  # float


def test_what_a_delegate_replaced() -> None:
    """0 -> a -> 1 -> b -> 2 -> c -> 3 with weights 9: a delegate from 1 to 2 holds b alone."""
    own = [
        {"index": 0, "inputs": [0, 9], "outputs": [1]},
        {"index": 1, "inputs": [1, 9], "outputs": [2]},
        {"index": 2, "inputs": [2, 9], "outputs": [3]},
    ]
    assert delegated(own, [{"inputs": [1, 9], "outputs": [2]}]) == {1}
    assert delegated(own, [{"inputs": [0, 9], "outputs": [3]}]) == {0, 1, 2}
    assert delegated(own, [{"inputs": [0, 9], "outputs": [1]}, {"inputs": [2, 9], "outputs": [3]}]) == {0, 2}
    assert delegated(own, []) == set()
