"""targets/executorch.py: what options change in a file, read back by the runtime and by `inspect`."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vit import lively
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.target import Contents, ExportOptions, Observer, OperatorCount, Precision, TensorInfo, get_target
from wdp_edge.targets import executorch_edge, executorch_file
from wdp_edge.targets.executorch_half import HalfGelu, HalfModel, HalfNorm
from wdp_edge.targets.executorch_int4 import GROUP, best_scales
from wdp_edge.targets.executorch_int8 import needed_patterns
from wdp_edge.targets.hush import paused_collection, quiet
from wdp_edge.targets.lowered_parts import LoweredNorm
from wdp_edge.targets.lowering import lower, quantized_layers

BYTES = {"float32": 3.9, "float16": 1.9, "int8": 1.0, "int4": 0.5}  # per parameter, at least
PIXELS = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
# One block: half the time of three.
SPEC = ModelSpec(
    "vit_tiny_patch16_224", 4, {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 4}
)
LINEAR = 6 + 1  # q, k, v, proj, fc1, fc2; the head
NORMS = 2 + 1  # each has a product with a constant row, too


def vit() -> Any:
    torch.manual_seed(0)
    return lively(create(SPEC))


def some_images(count: int) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def exported(
    folder: Path, options: ExportOptions, model: nn.Module | None = None, example: Tensor | None = None
) -> Path:
    path, given = folder / f"{options.precision}.pte", some_images(1) if example is None else example
    get_target("executorch").export(model or vit(), given, path, options)
    return path


def tiny_file(folder: Path, metadata: dict[str, str]) -> Path:
    options = ExportOptions(Precision.FP32, metadata=metadata)
    return exported(folder, options, nn.Linear(4, 2).eval(), torch.ones(1, 4))


def inspected(path: Path) -> Contents:
    return get_target("executorch").inspect(path)


def stored(contents: Contents) -> dict[str, int]:
    return {w.dtype: w.tensors for w in contents.weights}


def counted(contents: Contents, kind: str) -> OperatorCount:
    return next(o for o in contents.operators if o.kind == kind)


def logits(path: Path, images: Tensor) -> Tensor:
    program = get_target("executorch").load(path, 1)
    return torch.cat([program(x) for x in images.split(1)])


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.FP32, "float32"),
        (Precision.FP16, "float16"),
        (Precision.INT8_DYNAMIC, "int8"),
        (Precision.INT8_STATIC, "int8"),
        (Precision.INT4_WEIGHT, "int4"),
    ],
)
def test_inspect_tells_what_is_inside(tmp_path: Path, precision: Precision, dtype: str) -> None:
    path = exported(tmp_path, ExportOptions(precision, some_images(4), metadata={"wdp_edge": '{"a": "bé"}', "x": ""}))
    contents = inspected(path)
    assert contents.inputs == (TensorInfo("input", (1, 3, 16, 16), "float32"),)
    assert contents.outputs == (TensorInfo("output", (1, 4), "float32"),)
    assert contents.delegates == 1
    assert counted(contents, "FullyConnected") == OperatorCount("FullyConnected", LINEAR + NORMS, LINEAR + NORMS)
    assert counted(contents, "Softmax").delegated == 1
    # Only the class token's expansion, and float16's way in and out, stay outside of the delegate.
    outside = {o.kind: o.count for o in contents.operators if not o.delegated}
    assert outside == {"aten::expand_copy": 1} | ({"aten::_to_copy": 2} if precision is Precision.FP16 else {})
    assert stored(contents)[dtype] >= LINEAR
    # All that is stored, and not twice: the rest of so small a file is structure.
    parameters = sum(p.numel() for p in vit().parameters())
    assert BYTES[dtype] * parameters < sum(w.bytes for w in contents.weights) < path.stat().st_size
    assert contents.metadata == {"wdp_edge": '{"a": "bé"}', "x": ""}


def test_metadata_can_be_read_by_the_runtime_alone(tmp_path: Path) -> None:
    path = exported(
        tmp_path, ExportOptions(Precision.FP32, metadata={"wdp_edge": "text"}), nn.Linear(4, 2).eval(), torch.ones(1, 4)
    )
    from executorch.extension.pybindings import _C

    assert _C._load_program(str(path)).load_method("metadata_wdp_edge")([]) == ["text"]
    assert inspected(tiny_file(tmp_path, {})).metadata == {}


@pytest.mark.parametrize("precision", [Precision.INT8_DYNAMIC, Precision.INT8_STATIC, Precision.INT4_WEIGHT])
def test_kept_layers_stay_float(tmp_path: Path, precision: Precision) -> None:
    """Kept layers are float in the file; with all of them kept the file computes what the model does."""
    model, images = vit(), some_images(8)
    names = quantized_layers(lower(model))
    dtype = "int4" if precision is Precision.INT4_WEIGHT else "int8"
    options = ExportOptions(precision, some_images(4))
    some = exported(tmp_path, replace(options, keep_float=("blocks.0.attn.qkv", "blocks.0.fc1")), model)
    # The patch embedding is quantized by static ranges only.
    assert stored(inspected(some))[dtype] == LINEAR - 4 + (precision is Precision.INT8_STATIC)
    every = exported(tmp_path, replace(options, keep_float=tuple(names)), model)
    assert dtype not in stored(inspected(every))
    with torch.no_grad():
        assert float((logits(every, images) - model(images)).abs().max()) < 1e-4


def test_observers_choose_different_ranges(tmp_path: Path) -> None:
    """The observer reaches the file, and either one's ranges serve its model."""
    torch.manual_seed(0)
    model, calibration = nn.Linear(64, 8).eval(), torch.randn(32, 64)
    files = {}
    for observer in (Observer.MINMAX, Observer.MSE):
        options = ExportOptions(Precision.INT8_STATIC, calibration, observer)
        path = exported(tmp_path, options, model, calibration[:1])
        files[observer] = path.read_bytes()
        with torch.no_grad():
            assert float((logits(path, calibration) - model(calibration)).abs().max()) < 0.05
    assert files[Observer.MSE] != files[Observer.MINMAX]
    exported(tmp_path, ExportOptions(Precision.INT8_STATIC, calibration), model, calibration[:1])
    assert path.read_bytes() == files[Observer.MSE]
    with pytest.raises(InputError, match="no observer 'percentile'"):
        exported(tmp_path, ExportOptions(Precision.INT8_STATIC, calibration, Observer.PERCENTILE), model)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT8_STATIC])
