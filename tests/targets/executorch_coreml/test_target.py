"""targets/executorch_coreml/target.py: .pte files for Apple's devices, proven by evaluating the package inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vit import lively
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, TensorInfo, get_target
from wdp_edge.targets.executorch_coreml import target as executorch_coreml
from wdp_edge.targets.executorch_coreml.target import ExecuTorchCoreMLTarget

pytest.importorskip("coremltools")
SIZES = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 4}
SPEC = ModelSpec("vit_tiny_patch16_224", 4, SIZES)
TARGET = ExecuTorchCoreMLTarget()


def vit() -> Any:
    torch.manual_seed(0)
    return lively(create(SPEC))


def some_images(count: int) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    folder, made = tmp_path_factory.mktemp("coreml"), {}
    for precision in TARGET.precisions:
        made[precision] = folder / f"{precision}.pte"
        TARGET.export(vit(), some_images(1), made[precision], ExportOptions(precision, metadata={"wdp_edge": "{}"}))
    return made


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [(Precision.FP32, 0, 1e-4), (Precision.FP16, 1e-5, 0.01), (Precision.INT8_WEIGHT, 1e-4, 0.1)],
)
def test_the_package_inside_computes_the_model(
    files: dict[Precision, Path], precision: Precision, least: float, most: float
) -> None:
    program, images = TARGET.load(files[precision], 1), some_images(8)
    assert (program.input_shape, program.input_dtype) == ((1, 3, 16, 16), "float32")
    with torch.no_grad():
        error = float((torch.cat([program(x) for x in images.split(1)]) - vit()(images)).abs().max())
    assert least <= error < most


def test_inspect_tells_what_is_inside(files: dict[Precision, Path]) -> None:
    contents = TARGET.inspect(files[Precision.INT8_WEIGHT])
    assert contents.inputs == (TensorInfo("input", (1, 3, 16, 16), "float32"),)
    assert contents.outputs == (TensorInfo("output", (1, 4), "float32"),)
    assert contents.delegates == 1 and contents.metadata == {"wdp_edge": "{}"}
    assert {o.kind: (o.count, o.delegated) for o in contents.operators}["softmax"] == (1, 1)
    assert all(o.count == o.delegated for o in contents.operators)
    assert "int8" in {w.dtype for w in contents.weights}
    assert "int8" not in {w.dtype for w in TARGET.inspect(files[Precision.FP16]).weights}


def test_pixels_are_cast_before_core_ml(tmp_path: Path) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    path = tmp_path / "pixels.pte"
    TARGET.export(fold_normalization(vit(), mean, std), pixels[:1], path, ExportOptions(Precision.FP32))
    program = TARGET.load(path, 1)
    assert program.input_dtype == "uint8"
    with torch.no_grad():
        reference = vit()((pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    assert float((torch.cat([program(x) for x in pixels.split(1)]) - reference).abs().max()) < 1e-4
    assert {o.kind: o.delegated for o in TARGET.inspect(path).operators}["aten::_to_copy"] == 0


def test_layers_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="all weights or none"):
        options = ExportOptions(Precision.INT8_WEIGHT, keep_float=("head",))
        TARGET.export(vit(), some_images(1), tmp_path / "x.pte", options)


def test_files_of_each_other_are_refused(files: dict[Precision, Path], tmp_path: Path) -> None:
    path = tmp_path / "xnnpack.pte"
    xnnpack = get_target("executorch")
    xnnpack.export(nn.Linear(4, 2).eval(), torch.ones(1, 4), path, ExportOptions(Precision.FP32))
    for reads in (lambda: TARGET.load(path, 1), lambda: TARGET.inspect(path)):
        with pytest.raises(InputError, match="not one Core ML program"):
            reads()
    with pytest.raises(InputError, match="needs CoreMLBackend"):
        xnnpack.load(files[Precision.FP32], 1)


def test_damaged_packages(files: dict[Precision, Path], tmp_path: Path) -> None:
    whole, path = files[Precision.FP32].read_bytes(), tmp_path / "damaged.pte"
    at = whole.rindex(b'[:"sedon"{')
    for content, words in ((whole[:-5], "cut short"), (whole[: at - 40] + b"?" * 50 + whole[at + 10 :], "damaged")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            TARGET.load(path, 1)


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executorch_coreml, "find_spec", lambda name: None if name == "coremltools" else object())
    assert TARGET.missing() == ["coremltools>=9.0,<10"]
