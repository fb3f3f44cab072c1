"""wdp_edge/devices/worker.py: rounds as they are timed, and workers that end before their answer."""

from __future__ import annotations

import gc
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_net import SMALL, images

from wdp_edge.devices.worker import keep_the_core, some_input, stay_on, timed_runs, write_rounds
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.device import TimingPlan
from wdp_edge.workers.messages import read_message
from wdp_edge.workers.process import WorkerProcess


def request(path: Path) -> dict[str, object]:
    return {"verb": "run", "target": "executorch", "artifact": str(path), "threads": 1, "what": "running net"}


def test_a_killed_worker_is_one_clear_error(programs: dict[int, Path]) -> None:
    with WorkerProcess("wdp_edge.devices.worker", request(programs[SMALL])) as worker:
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
    with WorkerProcess("wdp_edge.devices.worker", request(programs[SMALL]), silence_seconds=0.01) as worker:
        with pytest.raises(SetupError, match="hung"):
            worker.receive()
        pid = worker._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.fixture
def collected() -> Iterator[None]:
    """Timing turns the collector of garbage off."""
    yield
    gc.enable()


@pytest.mark.usefixtures("collected")
def test_every_second_round_goes_backwards_and_tells_its_times_in_order() -> None:
    order: list[int] = []

    def timer(number: int) -> list[float]:
        order.append(number)
        return [float(number), len(order)]

    replies = io.BytesIO()
    timers = [lambda n=n: timer(n) for n in range(3)]  # type: ignore[misc]
    write_rounds(timers, TimingPlan(rounds=3), replies)
    assert order == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    replies.seek(0)
    told = [read_message(replies) for _ in range(3)]
    assert [message[0]["ms"] for message in told if message] == [
        [[0.0, 1], [1.0, 2], [2.0, 3]],
        [[0.0, 6], [1.0, 5], [2.0, 4]],
        [[0.0, 7], [1.0, 8], [2.0, 9]],
    ]
    assert replies.read() == b""


def test_runs_that_warm_up_are_not_told() -> None:
    seen = []

    class Counting:
        """FAKE: a program that does nothing but count."""

        input_shape, input_dtype = (1, 1), "float32"

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

    plan = TimingPlan(rounds=1, runs=4, warmup=3, settle=0)
    times = timed_runs(Counting(), torch.zeros(1, 1), plan)
    assert len(times) == 4 and len(seen) == 3 + 4 and min(times) >= 0


def test_inputs_are_of_the_programs_type() -> None:
    one, two = (some_input((1, 3, 4, 4), "uint8", torch.Generator().manual_seed(0)) for _ in range(2))
    assert one.dtype == torch.uint8 and one.shape == (1, 3, 4, 4) and torch.equal(one, two) and one.max() > 1
    assert some_input((2, 5), "float32", torch.Generator()).dtype == torch.float32


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux keeps processes to cores")
def test_no_core_means_all_and_one_that_is_not_there_is_named() -> None:
    before = os.sched_getaffinity(0)
    stay_on(())
    with pytest.raises(InputError, match="100000"):
        stay_on((100_000,))
    assert os.sched_getaffinity(0) == before


def test_without_a_core_to_spare_no_priority_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *words: asked.append(words), raising=False)
    monkeypatch.setattr("wdp_edge.devices.worker.usable_cores", lambda: 2)
    keep_the_core(2)
    assert not asked
    keep_the_core(1)
    assert len(asked) == 1
