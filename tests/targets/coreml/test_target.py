"""targets/coreml/target.py: real exports of tiny ViTs, read back from the saved package and evaluated."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
from core_ml_stand_in import StandIn
from lowered_models import FORMS, made, spread
from rounded_models import fake_quantized, predict
from tiny_families import SMALL
from tiny_vit import TINY, lively
from torch import Tensor, nn

from wdp_edge.calibration.fake_quant import Scheme
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import sha256, size_of
from wdp_edge.lowering.parts import Norms
from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.spec import create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.models.vit import Prefix
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, ExportOptions, Observer, get_target, parse_precision, target_names
from wdp_edge.targets.coreml.target import CoreMLTarget

pytestmark = pytest.mark.slow  # minutes of conversions


def some_images(count: int) -> Tensor:
    """With colours and shapes that differ, so that logits do."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(count, 3, 2, 2, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return 1.5 * coarse + 0.5 * torch.randn(count, 3, 16, 16, generator=generator)


def run(path: Path, images: Tensor) -> Tensor:
    program = get_target("coreml").load(path, threads=1)
    return torch.cat([program(x) for x in images.split(1)])


def centred_cosine(reference: Tensor, got: Tensor) -> float:
    mean = reference.mean(0)
    return float(torch.cosine_similarity(reference - mean, got - mean).min())


@dataclass(frozen=True)
class Exported:
    artifact: Artifact
    logits: Tensor


