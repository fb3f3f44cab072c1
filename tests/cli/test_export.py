"""`wdp-edge export`, `verify` and `inspect`: with ExecuTorch, and with a target in a package of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from installed import installed_toy, use
from tiny_project import Cli, init_words

from wdp_edge.cli import main


@dataclass(frozen=True)
class Exported:
    """A project with a dense run; not to be changed. said: what `wdp-edge export --json` printed."""

    folder: Path
    said: dict[str, Any]


Having = Callable[..., dict[str, Path]]


@pytest.fixture(scope="module", autouse=True)
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The toy target's package, installed by pip into a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        use(installed_toy(tmp_path_factory.mktemp("toy")), patch)
        yield


@pytest.fixture(scope="module")
def begun(template: Path, toy_site: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project with a recipe that verifies on few images; not to be changed."""
    folder = tmp_path_factory.mktemp("begun") / "project"
    shutil.copytree(template, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([str(word) for word in init_words()]) == 0
    recipe = folder / "wdp-edge.toml"
    recipe.write_text(recipe.read_text().replace("images = 256", "images = 8"))
    return folder


@pytest.fixture
def dense(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project without a run, as the working directory."""
    shutil.copytree(begun, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(scope="module")
def exported(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The project after one command that made a file of each of three targets."""
    folder = tmp_path_factory.mktemp("exported") / "project"
    shutil.copytree(begun, folder)
    words = ["export", "--dense", "--target", "toy", "--target", "onnx", "--target", "executorch"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.chdir(folder)
        assert main([*words, "--precision", "fp32", "--json"]) == 0
    return Exported(folder, json.loads(out.getvalue()))


@pytest.fixture
def having(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Having:
    """having("toy") copies the exported project with the files of these targets alone; their paths by target."""

    def copy(*targets: str) -> dict[str, Path]:
        folder = tmp_path / "project"
        shutil.copytree(exported.folder, folder)
        monkeypatch.chdir(folder)
        paths = {artifact["target"]: Path(artifact["path"]) for artifact in exported.said["artifacts"]}
        (manifest,) = folder.glob("runs/*/manifest.json")
        known = json.loads(manifest.read_text())
        for target in paths.keys() - set(targets):
            paths[target].unlink()
            paths[target].with_name(f"{paths[target].name}.json").unlink()
            del known["artifacts"][f"artifacts/{paths.pop(target).name}"]
        manifest.write_text(json.dumps(known))
        return {target: folder / path for target, path in paths.items()}

    return copy


def test_several_targets_and_precisions_at_once(
    cli: Cli, exported: Exported, having: Having, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {a["target"]: a for a in exported.said["artifacts"]}
    assert set(made) == {"toy", "onnx", "executorch"}
    for artifact in made.values():
        assert artifact["verified"] and artifact["parity"]["cosine_centred"] > 0.9999
        assert (exported.folder / artifact["path"]).stat().st_size == artifact["bytes"]

    having("toy", "executorch")
    said = cli("verify", "--json")
    assert said.code == 0, said.err
    assert [a["target"] for a in said.json["artifacts"]] == ["executorch", "toy"]
    assert all(a["latency_ms"]["p50"] > 0 for a in said.json["artifacts"])
    assert "shrunk" not in said.json, "nothing was pruned"
    table = cli("verify").out
    assert table.count("yes") == 2 and "toy" in table
    with monkeypatch.context() as patched:
        patched.setenv("WDP_EDGE_TOY_REFUSES", "1")
        said = cli("verify", "--json")
    assert said.code == 2 and not said.json["verified"]
    assert [a["target"] for a in said.json["artifacts"]] == ["executorch"]
    (lost,) = said.json["unjudged"]
    assert lost["target"] == "toy" and lost["path"].endswith(".pt2") and "does not know" in lost["reason"]

    said = cli("inspect", made["toy"]["path"], "--json")
    assert said.code == 0, said.err
    about = said.json["about"]
    assert about["classes"] == ["blue", "green", "red"] and about["input"]["shape"] == [1, 3, 16, 16]
    assert about["structure"]["embed_dim"] == 32
    assert {o["kind"] for o in said.json["contents"]["operators"]} >= {"aten.linear.default", "aten.softmax.int"}
    assert "aten.linear.default" in cli("inspect", made["toy"]["path"]).out


def test_a_target_without_its_packages_does_not_hide_the_others(
    cli: Cli, dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WDP_EDGE_TOY_LACKS", "1")
    words = ("export", "--dense", "--target", "toy", "--target", "onnx", "--precision", "fp32")
    said = cli(*words, "--json")
    assert said.code == 2 and not said.json["verified"]
    assert [(a["target"], a["verified"]) for a in said.json["artifacts"]] == [("onnx", True)]
    (lost,) = said.json["unjudged"]
    assert (lost["target"], lost["precision"]) == ("toy", "fp32") and "path" not in lost
    assert lost["reason"] == "Target 'toy' needs toy-kit>=1." and "pip install" in lost["hint"]
    said = cli(*words)
    assert said.code == 2 and "toy fp32 is not made: Target 'toy' needs toy-kit>=1." in " ".join(said.out.split())
    said = cli("export", "--dense", "--target", "toy")
    assert said.code == 2 and "Target 'toy' needs toy-kit>=1." in said.err, "the only one"


def test_pixels_go_in_where_normalisation_is_folded(cli: Cli, dense: Path) -> None:
    said = cli("export", "--dense", "--target", "toy", "--fold-normalization", "--json")
    assert said.code == 0, said.err
    (artifact,) = said.json["artifacts"]
    assert cli("inspect", artifact["path"], "--json").json["contents"]["inputs"][0]["dtype"] == "uint8"
    assert cli("evaluate", artifact["path"], "--json").json["images"] == 12
    assert cli("verify").code == 0


def test_the_layer_that_broke_is_named(cli: Cli, dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_TOY_BREAKS", "blocks.1.attn.proj")
    said = cli("export", "--dense", "--target", "toy", "--json")
    assert said.code == 1, said.err
    (artifact,) = said.json["artifacts"]
    assert not artifact["verified"] and artifact["broke_at"] == "blocks.1.attn"
    said = cli("verify")
    assert said.code == 1
    assert "goes wrong at blocks.1.attn" in said.out and "NO" in said.out


def test_wrong_words(cli: Cli, dense: Path) -> None:
    said = cli("export", "--dense", "--target", "toy", "--precision", "int8-dynamic")
    assert said.code == 2 and "Target 'toy' has no precision 'int8-dynamic'" in said.err and "fp32" in said.err
    said = cli("export", "--dense", "--target", "tensorflow")
    assert said.code == 2 and "executorch" in said.err
    assert cli("verify").code == 2, "there is no run yet"
    said = cli("inspect", "data/val")
    assert said.code == 2 and ".pte" in said.err and ".pt2" in said.err
    said = cli("inspect", "model.pte")
    assert said.code == 2 and "does not exist" in said.err


def test_a_damaged_or_missing_file_does_not_hide_the_others(cli: Cli, having: Having) -> None:
    path = having("toy", "onnx", "executorch")
    path["onnx"].write_bytes(path["onnx"].read_bytes()[:-100])
    path["executorch"].unlink()
    said = cli("verify", "--json")
    assert said.code == 2 and not said.json["verified"]
    assert [(a["target"], a["verified"]) for a in said.json["artifacts"]] == [("toy", True)]
    lost = {u["target"]: u for u in said.json["unjudged"]}
    assert "changed or cut short" in lost["onnx"]["reason"] and "does not exist" in lost["executorch"]["reason"]
    assert all(u["precision"] == "fp32" for u in lost.values())

    path["toy"].with_name(path["toy"].name + ".json").write_text("{")
    said = cli("verify")
    assert said.code == 2 and said.out.count("is not judged") == 3 and "toy fp32 is not judged" in said.out


def test_names_in_a_manifest_stay_in_their_run(cli: Cli, having: Having) -> None:
    path, project = having("toy")["toy"], Path.cwd()
    manifest = path.parents[1] / "manifest.json"
    known = json.loads(manifest.read_text())
    for suffix in ("", ".json"):
        shutil.copy(f"{path}{suffix}", f"{project / path.name}{suffix}")
    outside = [
        "../../" + path.name,
        str(project / path.name),
        "artifacts/../../../" + path.name,
        "artifacts/model\n.pt2",
    ]
    for name in outside:
        known["artifacts"] = {name: known["artifacts"].get(name, {})}
        manifest.write_text(json.dumps(known))
        said = cli("verify")
        assert said.code == 2 and "as a part of it, which it is not" in said.err, name


def test_damaged_and_foreign_files(cli: Cli, having: Having) -> None:
    path = having("toy")["toy"]
    path.write_bytes(path.read_bytes()[:-100])
    for words in (("verify",), ("evaluate", path), ("profile", path)):
        said = cli(*words)
        assert said.code == 2 and "Export it again" in said.err, words
    said = cli("inspect", path)
    assert said.code == 2 and "not a whole .pt2" in said.err
    foreign = Path("model.pte")
    shutil.copy(path, foreign)
    said = cli("inspect", foreign)
    assert said.code == 2 and "not an ExecuTorch program" in said.err
