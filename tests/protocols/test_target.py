"""wdp_edge/protocols/target.py: targets of other packages with precisions and a runner of their own, and hints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_clock_run import recipe_of
from installed import install, installed_toy, use
from real_sshd import Sshd, start_sshd
from tiny_project import SMALLER, small_project

from wdp_edge.artifacts.sidecar import read_facts
from wdp_edge.commands.export import export
from wdp_edge.commands.profile import profile
from wdp_edge.commands.verify import verify
from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import Recipe, Tolerance
from wdp_edge.devices.hosts.ssh import SshHost
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.device import get_device
from wdp_edge.protocols.precision import PRECISIONS, PrecisionFamily
from wdp_edge.protocols.target import GROUP, get_target, install_command, precision_names, precision_of
from wdp_edge.pruning.prune import prune
from wdp_edge.report import report
from wdp_edge.runners.runtimes import has_runner, runner_targets
from wdp_edge.runs.results import PruneResult

SHORT = "toy-bf16"
LACKING = "class Adapter:\n    precisions = ()\n    def missing(self):\n        return ['nothing>=1', 'nil']\n"


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The toy target, installed; and a cache of its own for what is measured and bundled."""
    with pytest.MonkeyPatch.context() as patch:
        use(installed_toy(tmp_path_factory.mktemp("toy")), patch)
        patch.setenv("WDP_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """This machine behind a real sshd, whose keys ssh is told of."""
    server = start_sshd(tmp_path_factory.mktemp("sshd"))
    hosts: list[SshHost] = []

    def reach(address: str) -> SshHost:
        hosts.append(SshHost(address, server.config))
        return hosts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wdp_edge.devices.hosts.ssh.SshHost", reach)
        yield server
    for host in hosts:
        host.close()
    server.stop()


def pruned_on(device: str, folder: Path) -> PruneResult:
    """A run on a real clock, whose figures are nobody's: the model is tiny, and its images are few."""
    recipe: Recipe = recipe_of(small_project(folder, **SMALLER), "90%", images=0, target="toy")
    model = replace(recipe.model, args={**recipe.model.args, **SMALLER})
    select = replace(recipe.prune.select, tilt=0.0, narrow_heads=False, rounds=1)
    own = replace(recipe.prune, device=device, precision=SHORT, select=select)
    # By its family it is judged as fp16 is. Which class a model that was not trained puts first hangs on any rounding.
    judged = replace(recipe.verify, fp16=Tolerance(agreement=0.0, cosine=0.9))
    return prune(replace(recipe, model=model, prune=own, verify=judged))


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> PruneResult:
    """A finished run of the toy's own precision, timed here."""
    return pruned_on("local", tmp_path_factory.mktemp("local"))


def goes_through_everything(result: PruneResult, device: str) -> None:
    path = result.shipped.path
    assert path is not None and (result.target, result.precision) == ("toy", SHORT)
    assert result.verified and result.pruned and path != result.dense.path
    # A real clock may choose any structure here: what the toy takes for an image hardly hangs on widths this small.
    assert result.shipped.latency_ms.p50 > 0 and result.shipped.macs <= result.dense.macs
    noted = json.loads(path.with_name(f"{path.name}.json").read_text())["precision"]
    assert noted == read_facts(path).precision == SHORT
    (made,) = export(result.run, ["toy"], ["fp32"]).artifacts
    assert made.precision == "fp32" and made.verified
    verified = verify(result.run)
    assert [a.precision for a in verified.artifacts] == ["fp32", SHORT] and not verified.unjudged
    assert all(a.verified and a.latency_ms is not None for a in verified.artifacts)
    found = profile(result.run)
    assert found.path == path and found.device == device and found.dense_latency_ms is not None
    assert SHORT in report(result.run).path.read_text()


def test_the_toy_goes_through_everything(pruned: PruneResult) -> None:
    goes_through_everything(pruned, "local")


@pytest.mark.slow
def test_the_toy_goes_through_everything_behind_ssh(board: Sshd, tmp_path: Path) -> None:
    device = f"ssh:{board.address}"
    goes_through_everything(pruned_on(device, tmp_path), device)


def test_its_own_runner_times_it_behind_ssh(pruned: PruneResult, board: Sshd) -> None:
    found = profile(pruned.run, device=f"ssh:{board.address}")
    assert found.path == pruned.shipped.path and found.latency_ms.p50 > 0 and found.dense_latency_ms is not None
    assert pruned.shipped.path is not None
    assert get_device("local").peak_memory("toy", pruned.shipped.path, 1) > 10_000_000, "it imports PyTorch"


def test_its_own_precision_is_tried_by_its_speed(pruned: PruneResult) -> None:
    found = export(pruned.run, ["toy"], ["auto"], accuracy_drop=100.0)
    assert found.tried and found.tried[0].precision == SHORT, "0.9 of fp32, so it is the first"
    assert found.artifacts[0].verified


def test_precisions_of_other_packages_are_known_by_name(tmp_path: Path) -> None:
    assert precision_names() == [*PRECISIONS, SHORT]
    assert precision_of("toy", SHORT).family is PrecisionFamily.FP16 and precision_of("toy", SHORT).speed == 0.9
    with pytest.raises(InputError, match=r"'onnx' has no precision 'toy-bf16'.*fp32"):
        precision_of("onnx", SHORT)
    (tmp_path / "wdp-edge.toml").write_text(f"[prune]\ntarget = 'toy'\nprecision = '{SHORT}'\n")
    assert load_recipe(tmp_path / "wdp-edge.toml").prune.precision == SHORT
    (tmp_path / "wdp-edge.toml").write_text("[prune]\nprecision = 'toy-bf61'\n")
    with pytest.raises(InputError, match=f"Did you mean {SHORT}"):
        load_recipe(tmp_path / "wdp-edge.toml")


def test_targets_with_a_runner_are_those_of_the_registry_and_those_that_bring_one() -> None:
    assert set(runner_targets()) == {"executorch", "tflite", "onnx", "toy"}
    assert has_runner("toy") and not has_runner("coreml")


def test_hints_name_the_package_that_brings_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert install_command("onnx", ["onnxruntime"]) == "pip install 'wdp-edge[onnx]'"
    use(tmp_path / "site", monkeypatch)
    install(tmp_path / "site", "wdp_edge_lacking", LACKING, GROUP, "lacking = wdp_edge_lacking:Adapter")
    with pytest.raises(SetupError, match=r"needs nothing>=1, nil.*pip install 'nothing>=1' 'nil'"):
        get_target("lacking")
    with (tmp_path / "site/wdp_edge_lacking-1.0.dist-info/METADATA").open("a") as metadata:
        metadata.write("Provides-Extra: lacking\n")
    with pytest.raises(SetupError, match=r"pip install 'wdp_edge_lacking\[lacking\]'"):
        get_target("lacking")
    with pytest.raises(InputError, match=r"no target 'tensorflow'.*onnx, .*come with a package"):
        get_target("tensorflow")