def test_pixels_go_in_as_uint8(tmp_path: Path, precision: Precision) -> None:
    model = vit()
    pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(p).view(1, 3, 1, 1) for p in PIXELS)
    with torch.no_grad():
        reference = model((pixels / 255 - mean) / std)
    path = exported(tmp_path, ExportOptions(precision, pixels), fold_normalization(model, *PIXELS), pixels[:1])
    assert inspected(path).inputs == (TensorInfo("input", (1, 3, 16, 16), "uint8"),)
    assert get_target("executorch").load(path, 1).input_dtype == "uint8"
    error = float((logits(path, pixels) - reference).abs().max())
    assert error < {Precision.FP32: 1e-4, Precision.FP16: 0.02}.get(precision, 0.3)


def test_half_runs_where_squares_leave_its_range() -> None:
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0)) * 600
    x[0, 0] = 0
    norm = LoweredNorm(32, 1e-6, centred=True, scale=torch.rand(32) + 0.5)
    with torch.no_grad():
        expected = norm(x)
        got = HalfNorm(norm).half()(x.half())
    assert float(((x * x).half()).max()) == torch.inf
    assert float((got.float() - expected).abs().max()) < 5e-3


def test_half_gelu_is_within_half_a_step() -> None:
    x = torch.linspace(-9, 9, 4001)
    assert float((HalfGelu()(x) - nn.functional.gelu(x)).abs().max()) < 5e-4
    assert torch.isfinite(HalfGelu()(torch.tensor([-6e4, -300.0, 0.0, 300.0, 6e4]).half())).all()