@dataclass(frozen=True)
class Exports:
    model: nn.Module
    images: Tensor
    reference: Tensor
    made: dict[Precision, Exported]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The tiny model in every precision, all made by one target, with its logits on sixteen images."""
    target, folder = get_target("coreml"), tmp_path_factory.mktemp("coreml")
    model, images = lively(create(TINY)), some_images(16)
    with torch.no_grad():
        reference = model(images)
    found = {}
    for precision in target.precisions:
        options = ExportOptions(precision, some_images(32), metadata={"precision": precision})
        artifact = target.export(model, images[:1], folder / f"{precision}.mlpackage", options)
        found[precision] = Exported(artifact, run(artifact.path, images))
    return Exports(model, images, reference, found)


def test_fp32_equals_the_model(exports: Exports) -> None:
    assert float((exports.made[Precision.FP32].logits - exports.reference).abs().max()) < 1e-4


def imitated(exports: Exports, precision: Precision) -> Tensor:
    """Logits of the lowered model with its weights, and for w8a8 its activations, rounded in torch."""
    lowered = lower(exports.model, norms="native")
    if precision == Precision.W8A8:
        scheme = Scheme("static", CoreMLTarget.observers[0])
        return predict(fake_quantized(lowered, scheme, some_images(32)), exports.images)
    for name in quantized_layers(lowered):
        weight = lowered.get_submodule(name).weight
        blocks, levels = weight.flatten(1), 127
        if precision == Precision.INT4_WEIGHT and weight.ndim == 2:
            blocks, levels = weight.reshape(len(weight), -1, 32), 7
        scale = blocks.abs().amax(-1, keepdim=True) / levels
        weight.copy_(((blocks / scale).round() * scale).reshape(weight.shape))
    return predict(lowered, exports.images)


@pytest.mark.parametrize("precision", [Precision.INT8_WEIGHT, Precision.INT4_WEIGHT, Precision.W8A8])
def test_integers_mean_what_they_mean_in_torch(
    exports: Exports, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In float32: the rounding of fp16 moves values over the edge to the next integer, and all that follow with them.
    monkeypatch.setattr("wdp_edge.targets.coreml.target.in_float32", lambda precision: True)
    options = ExportOptions(precision, some_images(32))
    artifact = CoreMLTarget().export(exports.model, exports.images[:1], tmp_path / "x.mlpackage", options)
    got, expected = run(artifact.path, exports.images), imitated(exports, precision)
    assert float((got - expected).abs().max()) < 1e-4
    assert float((got - exports.reference).abs().max()) > 1e-3


def test_fewer_bits_are_smaller_and_less_exact(exports: Exports) -> None:
    def error(precision: Precision) -> float:
        return float((exports.made[precision].logits - exports.reference).square().mean())

    for worse, better in (
        (Precision.PALETTE4, Precision.PALETTE6),
        (Precision.PALETTE6, Precision.PALETTE8),
        (Precision.PALETTE8, Precision.FP16),
        (Precision.INT4_WEIGHT, Precision.INT8_WEIGHT),
        (Precision.W8A8, Precision.INT8_WEIGHT),
        (Precision.INT8_WEIGHT, Precision.FP16),
        (Precision.FP16, Precision.FP32),
    ):
        assert error(worse) > error(better)
        if worse != Precision.W8A8:  # which carries the scales of activations on top
            assert exports.made[worse].artifact.bytes < exports.made[better].artifact.bytes
    assert centred_cosine(exports.reference, exports.made[Precision.FP16].logits) > 0.9999
    assert centred_cosine(exports.reference, exports.made[Precision.PALETTE8].logits) > 0.999


def test_the_artifact_says_what_it_is(exports: Exports) -> None:
    for precision, e in exports.made.items():
        path = e.artifact.path
        assert (e.artifact.target, e.artifact.precision) == ("coreml", precision)
        assert e.artifact.bytes == size_of(path) and e.artifact.sha256 == sha256(path)
        assert sorted(p.name for p in path.parent.iterdir()) == sorted(f"{p}.mlpackage" for p in exports.made)


def test_metadata_comes_back_from_the_file(exports: Exports) -> None:
    # The same converted model serves several precisions: no file may carry what another was given.
    for precision, e in exports.made.items():
        assert dict(get_target("coreml").inspect(e.artifact.path).metadata) == {"precision": precision}


def test_contents(exports: Exports) -> None:
    stored = {
        p: {w.dtype: w for w in get_target("coreml").inspect(e.artifact.path).weights} for p, e in exports.made.items()
    }
    layers = 2 + 3 * 6
    assert set(stored[Precision.FP32]) == {"float32"} and set(stored[Precision.FP16]) == {"float16"}
    kinds = {
        Precision.INT8_WEIGHT: ("int8", layers),
        Precision.W8A8: ("int8", layers),
        Precision.PALETTE4: ("palette4", layers),
        Precision.PALETTE6: ("palette6", layers),
        Precision.PALETTE8: ("palette8", layers),
        Precision.INT4_WEIGHT: ("int4", layers - 1),  # the patch embedding has three input channels: int8
    }
    for precision, (dtype, tensors) in kinds.items():
        assert stored[precision][dtype].tensors == tensors
    numbers = sum(p.numel() for n, p in lower(exports.model).named_parameters() if n.endswith(".weight") and p.ndim > 1)
    assert stored[Precision.INT8_WEIGHT]["int8"].bytes <= numbers
    contents = get_target("coreml").inspect(exports.made[Precision.W8A8].artifact.path)
    counts = {o.kind: o.count for o in contents.operators}
    # q, k and v share one rounded input.
    assert counts["quantize"] == counts["dequantize"] == 2 + 3 * 4 and counts["layer_norm"] == 7
    assert (contents.inputs[0].name, contents.inputs[0].shape, contents.inputs[0].dtype) == (
        "image", (1, 3, 16, 16), "float32",
    )  # fmt: skip
    assert (contents.outputs[0].name, contents.outputs[0].shape) == ("logits", (1, TINY.num_classes))
    assert contents.delegates == 0 and all(o.delegated == 0 for o in contents.operators)


@pytest.mark.slow
@pytest.mark.parametrize("norms", ["native", "folded"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_vit(form: str, norms: Norms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_form(made(form), norms, tmp_path, monkeypatch)


@pytest.mark.parametrize(("form", "norms"), [("distilled", "folded"), ("qk norm", "native"), ("max pooling", "folded")])
def test_some_forms_of_vit(form: str, norms: Norms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_form(made(form), norms, tmp_path, monkeypatch)


def check_form(model: nn.Module, chosen: Norms, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wdp_edge.lowering.vit.lower", lambda model, norms: lower(model, chosen))
    model, images = spread(model), some_images(4)
    with torch.no_grad():
        reference = model(images)
    artifact = CoreMLTarget().export(model, images[:1], folder / "x.mlpackage", ExportOptions(Precision.FP32))
    assert float((run(artifact.path, images) - reference).abs().max()) <= 1e-4 * max(1.0, float(reference.abs().max()))


def test_a_cut_model_and_its_beginning(tmp_path: Path) -> None:
    kept = Kept(heads=((0, 2, 3), (1,)), hidden=(tuple(range(0, 128, 2)), tuple(range(40))))
    model, images = cut(lively(create(TINY)), kept), some_images(3)
    for precision, tolerance in ((Precision.FP32, 1e-4), (Precision.INT4_WEIGHT, 1.5)):
        for part in (model, Prefix(model, 3)):
            artifact = CoreMLTarget().export(part, images[:1], tmp_path / "x.mlpackage", ExportOptions(precision))
            with torch.no_grad():
                difference = run(artifact.path, images) - part(images)
            # Lowering is free to change the mean over channels of a prefix's tokens.
            difference = difference - difference.mean(-1, keepdim=True) if part is not model else difference
            assert float(difference.abs().max()) < tolerance


def test_gated_mlps_and_other_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not of the family is exported as it is: SwiGLU, packed qkv, a plain network."""
    gated = timm.create_model("vit_giant_patch14_dinov2", num_classes=5, **SMALL).eval()
    small = nn.Sequential(nn.Conv2d(3, 8, 4, 4, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 6)).eval()
    monkeypatch.setattr("wdp_edge.targets.coreml.target.in_float32", lambda precision: True)
    images, calibration = some_images(2), some_images(4)
    for model in (gated, small):
        rounded = fake_quantized(lower(model), Scheme("static", CoreMLTarget.observers[0]), calibration)
        for precision, meant in ((Precision.FP32, model), (Precision.W8A8, rounded)):
            options = ExportOptions(precision, calibration)
            artifact = CoreMLTarget().export(model, images[:1], tmp_path / "x.mlpackage", options)
            with torch.no_grad():
                expected = torch.cat([meant(x) for x in images.split(1)])
            assert float((run(artifact.path, images) - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.W8A8])
