"""targets/tflite/file.py: sound files pass, foreign, cut and damaged ones are refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import get_target
from wdp_edge.targets.tflite.file import CONV_2D, FULLY_CONNECTED, GraphRecord, OperatorRecord, TensorRecord, read_file
from wdp_edge.targets.tflite.pack import pack, unpack
from wdp_edge.targets.tflite.runtime import contents


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
        (lambda m: setattr(m.subgraphs[0].tensors[0], "name", b"a\xf4b"), "name in it is not text"),
        (lambda m: setattr(m.operatorCodes[0], "customCode", b"a\xf4b"), "name in it is not text"),
    ):
        model = unpack(sound.read_bytes())
        spoil(model)  # type: ignore[operator]
        path.write_bytes(pack(model, {}))
        with pytest.raises(InputError, match=message):
            read_file(path)


def test_metadata_that_is_no_text(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(pack(unpack(sound.read_bytes()), {"wdp_edge.other": "a text"}).replace(b"a text", b"a \xfe\xffxt"))
    with pytest.raises(InputError, match="metadata is not text"):
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
