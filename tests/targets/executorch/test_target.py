"""targets/executorch/target.py: real exports of a tiny ViT, run by ExecuTorch's own runtime."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pte_files import KEPT, dense_model, some_images
from torch import Tensor, nn
from torch.export import ExportedProgram

from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import sha256
from wdp_edge.lowering.vit import lower
from wdp_edge.models.surgery import cut
from wdp_edge.models.vit import set_fused_attention
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, ExportOptions, get_target, parse_precision, target_names
from wdp_edge.targets.executorch.file import check_file
from wdp_edge.targets.executorch.precisions import quantize_weights
from wdp_edge.targets.executorch.target import ExecuTorchTarget
from wdp_edge.targets.shared.quiet import quiet

INDEXING = ("index", "index_put", "index_select", "gather", "scatter", "select_scatter", "masked")


@dataclass(frozen=True)
class Exported:
    artifact: Artifact
    model: nn.Module
    logits: Tensor
    reference: Tensor


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Exported]:
    """The cut model in every precision, with its logits on eight images and those of the eager model."""
    target, folder = get_target("executorch"), tmp_path_factory.mktemp("pte")
    model, images = cut(dense_model(), KEPT), some_images(8)
    with torch.no_grad():
        reference = model(images)
    made = {}
    for precision in target.precisions:
        path = folder / f"{precision}.pte"
        artifact = target.export(model, images[:1], path, ExportOptions(precision, some_images(16)))
        program = target.load(path, threads=1)
        assert program.input_shape == (1, 3, 16, 16)
        logits = torch.cat([program(x) for x in images.split(1)])
        made[precision] = Exported(artifact, model, logits, reference)
    return made


def test_fp32_equals_the_model(exported: dict[Precision, Exported]) -> None:
    e = exported[Precision.FP32]
    assert float((e.logits - e.reference).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("precision", "cosine"),
    [
        (Precision.FP16, 0.9999),
        (Precision.INT8_DYNAMIC, 0.99),
        (Precision.INT8_STATIC, 0.96),
    ],
)
def test_precisions_stay_close(exported: dict[Precision, Exported], precision: Precision, cosine: float) -> None:
    e = exported[precision]
    mean = e.reference.mean(0)
    centred = torch.cosine_similarity(e.logits - mean, e.reference - mean)
    assert float(centred.min()) > cosine
    # It is another precision, not float32 under another name.
    assert float((e.logits - e.reference).abs().max()) > 1e-4
    assert e.artifact.bytes < exported[Precision.FP32].artifact.bytes


def test_int4_computes_what_its_weights_mean(exported: dict[Precision, Exported]) -> None:
    """4 bits cost so small a model a lot; the file must lose nothing beyond that."""
    e, images = exported[Precision.INT4_WEIGHT], some_images(8)
    lowered = lower(e.model)
    with torch.no_grad():
        quantize_weights(lowered, ())
        meant = torch.cat([lowered(x) for x in images.split(1)])
    mean = meant.mean(0)
    assert float(torch.cosine_similarity(e.logits - mean, meant - mean).min()) > 0.99
    assert float((e.logits - e.reference).abs().max()) > 1e-2


def test_artifact_says_what_it_is(exported: dict[Precision, Exported]) -> None:
    for precision, e in exported.items():
        path = e.artifact.path
        assert (e.artifact.target, e.artifact.precision) == ("executorch", precision)
        assert e.artifact.bytes == path.stat().st_size and e.artifact.sha256 == sha256(path)
        assert sorted(p.name for p in path.parent.iterdir()) == sorted(f"{p}.pte" for p in exported)


def operators(program: ExportedProgram) -> set[str]:
    return {str(n.target) for n in program.graph.nodes if n.op == "call_function"}


def test_a_cut_model_exports_no_operator_that_the_dense_one_lacks() -> None:
    dense, images = dense_model(), some_images(1)
    small = cut(dense, KEPT)
    for form in (lambda m: m, lower):
        graphs = []
        for model in (dense, small):
            set_fused_attention(model, False)
            with quiet():
                graphs.append(operators(torch.export.export(form(model), (images,))))
        assert graphs[1] <= graphs[0]
        assert not [op for op in graphs[1] for word in INDEXING if f"aten.{word}" in op]


def test_static_quantization_asks_for_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="calibration images"):
        get_target("executorch").export(
            dense_model(), some_images(1), tmp_path / "x.pte", ExportOptions(Precision.INT8_STATIC)
        )
    assert not list(tmp_path.iterdir())


def test_export_says_nothing_on_stdout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = get_target("executorch")
    artifact = target.export(
        nn.Linear(4, 2).eval(), torch.zeros(1, 4), tmp_path / "x.pte", ExportOptions(Precision.FP32)
    )
    target.load(artifact.path, 1)(torch.zeros(1, 4))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("kept", [0, 3, 20, 47, 100, 0.5, -1])
def test_a_file_that_was_cut_short(exported: dict[Precision, Exported], tmp_path: Path, kept: float) -> None:
    whole = exported[Precision.FP32].artifact.path.read_bytes()
    path = tmp_path / "model.pte"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"cut short|not an ExecuTorch program"):
        get_target("executorch").load(path, 1)


@pytest.mark.parametrize("content", [b"not a model" * 50, random.Random(0).randbytes(4096)])
def test_a_foreign_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not an ExecuTorch program"):
        get_target("executorch").load(path, 1)
    with pytest.raises(InputError, match="does not exist"):
        get_target("executorch").load(tmp_path / "absent.pte", 1)


def test_a_damaged_program(exported: dict[Precision, Exported], tmp_path: Path) -> None:
    data = bytearray(exported[Precision.FP32].artifact.path.read_bytes())
    data[48:2000] = bytes(1952)
    path = tmp_path / "model.pte"
    path.write_bytes(data)
    check_file(path)
    with pytest.raises(InputError, match="cannot load"):
        get_target("executorch").load(path, 1)


def test_precisions_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    target = get_target("executorch")
    assert "executorch" in target_names()
    assert parse_precision("default", target) == Precision.INT8_DYNAMIC
    with pytest.raises(InputError, match="no precision 'int4'"):
        parse_precision("int4", target)
    assert set(target.versions()) >= {"executorch", "torch", "torchao"}
    monkeypatch.setattr("wdp_edge.targets.executorch.target.find_spec", lambda name: None)
    assert ExecuTorchTarget().missing()
    with pytest.raises(SetupError, match="needs executorch"):
        get_target("executorch")
