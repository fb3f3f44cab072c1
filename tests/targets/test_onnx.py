"""targets/onnx.py: real exports of a tiny ViT, run by ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from tests.int8_error import as_its_scheme, part_as_scheme
from tests.tiny_vit import TINY, lively
from wdp_edge.calibration.fake_quant import Scheme, fake_quantized, predict
from wdp_edge.errors import InputError, SetupError
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.prefix import Prefix
from wdp_edge.models.spec import create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.parity import compare
from wdp_edge.target import Artifact, Contents, ExportOptions, Observer, Precision, get_target
from wdp_edge.targets.lowering import lower, quantized_layers
from wdp_edge.targets.onnx import ONNXTarget

TARGET = ONNXTarget()
# Other heads and widths in every block, and one block less.
KEPT = Kept(heads=((0, 2, 3), (1,)), hidden=(tuple(range(0, 128, 2)), tuple(range(40))))
BLOCKS = len(KEPT.heads)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
INT8 = (Precision.INT8_DYNAMIC, Precision.INT8_STATIC)
SCHEMES = {
    Precision.INT8_DYNAMIC: Scheme("dynamic", convolutions=False, paired=True),
    Precision.INT8_STATIC: Scheme("static", TARGET.observers[0], paired=True),
}
METADATA = {"wdp_edge.classes": '["Katze", "Käse"]', "empty": ""}


def small_model() -> nn.Module:
    torch.manual_seed(0)
    model = cut(lively(create(TINY)), KEPT)
    return model.eval()


def some_images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def export(model: nn.Module, path: Path, precision: Precision, **options: Any) -> Artifact:
    example = options.pop("example", some_images(1))
    options.setdefault("calibration", some_images(16, 2))
    return TARGET.export(model, example, path, ExportOptions(precision, **options))


def run(path: Path, images: Tensor) -> Tensor:
    program = TARGET.load(path, threads=1)
    return torch.cat([program(x) for x in images.split(1)])


def centred_cosine(got: Tensor, reference: Tensor) -> float:
    mean = reference.mean(0)
    return float(torch.cosine_similarity((got - mean).flatten(1), (reference - mean).flatten(1)).min())


def weights(contents: Contents) -> dict[str, int]:
    return {w.dtype: w.bytes for w in contents.weights}


def operators(path: Path) -> dict[str, int]:
    return {o.kind: o.count for o in TARGET.inspect(path).operators}


def int8_weights(path: Path) -> set[str]:
    """Names of the layers that have an int8 weight."""
    found = [t.name for t in onnx.load(path).graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    return {name.partition(".weight")[0] for name in found}


@dataclass(frozen=True)
class Exported:
    artifact: Artifact
    logits: Tensor
    reference: Tensor

    @property
    def path(self) -> Path:
        return self.artifact.path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Exported]:
    """The cut model in every precision, with its logits on eight images and those of the eager model."""
    folder, model, images = tmp_path_factory.mktemp("onnx"), small_model(), some_images(8)
    with torch.no_grad():
        reference = model(images)
    made = {}
    for precision in TARGET.precisions:
        path = folder / f"{precision.value}.onnx"
        artifact = export(model, path, precision, metadata=METADATA)
        made[precision] = Exported(artifact, run(path, images), reference)
    return made


def test_fp32_equals_the_model(exported: dict[Precision, Exported]) -> None:
    e = exported[Precision.FP32]
    assert float((e.logits - e.reference).abs().max()) < 1e-5
    assert e.logits.dtype == torch.float32


def test_fp16_is_judged_with_every_result_rounded(exported: dict[Precision, Exported], tmp_path: Path) -> None:
    """This machine computes float16 in float32, where nothing overflows."""
    images, path = some_images(8), exported[Precision.FP16].path
    sound = torch.cat([TARGET.load_rounding(path, threads=1)(x) for x in images.split(1)])
    # Some twenty roundings to 11 bits, one after the other: their root times half a step.
    assert compare("rounded", exported[Precision.FP16].reference, sound).relative_error < 20**0.5 * 2**-11
    assert not torch.equal(sound, exported[Precision.FP16].logits)
    model = small_model()
    with torch.no_grad():
        model.blocks[1].mlp.fc1.weight[:8] *= 3e5
        model.blocks[1].mlp.fc1.bias[:8] *= 3e5
        model.blocks[1].mlp.fc2.weight[:, :8] /= 3e5
    half = export(model, tmp_path / "half.onnx", Precision.FP16).path
    assert torch.isfinite(run(half, images)).all()
    assert not torch.isfinite(TARGET.load_rounding(half, threads=1)(images[:1])).all()
    single = exported[Precision.FP32].path
    assert torch.equal(TARGET.load_rounding(single, threads=1)(images[:1]), run(single, images[:1]))


def test_fp16_stays_close(exported: dict[Precision, Exported]) -> None:
    e = exported[Precision.FP16]
    assert centred_cosine(e.logits, e.reference) > 0.9999
    # It is rounded, not float32 under another name.
    assert 1e-5 < float((e.logits - e.reference).abs().max()) < 1e-2
    assert e.artifact.bytes < 0.7 * exported[Precision.FP32].artifact.bytes


@pytest.mark.parametrize("precision", INT8)
def test_int8_computes_what_int8_means(tmp_path: Path, precision: Precision) -> None:
    """The file against an independent imitation of its arithmetic in float.

    q stays float, so k and v share their input with a layer that must not see it rounded. Static biases are rounded
    too, by 1e-5, which behind the first layer flips a few roundings in most images: that one stays float here.
    """
    model, images, seen = small_model(), some_images(24), some_images(16, 2)
    kept = ("embedding.patch_embed.proj", "blocks.0.attn.q")
    export(model, tmp_path / "x.onnx", precision, calibration=seen, keep_float=kept)
    got = run(tmp_path / "x.onnx", images)
    imitated = predict(fake_quantized(lower(model, norms="native"), SCHEMES[precision], seen, kept), images)
    dynamic = precision is Precision.INT8_DYNAMIC
    with torch.no_grad():
        error = (imitated - model(images)).abs()
    assert float((got - imitated).abs().median()) < (1e-6 if dynamic else 1e-4)
    assert float(error.median()) > 1e-3
    # Constants: not int8 against float, but two computations of the same, apart where a rounding goes the other way.
    assert centred_cosine(got, imitated) > (0.999 if dynamic else 0.98)


def test_artifact_says_what_it_is(exported: dict[Precision, Exported]) -> None:
    for precision, e in exported.items():
        assert (e.artifact.target, e.artifact.precision) == ("onnx", precision)
        assert e.artifact == Artifact.of(e.path, "onnx", precision)
        assert sorted(p.name for p in e.path.parent.iterdir()) == sorted(f"{p}.onnx" for p in exported)


def test_inspect(exported: dict[Precision, Exported]) -> None:
    lowered: Any = lower(small_model(), norms="native")
    matrices = {name: lowered.get_submodule(name).weight for name in quantized_layers(lowered)}
    for precision, e in exported.items():
        contents = TARGET.inspect(e.path)
        (image,), (logits,) = contents.inputs, contents.outputs
        assert (image.name, image.shape, image.dtype) == ("image", (1, 3, 16, 16), "float32")
        assert (logits.name, logits.shape, logits.dtype) == ("logits", (1, 4), "float32")
        assert contents.metadata == METADATA
        assert contents.delegates == 0 and not any(o.delegated for o in contents.operators)
        program = TARGET.load(e.path, 1)
        assert (program.input_shape, program.input_dtype) == ((1, 3, 16, 16), "float32")
        sizes = weights(contents)
        assert sum(sizes.values()) < e.artifact.bytes
        if precision in INT8:
            # The weights and, at most, a zero point for each of their rows.
            own = [w for n, w in matrices.items() if n in int8_weights(e.path)]
            assert 0 <= sizes["int8"] - sum(w.numel() for w in own) <= sum(len(w) for w in own)
        else:
            bits = {Precision.FP32: 32, Precision.FP16: 16}[precision]
            assert sizes[f"float{bits}"] > sum(w.numel() for w in matrices.values()) * bits // 8


def test_every_layer_is_quantized_once(exported: dict[Precision, Exported]) -> None:
    layers = set(quantized_layers(lower(small_model(), norms="native")))
    convolution = {"embedding.patch_embed.proj"}
    assert int8_weights(exported[Precision.INT8_STATIC].path) == layers
    assert int8_weights(exported[Precision.INT8_DYNAMIC].path) == layers - convolution
    dynamic = operators(exported[Precision.INT8_DYNAMIC].path)
    assert dynamic["MatMulInteger"] == len(layers) - 1
    # q, k and v read one quantized tensor, and the attention's own products stay float.
    assert dynamic["DynamicQuantizeLinear"] == len(layers) - 1 - 2 * BLOCKS
    assert dynamic["MatMul"] == 2 * BLOCKS
    static = operators(exported[Precision.INT8_STATIC].path)
    assert static["Gemm"] == len(layers) - 1 and static["MatMul"] == 2 * BLOCKS
    assert static["QuantizeLinear"] == len(layers) - 2 * BLOCKS


@pytest.mark.parametrize("precision", INT8)
def test_layers_kept_in_float(tmp_path: Path, precision: Precision) -> None:
    path, kept = tmp_path / "x.onnx", ("blocks.1.attn.qkv", "blocks.0.fc2", "head", "embedding.patch_embed.proj")
    export(small_model(), path, precision, keep_float=kept)
    layers = set(quantized_layers(lower(small_model())))
    parts = {"blocks.1.attn.q", "blocks.1.attn.k", "blocks.1.attn.v"}
    assert int8_weights(path) == layers - set(kept) - parts


@pytest.mark.parametrize("precision", INT8)
def test_all_layers_kept_in_float(tmp_path: Path, precision: Precision) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).eval()
    export(model, tmp_path / "x.onnx", precision, keep_float=("1",))
    assert "int8" not in weights(TARGET.inspect(tmp_path / "x.onnx"))


def test_observers_choose_other_ranges(tmp_path: Path) -> None:
    images = some_images(32, 2)
    images[3, 0, 0, 0] = 40.0
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).eval()
    scales: dict[Observer | None, float] = {}
    for observer in (None, *TARGET.observers):
        export(model, tmp_path / "x.onnx", Precision.INT8_STATIC, calibration=images, observer=observer)
        scale = next(t for t in onnx.load(tmp_path / "x.onnx").graph.initializer if t.name.endswith("view_scale"))
        scales[observer] = float(numpy_helper.to_array(scale))
    minmax, percentile, mse = (scales[o] for o in (Observer.MINMAX, Observer.PERCENTILE, Observer.MSE))
    assert 40 / 255 < minmax < 50 / 255
    assert percentile < 10 / 255 and mse < minmax and mse != percentile
    assert scales[None] == scales[TARGET.observers[0]]


@pytest.mark.parametrize("precision", [Precision.FP16, *INT8])
def test_pixels_in(tmp_path: Path, precision: Precision) -> None:
    model = small_model()
    pixels = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    normalised = (pixels / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    folded, path = fold_normalization(model, MEAN, STD), tmp_path / "x.onnx"
    export(folded, path, precision, example=pixels[:1], calibration=pixels)
    assert TARGET.load(path, 1).input_dtype == TARGET.inspect(path).inputs[0].dtype == "uint8"
    with torch.no_grad():
        reference = model(normalised)
    got = run(path, pixels)
    if precision in INT8:
        assert as_its_scheme(TARGET, precision, model, normalised, normalised, got)
    else:
        assert centred_cosine(got, reference) > 0.9999  # a constant: float16 is not simulated


@pytest.mark.parametrize("precision", INT8)
def test_the_beginning_of_a_model(tmp_path: Path, precision: Precision) -> None:
    # Half of the second block: its MLP is there, but does not run.
    model, images, path = small_model(), some_images(4), tmp_path / "x.onnx"
    prefix = Prefix(model, 3)
    export(prefix, path, precision, keep_float=("blocks.0.fc2",))
    with torch.no_grad():
        reference = prefix(images)
    got = run(path, images)
    assert got.shape == reference.shape
    assert part_as_scheme(TARGET, precision, model, images, some_images(16, 2), (reference, got))
    assert len(int8_weights(path)) == 6 + 4 - 1 + (precision is Precision.INT8_STATIC)


@pytest.mark.parametrize("precision", TARGET.precisions)
def test_any_module(tmp_path: Path, precision: Precision) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(392, 16, bias=False), nn.GELU(), nn.Linear(16, 5)
    ).eval()
    images, seen, path = some_images(6), some_images(16, 2), tmp_path / "x.onnx"
    export(model, path, precision, calibration=seen)
    expected = fake_quantized(model, SCHEMES[precision], seen) if precision in INT8 else model
    difference = (run(path, images) - predict(expected, images).flatten(1)).abs()
    # The median: where a value lies between two integers, one that rounds the other way moves one image's result.
    assert float(difference.median()) < (1e-3 if precision is Precision.FP16 else 1e-5)
    assert float(difference.max()) < 1e-2
    if precision in INT8:
        assert int8_weights(path) == {"3", "5"} | ({"0"} if precision is Precision.INT8_STATIC else set())


@pytest.mark.parametrize("precision", INT8)
def test_matrices_that_the_exporter_leaves_transposed(tmp_path: Path, precision: Precision) -> None:
    """It folds transposes of small constants only, and the tools do not quantize a transposed one."""
    torch.manual_seed(0)
    shared = nn.Linear(1536, 1536)
    model = nn.Sequential(shared, nn.GELU(), nn.Linear(1536, 1536, bias=False), nn.Flatten(), nn.Linear(3072, 4))
    model[2].weight = shared.weight
    x = torch.randn(8, 1, 2, 1536)
    path = tmp_path / "x.onnx"
    export(model.eval(), path, precision, example=x[0], calibration=x.reshape(8, 2, 1536))
    assert int8_weights(path) == {"0", "2", "4"}
    assert "Transpose" not in operators(path)
    with torch.no_grad():
        reference = torch.cat([model(image) for image in x])
    # A constant, as below: what is no timm model is not simulated.
    assert centred_cosine(torch.cat([TARGET.load(path, 1)(image) for image in x]), reference) > 0.99


@pytest.mark.parametrize("precision", INT8)
def test_small_weights_are_not_rounded_away(tmp_path: Path, precision: Precision) -> None:
    """LayerScale folded in makes weights of 1e-7 and less, whose scales a toolkit may not raise to a floor."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 64), nn.GELU(), nn.Linear(64, 16)).eval()
    images = some_images(6)
    with torch.no_grad():
        for parameter in model[3].parameters():
            parameter.mul_(1e-6)
        reference = model(images)
    export(model, tmp_path / "x.onnx", precision)
    # A constant: a scale raised to a floor rounds all of these weights to 0.
    assert centred_cosine(1e6 * run(tmp_path / "x.onnx", images), 1e6 * reference) > 0.99


