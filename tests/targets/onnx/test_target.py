"""targets/onnx/target.py: real exports of a tiny ViT, run by ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from int8_error import as_its_scheme, part_as_scheme
from onnx_files import (
    BLOCKS,
    INT8,
    METADATA,
    SCHEMES,
    TARGET,
    centred_cosine,
    export,
    int8_weights,
    operators,
    run,
    small_model,
    some_images,
    weights,
)
from rounded_models import fake_quantized, predict
from torch import Tensor, nn

from wdp_edge.errors import InputError, SetupError
from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.vit import Prefix
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, Observer, get_target
from wdp_edge.targets.onnx.target import ONNXTarget

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


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
        path = folder / f"{precision}.onnx"
        artifact = export(model, path, precision, metadata=METADATA)
        made[precision] = Exported(artifact, run(path, images), reference)
    return made


def test_fp32_equals_the_model(exported: dict[Precision, Exported]) -> None:
    e = exported[Precision.FP32]
    assert float((e.logits - e.reference).abs().max()) < 1e-5
    assert e.logits.dtype == torch.float32


def test_fp16_stays_close(exported: dict[Precision, Exported]) -> None:
    e = exported[Precision.FP16]
    assert centred_cosine(e.logits, e.reference) > 0.9999
    # It is rounded, not float32 under another name.
    assert 1e-5 < float((e.logits - e.reference).abs().max()) < 1e-2
    assert e.artifact.bytes < 0.7 * exported[Precision.FP32].artifact.bytes


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
    # q, k and v read one quantized tensor, but for the last q, which reads one token; attention's own products stay
    # float.
    assert dynamic["DynamicQuantizeLinear"] == len(layers) - 1 - 2 * BLOCKS + 1
    assert dynamic["MatMul"] == 2 * BLOCKS
    static = operators(exported[Precision.INT8_STATIC].path)
    assert static["Gemm"] == len(layers) - 1 and static["MatMul"] == 2 * BLOCKS
    assert static["QuantizeLinear"] == len(layers) - 2 * BLOCKS + 1


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
    assert len(int8_weights(path)) == 6 + 4 - 1 + (precision == Precision.INT8_STATIC)


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
    assert float(difference.median()) < (1e-3 if precision == Precision.FP16 else 1e-5)
    assert float(difference.max()) < 1e-2
    if precision in INT8:
        assert int8_weights(path) == {"3", "5"} | ({"0"} if precision == Precision.INT8_STATIC else set())


def test_nothing_of_this_machine_is_in_the_file(exported: dict[Precision, Exported]) -> None:
    for e in exported.values():
        data = e.path.read_bytes()
        assert str(Path.cwd()).encode() not in data
        assert b"stack_trace" not in data and b"lowering.py" not in data


def test_operators_and_what_they_write_are_named_by_the_part_of_the_model(exported: dict[Precision, Exported]) -> None:
    for precision, e in exported.items():
        graph = onnx.load(e.path).graph
        names = [node.name for node in graph.node]
        assert len(set(names)) == len(names) and {"blocks.1.attn/Softmax", "model/Concat"} <= set(names)
        written = [name for node in graph.node for name in node.output]
        assert len(set(written)) == len(written)
        if precision == Precision.FP32:  # the runtime's tools add operators with names of their own
            assert [name for name in written if "/" not in name] == [graph.output[0].name]


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


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TARGET.missing() == []
    assert set(TARGET.versions()) >= {"onnx", "onnxruntime", "onnxscript", "torch"}
    assert TARGET.default_precision in TARGET.precisions and TARGET.observers[0] in Observer
    monkeypatch.setattr(
        "wdp_edge.targets.onnx.target.find_spec", lambda name: None if name == "onnxruntime" else object()
    )
    assert ONNXTarget().missing() == ["onnxruntime>=1.23,<2"]
    with pytest.raises(SetupError, match=r"needs onnxruntime.*pip install 'wdp-edge\[onnx\]'"):
        get_target("onnx")


def test_the_adapter_imports_no_toolkit() -> None:
    code = "import sys, wdp_edge.targets.onnx.target; print(*({'onnx', 'onnxruntime', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