def test_pixels(exports: Exports, tmp_path: Path, precision: Precision) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    folded = fold_normalization(exports.model, mean, std)
    pixels = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    target = CoreMLTarget()
    artifact = target.export(folded, pixels[:1], tmp_path / "x.mlpackage", ExportOptions(precision, pixels))
    program = target.load(artifact.path, 1)
    assert (program.input_shape, program.input_dtype) == ((1, 3, 16, 16), "uint8")
    assert target.inspect(artifact.path).inputs[0].dtype == "uint8"
    normalised = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    got = torch.cat([program(x) for x in pixels.split(1)])
    with torch.no_grad():
        reference = exports.model(normalised)
    if precision == Precision.FP32:
        assert float((got - reference).abs().max()) < 1e-4
    else:
        assert centred_cosine(reference, got) > 0.95


def test_layers_that_are_kept_float(exports: Exports, tmp_path: Path) -> None:
    target, kept = CoreMLTarget(), ("blocks.0.attn.qkv", "blocks.2.fc2", "head")
    logits = {}
    for precision in (Precision.INT8_WEIGHT, Precision.W8A8):
        options = ExportOptions(precision, some_images(8), keep_float=kept)
        artifact = target.export(exports.model, exports.images[:1], tmp_path / "x.mlpackage", options)
        contents = target.inspect(artifact.path)
        assert {w.dtype: w.tensors for w in contents.weights}["int8"] == 20 - 5
        quantized = sum(o.count for o in contents.operators if o.kind == "quantize")
        assert quantized == (0 if precision == Precision.INT8_WEIGHT else 14 - 3)
        logits[precision] = run(artifact.path, exports.images)
        assert not torch.equal(logits[precision], exports.made[precision].logits)


def test_observers_choose_different_ranges(exports: Exports, tmp_path: Path) -> None:
    target, found = CoreMLTarget(), []
    images = some_images(8)
    images[0, 0, 0, 0] = 40  # an outlier
    for observer in (None, Observer.MSE, Observer.MINMAX):
        options = ExportOptions(Precision.W8A8, images, observer)
        artifact = target.export(exports.model, images[:1], tmp_path / "x.mlpackage", options)
        found.append(run(artifact.path, exports.images[:2]))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