def test_nothing_of_this_machine_is_in_the_file(exported: dict[Precision, Exported]) -> None:
    for e in exported.values():
        data = e.path.read_bytes()
        assert str(Path.cwd()).encode() not in data
        assert b"stack_trace" not in data and b"lowering.py" not in data


def test_options_that_the_target_lacks(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(InputError, match="calibration images"):
        export(small_model(), path, Precision.INT8_STATIC, calibration=None)
    with pytest.raises(InputError, match=r"no precision 'palette4'.*fp32, fp16, int8-dynamic, int8-static"):
        export(small_model(), path, Precision.PALETTE4)
    assert not list(tmp_path.iterdir())


def test_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).eval()
    for precision in TARGET.precisions:
        path = tmp_path / f"{precision}.onnx"
        export(model, path, precision)
        TARGET.load(path, 1)(some_images(1))
        TARGET.inspect(path)
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x0a" * 100)
    for look in (lambda p: TARGET.load(p, 1), TARGET.inspect):
        with pytest.raises(InputError):
            look(tmp_path / "bad.onnx")
    assert capfd.readouterr() == ("", "")


def test_threads(exported: dict[Precision, Exported]) -> None:
    e = exported[Precision.FP32]
    program = TARGET.load(e.path, threads=2)
    options = program._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TARGET.missing() == []
    assert set(TARGET.versions()) >= {"onnx", "onnxruntime", "onnxscript", "torch"}
    assert TARGET.default_precision in TARGET.precisions and TARGET.observers[0] in Observer
    monkeypatch.setattr("wdp_edge.targets.onnx.find_spec", lambda name: None if name == "onnxruntime" else object())
    assert ONNXTarget().missing() == ["onnxruntime>=1.23,<2"]
    with pytest.raises(SetupError, match=r"needs onnxruntime.*pip install 'wdp-edge\[onnx\]'"):
        get_target("onnx")


def test_the_adapter_imports_no_toolkit() -> None:
    code = "import sys, wdp_edge.targets.onnx; print(*({'onnx', 'onnxruntime', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
