"""What a run takes from another one with another budget, and when it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wdp_edge.config.recipe import PruneRecipe, Recipe
from wdp_edge.io.files import write_json
from wdp_edge.protocols.target import Artifact
from wdp_edge.runs.run import Run
from wdp_edge.runs.shared import take_shared
from wdp_edge.runs.stages import MANIFEST

BASIS = {"checkpoint": {"sha256": "a"}, "data": {"train": 1}, "device": {"name": "local"}, "versions": {"torch": "2"}}


def run_of(folder: Path, budget: str, **where: str) -> Run:
    with Run(folder, Recipe(prune=PruneRecipe(latency_budget=budget, **where))) as run:  # type: ignore[arg-type]
        run.update_manifest(**BASIS)
    return run


@pytest.fixture
def sibling(tmp_path: Path) -> Path:
    """A run with a dense file, a model in principal axes, a table, and a choice that its budget made."""
    run = run_of(tmp_path / "first", "50%")
    for path in ("artifacts/dense.onnx", "artifacts/dense.onnx.json", "stages/axes/model.safetensors"):
        (run.path / path).parent.mkdir(parents=True, exist_ok=True)
        (run.path / path).write_text(path)
    write_json(
        run.path / "stages/dense-artifact.json",
        Artifact(run.path / "artifacts/dense.onnx", "onnx", "fp32", 9, "0" * 64),
    )
    for name in ("axes", "table", "select"):
        write_json(run.path / f"stages/{name}.json", {"name": name})
    return run.path


def test_what_no_budget_decides_is_taken_with_its_files(sibling: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "second", "30%")
    write_json(run.path / "stages/table.json", {"name": "its own"})
    take_shared(sibling, run)
    assert {p.name for p in (run.path / "stages").glob("*.json")} == {"axes.json", "dense-artifact.json", "table.json"}
    assert "its own" in (run.path / "stages/table.json").read_text()
    assert (run.path / "stages/axes/model.safetensors").read_text() == "stages/axes/model.safetensors"
    assert (run.path / "artifacts/dense.onnx.json").exists()
    assert run.stage("dense-artifact", Artifact, pytest.fail).path == run.path / "artifacts/dense.onnx"
    assert set(run.manifest()["artifacts"]) == {"artifacts/dense.onnx"}


@pytest.mark.parametrize("where", [{"target": "onnx"}, {"device": "qemu:cortex-a76"}])
def test_another_target_or_device_takes_what_is_of_the_model(
    sibling: Path, tmp_path: Path, where: dict[str, str]
) -> None:
    run = run_of(tmp_path / "second", "30%", **where)
    run.update_manifest(device={"name": "another"}, versions={"torch": "2", "onnxruntime": "1"})
    take_shared(sibling, run)
    assert {p.name for p in (run.path / "stages").glob("*.json")} == {"axes.json"}
    assert (run.path / "stages/axes/model.safetensors").exists() and not (run.path / "artifacts/dense.onnx").exists()


@pytest.mark.parametrize("changed", [{"data": {"train": 2}}, {"versions": {"torch": "3"}}, {"checkpoint": {}}])
def test_another_target_takes_nothing_of_another_model(
    sibling: Path, tmp_path: Path, changed: dict[str, dict[str, Any]]
) -> None:
    run = run_of(tmp_path / "second", "50%", target="onnx")
    run.update_manifest(**changed)
    take_shared(sibling, run)
    assert not list((run.path / "stages").glob("*.json"))


@pytest.mark.parametrize("name", BASIS)
def test_nothing_is_taken_from_another_model_or_machine(sibling: Path, tmp_path: Path, name: str) -> None:
    run = run_of(tmp_path / "second", "30%")
    run.update_manifest(**{name: {"sha256": "another"}})
    take_shared(sibling, run)
    assert not list((run.path / "stages").glob("*.json"))


def test_nothing_is_taken_from_a_run_with_other_settings(sibling: Path, tmp_path: Path) -> None:
    with Run(tmp_path / "second", Recipe(prune=PruneRecipe(latency_budget="30%", seed=1))) as run:
        run.update_manifest(**BASIS)
    take_shared(sibling, run)
    assert not list((run.path / "stages").glob("*.json"))


@pytest.mark.parametrize("other", [lambda first: first.parent / "none", lambda first: first])
def test_no_run_and_the_run_itself_give_nothing(sibling: Path, other: Callable[[Path], Any]) -> None:
    before = (sibling / MANIFEST).read_bytes()
    take_shared(other(sibling), Run(sibling, Recipe()))
    assert (sibling / MANIFEST).read_bytes() == before