def test_one_conversion_serves_every_precision_of_a_float_type(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wdp_edge.targets.coreml import target as coreml

    calls: list[Precision] = []
    real = coreml.convert
    monkeypatch.setattr(coreml, "convert", lambda p, e, precision: calls.append(precision) or real(p, e, precision))
    target, images = CoreMLTarget(), some_images(1)

    def export(model: nn.Module, precision: Precision) -> Tensor:
        artifact = target.export(model, images, tmp_path / "x.mlpackage", ExportOptions(precision))
        return run(artifact.path, exports.images)

    for precision in (Precision.INT8_WEIGHT, Precision.PALETTE4, Precision.FP16):
        assert torch.equal(export(exports.model, precision), exports.made[precision].logits)
    assert calls == [Precision.INT8_WEIGHT]
    export(exports.model, Precision.FP32)
    other = lively(lively(create(TINY)))
    with torch.no_grad():
        assert centred_cosine(other(exports.images), export(other, Precision.FP16)) > 0.999
    assert calls == [Precision.INT8_WEIGHT, Precision.FP32, Precision.FP16]


def test_the_model_is_not_touched_and_nothing_is_printed(
    exports: Exports, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {k: v.clone() for k, v in exports.model.state_dict().items()}
    target = CoreMLTarget()
    options = ExportOptions(Precision.W8A8, some_images(2))
    artifact = target.export(exports.model, exports.images[:1], tmp_path / "x.mlpackage", options)
    target.load(artifact.path, 1)(exports.images[:1])
    target.inspect(artifact.path)
    assert all(torch.equal(v, before[k]) for k, v in exports.model.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_what_it_refuses(exports: Exports, tmp_path: Path) -> None:
    target, images, path = CoreMLTarget(), exports.images[:1], tmp_path / "x.mlpackage"
    with pytest.raises(InputError, match=r"no precision 'int8-dynamic'.*palette4"):
        target.export(exports.model, images, path, ExportOptions(Precision.INT8_DYNAMIC))
    with pytest.raises(InputError, match="calibration images"):
        target.export(exports.model, images, path, ExportOptions(Precision.W8A8))
    with pytest.raises(InputError, match="only as RGB images"):
        pixel = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        target.export(exports.model, pixel, path, ExportOptions(Precision.FP32))
    assert not list(tmp_path.iterdir())


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Rare(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, 1)


def test_operators_that_core_ml_or_the_evaluator_lacks(tmp_path: Path) -> None:
    target, x = CoreMLTarget(), torch.zeros(1, 4)
    with pytest.raises(InputError, match=r"cannot express.*bessel_j0"):
        target.export(Unknown(), x, tmp_path / "x.mlpackage", ExportOptions(Precision.FP32))
    artifact = target.export(Rare(), x, tmp_path / "x.mlpackage", ExportOptions(Precision.FP32))
    with pytest.raises(InputError, match="does not support: cumsum"):
        target.load(artifact.path, 1)


def test_precisions_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    target = get_target("coreml")
    assert "coreml" in target_names() and target.observers[0] is Observer.MSE
    assert parse_precision("default", target) == Precision.INT8_WEIGHT
    assert set(target.versions()) >= {"coremltools", "torch"}
    assert target.timed_here() is (sys.platform == "darwin")
    monkeypatch.setattr("wdp_edge.targets.coreml.target.find_spec", lambda name: None)
    assert CoreMLTarget().missing() == ["coremltools>=9.0,<10"]
    with pytest.raises(SetupError, match="needs coremltools"):
        get_target("coreml")


def test_the_way_in_and_out_of_core_ml(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import coremltools

    monkeypatch.setattr(coremltools.models, "MLModel", StandIn)
    monkeypatch.setattr(CoreMLTarget, "timed_here", lambda self: True)
    program = CoreMLTarget().load(exports.made[Precision.FP32].artifact.path, 1)
    x = exports.images[:1]
    assert torch.allclose(program(x), torch.tensor([[float(x.mean()), 1, 3, 16, 16, 1]]))
    folded = fold_normalization(exports.model, (0.5,) * 3, (0.5,) * 3)
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    monkeypatch.undo()
    artifact = CoreMLTarget().export(folded, pixels, tmp_path / "x.mlpackage", ExportOptions(Precision.FP32))
    monkeypatch.setattr(coremltools.models, "MLModel", StandIn)
    monkeypatch.setattr(CoreMLTarget, "timed_here", lambda self: True)
    # Images come as PIL images: height, width, channels.
    assert torch.allclose(
        CoreMLTarget().load(artifact.path, 1)(pixels), torch.tensor([[float(pixels.float().mean()), 16, 16, 3, 1]])
    )
