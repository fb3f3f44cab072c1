"""wdp_edge/devices: timing and running real artifacts in worker processes, and how these break."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.device import TimingPlan, ratio
from wdp_edge.devices import get_device
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.devices.local import LocalDevice, cpu_model, read_cpuinfo, summarise
from wdp_edge.devices.process import WorkerProcess
from wdp_edge.errors import InputError, SetupError
from wdp_edge.target import ExportOptions, Precision, get_target

PLAN = TimingPlan(rounds=3, runs=4, warmup=1)


class Net(nn.Module):
    """Small enough to export in a second; `width` sets what it costs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    target = get_target("executorch")
    folder = tmp_path_factory.mktemp("programs")
    example = torch.zeros(1, 3, 4, 4)
    for width in (8, 20_000):
        path = folder / f"net{width}.pte"
        target.export(Net(width).eval(), example, path, ExportOptions(Precision.FP32))
    return {width: folder / f"net{width}.pte" for width in (8, 20_000)}


def test_times_come_back_in_the_order_given(programs: dict[int, Path]) -> None:
    seen: list[tuple[int, int]] = []
    paths = [programs[20_000], programs[8], programs[20_000]]
    large, small, again = LocalDevice().time("executorch", paths, PLAN, lambda a, b: seen.append((a, b)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert all(len(t.rounds) == 3 for t in (large, small, again))
    assert small.latency.min <= small.latency.p50 <= small.latency.p90
    # 2,500 times the work: true on any machine, however busy
    assert ratio(large, small) > 3 and ratio(again, small) > 3


def test_several_threads_are_timed_too(programs: dict[int, Path]) -> None:
    (timing,) = LocalDevice().time("executorch", [programs[8]], TimingPlan(rounds=2, runs=3, warmup=1, threads=2))
    assert len(timing.rounds) == 2 and timing.latency.min > 0


def test_corrupt_artifact_is_the_users_error(programs: dict[int, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.pte"
    bad.write_bytes(programs[8].read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short"):
        LocalDevice().time("executorch", [programs[8], bad], PLAN)
    with pytest.raises(InputError, match="no target"):
        LocalDevice().time("nonsense", [programs[8]], PLAN)


def images(n: int) -> Tensor:
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("processes", [1, 2])
def test_logits_come_back_in_the_order_of_the_images(programs: dict[int, Path], processes: int) -> None:
    x = images(23)
    batches: Iterator[Tensor] = (part for part in x.split(5))
    logits = run_artifact("executorch", programs[8], batches, len(x), "evaluate", processes=processes)
    with torch.no_grad():
        expected = Net(8).eval()(x)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=1e-5)


def test_images_of_another_size_are_refused(programs: dict[int, Path]) -> None:
    with pytest.raises(InputError, match="takes images of 3x4x4, not 3x8x8"):
        run_artifact("executorch", programs[8], iter([torch.zeros(2, 3, 8, 8)]), 2, "evaluate")
    with pytest.raises(InputError, match="no images"):
        run_artifact("executorch", programs[8], iter([]), 0, "evaluate")


def test_an_error_while_reading_images_is_passed_on(programs: dict[int, Path]) -> None:
    def broken() -> Iterator[Tensor]:
        yield images(2)
        raise InputError("An image is unreadable.", "Remove it.")

    with pytest.raises(InputError, match="unreadable"):
        run_artifact("executorch", programs[8], broken(), 4, "evaluate")


def test_progress_counts_every_image(programs: dict[int, Path]) -> None:
    counted: list[int] = []

    class Counting(progress.Silent):
        def task(self, title: str, total: int):  # type: ignore[no-untyped-def,override]
            import contextlib

            @contextlib.contextmanager
            def counter() -> Iterator[progress.Advance]:
                yield counted.append

            return counter()

    try:
        progress.use(Counting())
        run_artifact("executorch", programs[8], images(7).split(3), 7, "evaluate")
    finally:
        progress.use(progress.Silent())
    assert sum(counted) == 7


def request(path: Path) -> dict[str, object]:
    return {"verb": "run", "target": "executorch", "artifact": str(path), "threads": 1, "what": "running net"}


def test_a_killed_worker_is_one_clear_error(programs: dict[int, Path]) -> None:
    with WorkerProcess("wdp_edge.devices.worker", request(programs[8])) as worker:
        worker.receive()
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(SetupError, match=r"crashed: running net \(signal 9"):
            worker.send({"shape": [1, 3, 4, 4]}, images(1).numpy().tobytes())
            worker.receive()


def test_a_worker_that_fails_says_its_last_words() -> None:
    with (
        WorkerProcess("wdp_edge.devices.worker", {"verb": "run", "what": "nothing"}) as worker,
        pytest.raises(SetupError, match="Nothing failed: KeyError: 'target'"),
    ):
        worker.receive()


def test_a_silent_worker_counts_as_hung(programs: dict[int, Path]) -> None:
    with WorkerProcess("wdp_edge.devices.worker", request(programs[8]), silence_seconds=0.01) as worker:
        with pytest.raises(SetupError, match="hung"):
            worker.receive()
        pid = worker._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_devices_by_name() -> None:
    assert get_device("local").name == "local"
    with pytest.raises(InputError, match="Known devices: local"):
        get_device("toaster")


def test_probe_names_this_machine() -> None:
    info = LocalDevice().probe()
    assert info.cores >= 1 and info.model and info.system
    assert info == LocalDevice().probe()
    assert info.key.startswith("local|")


def test_cpuinfo_of_other_machines(tmp_path: Path) -> None:
    arm = tmp_path / "cpuinfo"
    first = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
    arm.write_text(first + "\nprocessor\t: 1\n")
    assert cpu_model(read_cpuinfo(arm)) == "Arm 0x41 part 0xd0b revision ?"
    assert read_cpuinfo(tmp_path / "absent") == {}
    assert cpu_model({})


@given(st.lists(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=9), min_size=1, max_size=9))
def test_summary_is_ordered_and_within_the_runs(rounds: list[list[float]]) -> None:
    timing = summarise(rounds)
    every = [t for times in rounds for t in times]
    assert min(every) == timing.latency.min <= timing.latency.p50 <= max(every)
    assert timing.latency.min <= timing.latency.p90 <= max(every)
    assert len(timing.rounds) == len(rounds)
    assert timing.rounds == tuple(min(r) for r in rounds)


def test_plans_are_checked() -> None:
    with pytest.raises(InputError, match="no core -1"):
        TimingPlan(cpus=(0, -1))
    for seconds in (-1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="Nothing can rest"):
            TimingPlan(cooldown_seconds=seconds)


def test_cores_and_rests(programs: dict[int, Path]) -> None:
    plan = TimingPlan(rounds=2, runs=2, warmup=1, cpus=(0,), cooldown_seconds=0.01)
    (timing,) = LocalDevice().time("executorch", [programs[8]], plan)
    assert len(timing.rounds) == 2
    with pytest.raises(InputError, match="kept to cores 100000"):
        LocalDevice().time("executorch", [programs[8]], replace(plan, cpus=(100_000,)))
