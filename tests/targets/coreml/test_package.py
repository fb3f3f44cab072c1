"""targets/coreml/package.py: packages that are missing, cut short, damaged, foreign or malicious."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wdp_edge.errors import InputError
from wdp_edge.targets.coreml.package import read_package, stored_tensors
from wdp_edge.targets.coreml.target import CoreMLTarget

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture
def package(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model.mlpackage"))


def refused(path: Path) -> str:
    """What load and inspect both say."""
    said = []
    for look in (lambda: CoreMLTarget().load(path, 1), lambda: CoreMLTarget().inspect(path)):
        with pytest.raises(InputError) as error:
            look()
        said.append(str(error.value))
    assert said[0] == said[1]
    return said[0]


def change_manifest(package: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = package / "Manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def point_to(item: str) -> Callable[[dict[str, Any]], None]:
    return lambda m: m["itemInfoEntries"][m["rootModelIdentifier"]].update(path=item)


def test_sound(sound: Path) -> None:
    kinds = {t.dtype for t in stored_tensors(read_package(sound))}
    assert kinds == {"INT4", "INT8", "FLOAT16"}


def test_missing_and_foreign(package: Path, tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "absent.mlpackage")
    other = tmp_path / "model.pte"
    other.write_bytes(b"not a model" * 50)
    assert "not a Core ML package" in refused(other)
    assert "not a Core ML package" in refused(package / "Data")
    (package / "Manifest.json").write_text("{")
    assert "Manifest.json is missing or broken" in refused(package)


@pytest.mark.parametrize("wrong", [[], {}, {"rootModelIdentifier": "a", "itemInfoEntries": {"a": 3}}])
def test_manifests_of_another_form(package: Path, wrong: Any) -> None:
    (package / "Manifest.json").write_text(json.dumps(wrong))
    assert "Manifest.json is missing or broken" in refused(package)


def test_manifests_that_point_outside(package: Path, tmp_path: Path) -> None:
    shutil.copy(package / MODEL, tmp_path / "elsewhere.mlmodel")
    for item in ("../../elsewhere.mlmodel", str(tmp_path / "elsewhere.mlmodel"), "../Manifest.json"):
        change_manifest(package, point_to(item))
        assert "outside its folder" in refused(package)
    (package / "Data/link.mlmodel").symlink_to(tmp_path / "elsewhere.mlmodel")
    change_manifest(package, point_to("link.mlmodel"))
    assert "outside its folder" in refused(package)


@pytest.mark.parametrize("file", [MODEL, WEIGHTS])
def test_files_that_are_missing(package: Path, file: str) -> None:
    (package / file).unlink()
    assert "is missing" in refused(package)


def test_weights_that_are_a_link_to_elsewhere(package: Path, tmp_path: Path) -> None:
    (package / WEIGHTS).rename(tmp_path / "weight.bin")
    (package / WEIGHTS).symlink_to(tmp_path / "weight.bin")
    assert "outside its folder" in refused(package)


@pytest.mark.parametrize("kept", [0, 30, 64, 100, 0.3, 0.9, -1])
def test_weights_that_were_cut_short(package: Path, kept: float) -> None:
    whole = (package / WEIGHTS).read_bytes()
    end = max(t.offset for t in stored_tensors(read_package(package)))
    cut = int(kept * len(whole)) if isinstance(kept, float) else kept if kept >= 0 else end + 64
    (package / WEIGHTS).write_bytes(whole[:cut])
    assert "cut short" in refused(package)


def test_weights_whose_records_are_gone(package: Path) -> None:
    (package / WEIGHTS).write_bytes(bytes((package / WEIGHTS).stat().st_size))
    assert "damaged" in refused(package)


@pytest.mark.parametrize("name", ["@model_path/weights/../../Manifest.json", "/etc/hostname", "@model_path/weights/.."])
def test_weights_read_from_elsewhere(package: Path, name: str) -> None:
    model = read_package(package).model
    for operation in model.mlProgram.functions["main"].block_specializations["CoreML8"].operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.value.HasField("blobFileValue"):
                    binding.value.blobFileValue.fileName = name
    (package / MODEL).write_bytes(model.SerializeToString())
    assert "reads weights from" in refused(package)


def test_weights_of_an_unknown_type(package: Path) -> None:
    model = read_package(package).model
    for operation in model.mlProgram.functions["main"].block_specializations["CoreML8"].operations:
        for value in operation.attributes.values():
            if value.HasField("blobFileValue"):
                value.type.tensorType.dataType = 999
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.value.HasField("blobFileValue"):
                    binding.value.type.tensorType.dataType = 999
    (package / MODEL).write_bytes(model.SerializeToString())
    assert "not sound" in refused(package)


def test_a_model_that_is_no_program(package: Path) -> None:
    from coremltools.proto import Model_pb2

    other = Model_pb2.Model()
    other.identity.SetInParent()
    (package / MODEL).write_bytes(other.SerializeToString())
    assert "holds no ML program" in refused(package)
    (package / MODEL).write_bytes(b"\xff" * 100)
    assert "cannot be parsed" in refused(package)


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_models_are_refused_or_run(sound: Path, package: Path, data: st.DataObject) -> None:
    whole = bytearray((sound / MODEL).read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (package / MODEL).write_bytes(whole)
    for look in (lambda: CoreMLTarget().load(package, 1), lambda: CoreMLTarget().inspect(package)):
        try:
            look()
        except InputError as error:
            assert error.hint
