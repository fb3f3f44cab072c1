"""wdp_edge/artifacts/sidecar.py: what is noted beside a file after it was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from wdp_edge.artifacts.sidecar import Sidecar, note_proofs, read_sidecar, sidecar_path
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.errors import InputError
from wdp_edge.io.files import sha256, write_json
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.precision import Precision
from wdp_edge.runs.results import ProcessorProof

HERE = ProcessorProof("x86-64 avx512-vnni", True, 64)
THERE = ProcessorProof("x86-64 avx2", True, 32, "qemu-x86_64 -cpu Haswell", 2e-7)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"bytes of a model")
    look = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", 1.0)
    structure = Structure(32, (BlockWidths(2, 16, 64),))
    made = Sidecar("onnx", Precision.INT8_DYNAMIC, sha256(path), look, ["a", "b"], structure, tmp_path)
    write_json(sidecar_path(path), made)
    return path


def test_every_processor_is_noted_once_with_its_latest_proof(artifact: Path) -> None:
    assert read_sidecar(artifact).proven_on == []
    assert note_proofs(artifact, [HERE]) == [HERE]
    worse = ProcessorProof(THERE.processor, False, 32, THERE.emulator, 0.5)
    assert note_proofs(artifact, [worse]) == [HERE, worse]
    assert note_proofs(artifact, [HERE, THERE]) == [HERE, THERE]
    assert read_sidecar(artifact).proven_on == [HERE, THERE]


def test_a_file_that_was_changed_gets_no_proof(artifact: Path) -> None:
    artifact.write_bytes(b"other bytes")
    with pytest.raises(InputError, match="changed or cut short"):
        note_proofs(artifact, [HERE])
