"""Running .onnx files: with the threads that are asked for, one image at a time, and nothing outside the folder."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto
from onnx_files import TARGET, other_model, with_weights_at

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import get_target
from wdp_edge.targets.onnx.runtime import ONNXProgram


def test_threads(sound: Path) -> None:
    program = TARGET.load(sound, threads=2)
    options = program._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (other_model(("a", TensorProto.FLOAT, [1, 3]), ("b", TensorProto.FLOAT, [1, 3])), "one image"),
        (other_model(("a", TensorProto.FLOAT, ["n", 3])), "fixed size"),
        (other_model(("a", TensorProto.DOUBLE, [1, 3])), r"tensor\(double\)"),
    ],
)
def test_models_of_others(tmp_path: Path, model: onnx.ModelProto, reason: str) -> None:
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match=reason):
        TARGET.load(path, 1)
    assert [o.kind for o in TARGET.inspect(path).operators] == ["Sum"]


@pytest.mark.parametrize(
    "location", ["../outside.bin", "inside/../../outside.bin", "link.bin", "/etc/passwd", "a\0b", ""]
)
def test_the_runtime_reads_no_weights_outside_the_folder(folder: Path, location: str) -> None:
    location = location.replace("inside/", f"{folder.name}/")
    with pytest.raises(InputError, match=r"model\.onnx is not a sound ONNX model"):
        get_target("onnx").load(with_weights_at(folder, location), threads=1)


def test_absolute_places_are_refused_even_below_the_folder(folder: Path) -> None:
    assert onnx.load(with_weights_at(folder, "beside.bin")).graph.initializer[0].raw_data, "the file itself is sound"
    with pytest.raises(InputError, match="not a sound ONNX model"):
        get_target("onnx").load(with_weights_at(folder, str(folder / "beside.bin")), threads=1)


def test_outputs_are_tensors_of_their_own(sound: Path) -> None:
    program, images = TARGET.load(sound, threads=1), torch.randn(2, 3, 16, 16)
    first = program(images[:1])
    kept = first.clone()
    assert not torch.equal(program(images[1:]), kept) and torch.equal(first, kept)
    turned = images[:1].permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    assert torch.equal(program(turned), kept), "whatever the order in memory"


def test_what_to_run_in_the_file_s_place(sound: Path, tmp_path: Path) -> None:
    model = other_model(("a", TensorProto.FLOAT, [1, 3]))
    program = ONNXProgram(tmp_path / "absent.onnx", 1, model.SerializeToString())
    x = torch.randn(1, 3)
    assert program.input_shape == (1, 3) and torch.equal(program(x), x)
