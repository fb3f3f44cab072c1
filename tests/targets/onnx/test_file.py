"""targets/onnx/file.py: files that are damaged, foreign or say what no runtime would do, loaded and inspected."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_files import other_model, with_weights_at

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import get_target
from wdp_edge.targets.onnx.target import ONNXTarget

TARGET = ONNXTarget()
LOOKS: tuple[Callable[[Path], Any], ...] = (lambda p: TARGET.load(p, 1), TARGET.inspect)


@pytest.mark.parametrize("look", LOOKS, ids=["load", "inspect"])
@pytest.mark.parametrize("kept", [0, 1, 20, 0.1, 0.5, 0.9, -400])
def test_a_file_that_was_cut_short(sound: Path, tmp_path: Path, kept: float, look: Callable[[Path], Any]) -> None:
    whole = sound.read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"not a sound ONNX model: .*Export it again"):
        look(path)


@pytest.mark.parametrize("look", LOOKS, ids=["load", "inspect"])
@pytest.mark.parametrize(
    "content",
    [b"not a model" * 50, random.Random(0).randbytes(4096), b"PK\x03\x04" + bytes(500), b"\x1c\x00\x00\x00TFL3" * 40],
    ids=["text", "noise", "zip", "tflite"],
)
def test_a_foreign_file(tmp_path: Path, content: bytes, look: Callable[[Path], Any]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a sound ONNX model"):
        look(path)
    with pytest.raises(InputError, match="does not exist"):
        look(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="does not exist"):
        look(tmp_path)


def test_damaged_files_are_refused_or_run(sound: Path, tmp_path: Path) -> None:
    """Bytes changed anywhere: an InputError, or a program that still answers; never anything else."""
    whole, chance = sound.read_bytes(), random.Random(0)
    path, refused = tmp_path / "model.onnx", 0
    for _ in range(60):
        data = bytearray(whole)
        at = chance.choice([chance.randrange(6000), len(data) - 1 - chance.randrange(3000)])
        data[at : at + 4] = chance.randbytes(4)
        path.write_bytes(data)
        try:
            TARGET.load(path, 1)
        except InputError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("look", LOOKS, ids=["load", "inspect"])
@pytest.mark.parametrize(
    ("text", "wrong"),
    [("LayerNormalization", b"LayerNorma\xffization"), ("logits", b"log\xf4ts"), ("value", b"va\xffue")],
    ids=["operator", "output", "metadata"],
)
def test_a_name_that_is_no_text(
    sound: Path, tmp_path: Path, look: Callable[[Path], Any], text: str, wrong: bytes
) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load(sound)
    model.metadata_props.add(key="key", value="value")
    onnx.save(model, path)
    data = path.read_bytes()
    assert text.encode() in data
    path.write_bytes(data.replace(text.encode(), wrong))
    with pytest.raises(InputError, match="not a sound ONNX model: a name in it is not text"):
        look(path)


@pytest.mark.parametrize("look", LOOKS, ids=["load", "inspect"])
def test_an_attribute_that_the_runtime_would_ignore(sound: Path, tmp_path: Path, look: Callable[[Path], Any]) -> None:
    """ONNX Runtime runs such a file with the attribute's default, and so may compute something else."""
    path = tmp_path / "model.onnx"
    model = onnx.load(sound)
    norm = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    next(a for a in norm.attribute if a.name == "epsilon").name = "epsilom"
    onnx.save(model, path)
    with pytest.raises(InputError, match="not a sound ONNX model: Unrecognized attribute: epsilom"):
        look(path)


def test_inspect_counts_constants_of_any_storage(tmp_path: Path) -> None:
    model = other_model(("a", TensorProto.FLOAT, ["n", 3]))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 4), np.float16), "h"))
    onnx.save(model, tmp_path / "x.onnx")
    contents = TARGET.inspect(tmp_path / "x.onnx")
    assert {w.dtype: w.bytes for w in contents.weights} == {"float16": 16, "float32": 12}
    assert contents.inputs[0].shape == (-1, 3)


@pytest.mark.parametrize(
    "location", ["beside.bin", "two\nlines.bin", "../outside.bin", "link.bin", "/etc/passwd", "a\0b"]
)
def test_inspect_takes_no_file_with_weights_elsewhere(
    folder: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"model\.onnx is not a sound ONNX model: its weights are in other files"):
        get_target("onnx").inspect(with_weights_at(folder, location))
