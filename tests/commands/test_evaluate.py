"""Which images a file is judged on, and which files can be judged alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from class_folders import write_classes

from wdp_edge.artifacts.sidecar import InputFacts, read_sidecar, write_sidecar
from wdp_edge.commands.evaluate import evaluate, own_images
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.errors import InputError
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact

LOOK = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", 1.0)


def file_of(folder: Path, task: str) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(b"bytes of a model")
    (folder / "val").mkdir()
    facts = InputFacts(LOOK, ("a", "b"), folder / "val", task)
    write_sidecar(Artifact.of(path, "onnx", Precision.FP32), facts, Structure(32, (BlockWidths(2, 16, 64),)))
    return path


def test_a_file_outside_a_run_is_judged_where_it_was_made(tmp_path: Path) -> None:
    path = file_of(tmp_path, "classify")
    assert own_images(path, read_sidecar(path)) == tmp_path / "val"
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(InputError, match="validation images of") as caught:
        own_images(path, read_sidecar(path))
    assert "--val" in caught.value.options


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "holds no JSON object"),
        ('{"artifacts": []}', "does not say which files it has"),
        ('{"artifacts": {"artifacts/model.onnx": 3}}', "does not say which files it has"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "artifacts").mkdir()
    path = file_of(tmp_path / "artifacts", "classify")
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=said):
        own_images(path, read_sidecar(path))


def test_a_classifier_without_labels_gets_an_accuracy_from_images_with_some(tmp_path: Path) -> None:
    path = file_of(tmp_path, "classify-unlabelled")
    with pytest.raises(InputError, match="its agreement is with the dense model's outputs") as caught:
        evaluate(path)
    assert "--val" in (caught.value.hint or "")
    write_classes(tmp_path / "named", {"cat": 1, "dog": 1})
    with pytest.raises(InputError, match="knows its 2 classes as a, b"):
        evaluate(path, tmp_path / "named")


def test_embeddings_are_held_against_the_dense_model_which_a_file_does_not_bring(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for the task 'features'"):
        evaluate(file_of(tmp_path, "features"))
