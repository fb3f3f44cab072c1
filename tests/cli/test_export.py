"""`wdp-edge export`, `verify` and `inspect`: with ExecuTorch, and with a target in a package of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import Cli, init_words

TOY = Path(__file__).parents[1] / "toy_target"


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy target's package, installed by pip into a folder of its own."""
    source, site = tmp_path_factory.mktemp("toy") / "source", tmp_path_factory.mktemp("site")
    shutil.copytree(TOY, source)
    words = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(site), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *words], check=True)
    return site


@pytest.fixture
def dense(cli: Cli, project: Path, toy_site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny project with a recipe that verifies on few images; the toy target is installed."""
    monkeypatch.syspath_prepend(str(toy_site))
    monkeypatch.setenv("PYTHONPATH", str(toy_site))
    assert cli(*init_words()).code == 0
    recipe = project / "wdp-edge.toml"
    recipe.write_text(recipe.read_text().replace("images = 256", "images = 8"))
    return project


def test_several_targets_and_precisions_at_once(cli: Cli, dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = cli("export", "--dense", "--target", "toy", "--target", "executorch", "--precision", "fp32", "--json")
    assert said.code == 0, said.err
    made = {a["target"]: a for a in said.json["artifacts"]}
    assert set(made) == {"toy", "executorch"}
    for artifact in made.values():
        assert artifact["verified"] and artifact["parity"]["cosine_centred"] > 0.9999
        assert (dense / artifact["path"]).stat().st_size == artifact["bytes"]

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


def test_a_damaged_or_missing_file_does_not_hide_the_others(cli: Cli, dense: Path) -> None:
    words = ("export", "--dense", "--target", "toy", "--target", "onnx", "--target", "executorch")
    said = cli(*words, "--precision", "fp32", "--json")
    assert said.code == 0, said.err
    path = {a["target"]: dense / a["path"] for a in said.json["artifacts"]}
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


def test_names_in_a_manifest_stay_in_their_run(cli: Cli, dense: Path) -> None:
    said = cli("export", "--dense", "--target", "toy", "--json")
    (path,) = (dense / a["path"] for a in said.json["artifacts"])
    manifest = path.parents[1] / "manifest.json"
    known = json.loads(manifest.read_text())
    for suffix in ("", ".json"):
        shutil.copy(f"{path}{suffix}", f"{dense / path.name}{suffix}")
    outside = ["../../" + path.name, str(dense / path.name), "artifacts/../../../" + path.name, "artifacts/model\n.pt2"]
    for name in outside:
        known["artifacts"] = {name: known["artifacts"].get(name, {})}
        manifest.write_text(json.dumps(known))
        said = cli("verify")
        assert said.code == 2 and "as a part of it, which it is not" in said.err, name


def test_damaged_and_foreign_files(cli: Cli, dense: Path) -> None:
    said = cli("export", "--dense", "--target", "toy", "--json")
    path = dense / said.json["artifacts"][0]["path"]
    path.write_bytes(path.read_bytes()[:-100])
    for words in (("verify",), ("evaluate", path), ("profile", path)):
        said = cli(*words)
        assert said.code == 2 and "Export it again" in said.err, words
    said = cli("inspect", path)
    assert said.code == 2 and "not a whole .pt2" in said.err
    foreign = dense / "model.pte"
    shutil.copy(path, foreign)
    said = cli("inspect", foreign)
    assert said.code == 2 and "not an ExecuTorch program" in said.err
