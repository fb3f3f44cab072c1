"""targets/tflite/target.py: real exports of a tiny ViT, run by LiteRT's own runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tflite_models import METADATA, error, run, small_model, some_images
from torch import Tensor, nn

from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import sha256
from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.vit import Prefix
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, ExportOptions, TensorInfo, get_target, parse_precision, target_names
from wdp_edge.targets.tflite.pack import unpack
from wdp_edge.targets.tflite.target import TFLiteTarget


@dataclass(frozen=True)
class Exported:
    artifact: Artifact
    logits: Tensor
    reference: Tensor


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Exported]:
    """The cut model in every precision, with its logits on eight images and those of the eager model."""
    target, folder = get_target("tflite"), tmp_path_factory.mktemp("tflite")
    model, images = small_model(), some_images(8)
    reference = model(images)
    made = {}
    for precision in target.precisions:
        calibration = some_images(32) if precision == Precision.INT8_STATIC else None
        options = ExportOptions(precision, calibration, metadata=METADATA)
        artifact = target.export(model, images[:1], folder / f"{precision}.tflite", options)
        made[precision] = Exported(artifact, run(artifact.path, images), reference)
    return made


def test_fp32_equals_the_model(exported: dict[Precision, Exported]) -> None:
    e = exported[Precision.FP32]
    assert float((e.logits - e.reference).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("precision", "most", "stored"),
    [
        (Precision.FP16, 0.003, "float16"),
        (Precision.INT8_WEIGHT, 0.03, "int8"),
        (Precision.INT8_DYNAMIC, 0.05, "int8"),
        (Precision.INT8_STATIC, 0.1, "int8"),
    ],
)
def test_smaller_files_stay_close(
    exported: dict[Precision, Exported], precision: Precision, most: float, stored: str
) -> None:
    e = exported[precision]
    # It is what it says, not float32 under another name: every layer is stored so.
    assert 1e-6 < error(e.logits, e.reference) < most
    assert e.artifact.bytes < exported[Precision.FP32].artifact.bytes
    found = {w.dtype: w.tensors for w in TFLiteTarget().inspect(e.artifact.path).weights}
    assert found[stored] == len(quantized_layers(lower(small_model())))


def test_artifact_says_what_it_is(exported: dict[Precision, Exported]) -> None:
    for precision, e in exported.items():
        path = e.artifact.path
        assert (e.artifact.target, e.artifact.precision) == ("tflite", precision)
        assert e.artifact.bytes == path.stat().st_size and e.artifact.sha256 == sha256(path)
        assert sorted(p.name for p in path.parent.iterdir()) == sorted(f"{p}.tflite" for p in exported)


def test_what_is_inside(exported: dict[Precision, Exported]) -> None:
    for precision, e in exported.items():
        inside = TFLiteTarget().inspect(e.artifact.path)
        assert inside.metadata == METADATA
        (entry,), (result,) = inside.inputs, inside.outputs
        assert entry == TensorInfo(entry.name, (1, 3, 16, 16), "float32")
        assert result == TensorInfo(result.name, (1, 4), "float32")
        kinds = {o.kind: o for o in inside.operators}
        assert kinds["SOFTMAX"].count == 2 and kinds["CONV_2D"].count == 1
        # All of a ViT is one XNNPACK subgraph.
        assert inside.delegates == 1
        assert all(o.delegated == o.count for o in inside.operators)
        assert ("QUANTIZE" in kinds) == (precision == Precision.INT8_STATIC)
        assert sum(w.bytes for w in inside.weights) < e.artifact.bytes


def test_tensors_are_named_by_the_part_of_the_model(exported: dict[Precision, Exported]) -> None:
    for e in exported.values():
        tensors = unpack(e.artifact.path.read_bytes()).subgraphs[0].tensors
        names = {part for tensor in tensors for part in tensor.name.decode().split(";")}
        assert {"blocks.1.attn.q", "blocks.1.fc2", "embedding.patch_embed.proj"} <= names
        assert not [name for name in names if "wdp_edge" in name or "torch" in name]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8_DYNAMIC])
def test_pixels_in(tmp_path: Path, precision: Precision) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    model = small_model()
    pixels = torch.randint(0, 256, (8, 3, 16, 16), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    normal = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    path = tmp_path / "pixels.tflite"
    TFLiteTarget().export(fold_normalization(model, mean, std), pixels[:1], path, ExportOptions(precision))
    program = TFLiteTarget().load(path, 1)
    assert (program.input_shape, program.input_dtype) == ((1, 3, 16, 16), "uint8")
    assert TFLiteTarget().inspect(path).inputs[0].dtype == "uint8"
    assert error(run(path, pixels), model(normal)) < (1e-4 if precision == Precision.FP32 else 0.05)


def test_a_prefix_and_a_plain_network(tmp_path: Path) -> None:
    images, target = some_images(2), TFLiteTarget()
    target.export(Prefix(small_model(), 3), images[:1], tmp_path / "p.tflite", ExportOptions(Precision.INT8_DYNAMIC))
    assert target.load(tmp_path / "p.tflite", 1)(images[:1]).shape == (1, 17, 32)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 4)).eval()
    network.requires_grad_(False)
    target.export(network, images[:1], tmp_path / "n.tflite", ExportOptions(Precision.INT8_DYNAMIC))
    assert torch.allclose(run(tmp_path / "n.tflite", images), network(images), atol=0.05)
    assert {w.dtype: w.tensors for w in target.inspect(tmp_path / "n.tflite").weights}["int8"] == 2


def test_export_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target, images = TFLiteTarget(), torch.randn(4, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    target.export(model, images[:1], tmp_path / "x.tflite", ExportOptions(Precision.INT8_STATIC, images))
    target.load(tmp_path / "x.tflite", 1)(images[:1])
    target.inspect(tmp_path / "x.tflite")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_wrong_options(tmp_path: Path) -> None:
    target, images = get_target("tflite"), some_images(1)
    for precision, message in [(Precision.INT8_STATIC, "calibration images"), (Precision.PALETTE4, "no precision")]:
        with pytest.raises(InputError, match=message):
            target.export(small_model(), images, tmp_path / "x.tflite", ExportOptions(precision))
    assert not list(tmp_path.iterdir())


def test_a_hidden_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = get_target("tflite")
    assert "tflite" in target_names()
    assert parse_precision("default", target) == Precision.INT8_DYNAMIC
    assert set(target.versions()) >= {"ai-edge-litert", "litert-torch", "torch"}
    # Without the converter files still run; exporting says what is missing.
    monkeypatch.setattr("wdp_edge.targets.tflite.export.find_spec", lambda name: None)
    assert TFLiteTarget().missing() == []
    with pytest.raises(SetupError, match="needs litert-torch"):
        target.export(nn.Linear(4, 2), torch.zeros(1, 4), tmp_path / "x.tflite", ExportOptions(Precision.FP32))
    monkeypatch.setattr("wdp_edge.targets.tflite.runtime.find_spec", lambda name: None)
    with pytest.raises(SetupError, match="needs ai-edge-litert"):
        get_target("tflite")