def test_half_leaves_no_float_weight() -> None:
    assert {p.dtype for p in HalfModel(lower(vit())).parameters()} == {torch.float16}


def test_a_width_without_groups_gets_eight_bits(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(GROUP, 48), nn.ReLU(), nn.Linear(48, 8)).eval()
    path = exported(tmp_path, ExportOptions(Precision.INT4_WEIGHT), model, torch.ones(1, GROUP))
    assert {w.dtype: w.bytes for w in inspected(path).weights if w.dtype.startswith("int")} == {
        "int4": GROUP * 48 // 2,
        "int8": 48 * 8,
    }


def test_scales_lose_less_than_those_of_the_largest_weight() -> None:
    weight = torch.randn(16, 4 * GROUP, generator=torch.Generator().manual_seed(0))

    def error(scales: Tensor) -> float:
        steps = scales.repeat_interleave(GROUP, 1)
        return float(((weight / steps).round().clamp(-8, 7) * steps - weight).square().mean())

    largest = weight.reshape(16, -1, GROUP).abs().amax(2) / 7
    assert error(best_scales(weight, 4, GROUP)) < 0.9 * error(largest)
    assert bool((best_scales(torch.zeros(2, GROUP), 4, GROUP) > 0).all())


@pytest.mark.parametrize(
    "model",
    [
        lower(vit()),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Upsample(scale_factor=2, mode="bilinear")),
    ],
    ids=["vit", "others"],
)
def test_skipped_passes_change_nothing(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    with quiet(), torch.no_grad():
        program = torch.export.export(model.eval(), (some_images(1),))
        few = bytes(executorch_edge.to_edge(program).to_executorch().buffer)
        monkeypatch.setattr(executorch_edge, "has_work", lambda name, operators: True)
        assert few == bytes(executorch_edge.to_edge(program).to_executorch().buffer)


def test_collection_is_paused_only_inside() -> None:
    with pytest.raises(ValueError), paused_collection():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()


def test_inspect_refuses_what_load_refuses(tmp_path: Path) -> None:
    whole = tiny_file(tmp_path, {}).read_bytes()
    path = tmp_path / "damaged.pte"
    for content, words in (
        (whole[:-9], "cut short"),
        (b"no" * 99, "not an ExecuTorch"),
        (damaged(whole), "damaged|load"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            inspected(path)
    with pytest.raises(InputError, match="does not exist"):
        inspected(tmp_path / "absent.pte")


def damaged(whole: bytes) -> bytes:
    """The delegate's graph overwritten, the program around it intact."""
    at = whole.index(b"XN01")
    return whole[: at + 4] + b"\xff" * 64 + whole[at + 68 :]


def test_a_flatbuffer_without_a_sound_root(tmp_path: Path) -> None:
    whole = tiny_file(tmp_path, {}).read_bytes()
    at = whole.index(b"XN01") - 4
    assert executorch_file.has_root(whole) and executorch_file.has_root(whole[at:])
    broken = damaged(whole)[at:]
    for wrong in (b"", b"\x04", b"\xff" * 64, broken, whole[at : at + 40]):
        assert not executorch_file.has_root(wrong)


def test_batch_norms_are_looked_for_where_there_is_one() -> None:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer

    every, convolution = XNNPACKQuantizer.SUPPORTED_PATTERNS, nn.Conv2d(3, 4, 1)
    found = {}
    for model in (convolution, nn.Sequential(convolution, nn.BatchNorm2d(4))):
        module = torch.export.export(model.eval(), (some_images(1),)).module()
        found[type(model)] = {pattern.name for pattern in needed_patterns(every, module)}
    assert found[nn.Sequential] == {pattern.name for pattern in every}
    assert found[nn.Sequential] - found[nn.Conv2d] == {
        "conv_bn",
        "conv_bn_relu",
        "conv_transpose_bn",
        "conv_transpose_bn_relu",
    }
