"""A run whose device vanishes in the middle: one clear error, a consistent run folder, and the run goes on later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_clock_run import recipe_of
from real_sshd import Sshd, start_sshd
from tiny_project import small_project

import wdp_edge.cost.measure as measure_module
import wdp_edge.pruning.toolkit as toolkit_module
from wdp_edge.cli import _shared
from wdp_edge.config.recipe import Recipe
from wdp_edge.devices.hosts.ssh import SshHost
from wdp_edge.devices.remote import RemoteDevice
from wdp_edge.io.plain import read_as
from wdp_edge.protocols.device import Timing, TimingPlan
from wdp_edge.pruning.prune import prune
from wdp_edge.runs.results import PruneResult

lacking = [name for name in ("cmake", "g++") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(lacking), reason=f"{', '.join(lacking)} not installed: no runner can be built")


class Doomed(RemoteDevice):
    """A real device over a real ssh, whose server is killed after the first round of the second timing."""

    def __init__(self, server: Sshd) -> None:
        super().__init__(SshHost(server.address, server.config))
        self.server, self.calls = server, 0

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        self.calls += 1
        second = self.calls == 2

        def strike(done: int, total: int) -> None:
            if second and done == 1:
                self.server.kill()

        # Many rounds, so that the file is not done before the server is gone.
        return super().time(target, artifacts, replace(plan, rounds=20_000) if second else plan, strike)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    made = start_sshd(tmp_path / "sshd")
    yield made
    made.stop()


def short(recipe: Recipe) -> Recipe:
    """One structure, in many short rounds: what is chosen by this device's times is not looked at."""
    prune = recipe.prune
    select, table = replace(prune.select, rounds=1), replace(prune.table, rounds=40)
    return replace(recipe, prune=replace(prune, select=select, table=table))


def test_the_run_folder_stays_sound_and_the_run_goes_on(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Tables alone: the runner may be the one that is there.
    monkeypatch.setattr(measure_module, "cache_folder", lambda: tmp_path / "cache")
    recipe = short(recipe_of(small_project(tmp_path), "95%", images=0, target="onnx"))
    doomed = Doomed(server)
    monkeypatch.setattr(toolkit_module, "get_device", lambda *name: doomed)
    assert _shared.perform(lambda: prune(recipe), lambda result: None, as_json=False) == 2
    said = capfd.readouterr().err
    assert "error: " in said and doomed.name in said and "Traceback" not in said

    run = Path(recipe.prune.out)
    assert "finished" not in json.loads((run / "manifest.json").read_text())
    stages = {path.stem for path in (run / "stages").glob("*.json")}
    assert {"dense", "dense-artifact", "table", "saliency"} <= stages and not stages & {"select", "measure"}
    for path in run.rglob("*.json"):
        json.loads(path.read_text())
    assert not list(run.rglob("*.tmp"))
    table = (run / "stages/table.json").stat().st_mtime_ns

    again = start_sshd(tmp_path / "again")
    try:
        back = RemoteDevice(SshHost(again.address, again.config))
        monkeypatch.setattr(toolkit_module, "get_device", lambda *name: back)
        result = prune(recipe)
    finally:
        again.stop()
    assert read_as(run / "result.json", PruneResult) == result
    assert result.shipped.latency_ms.kind == "measured"
    assert (run / "stages/table.json").stat().st_mtime_ns == table, "what was measured before is kept"
