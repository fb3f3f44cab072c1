"""wdp_edge/workers/process.py: a worker that answers, fails, crashes, says nothing, and is never left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from wdp_edge.errors import InputError, SetupError
from wdp_edge.workers.process import Tail, WorkerProcess

ECHO = """
import os, signal, sys, time
from wdp_edge.errors import InputError
from wdp_edge.workers.messages import read_message, serve, write_message

def handle(request, requests, replies):
    write_message(replies, {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "what": request["what"]})
    while (message := read_message(requests)) is not None:
        data, payload = message
        if data.get("wrong"):
            raise InputError("It is wrong.", "Mend it.")
        if data.get("broken"):
            raise ZeroDivisionError("oh")
        if data.get("exit") is not None:
            print("all I\\x1b[2J can say", file=sys.stderr, flush=True)
            os._exit(data["exit"])
        if data.get("sleep"):
            time.sleep(60)
        write_message(replies, data, payload[::-1])

def main():
    serve(handle)

if __name__ == "__main__":
    main()
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`echo_worker` can be imported by workers; their temporary files go to the test's folder."""
    (tmp_path / "echo_worker.py").write_text(ECHO)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


def echo(silence_seconds: float = 60.0, threads: int = 1) -> WorkerProcess:
    return WorkerProcess("echo_worker", {"what": "echoing"}, threads, silence_seconds)


def test_a_worker_answers_and_ends_with_its_session() -> None:
    with echo(threads=3) as worker:
        first = worker.receive()[0]
        assert (first["what"], first["threads"]) == ("echoing", "3")
        for payload in (b"", b"abc", bytes(range(256)) * 1000):
            worker.send({"n": len(payload)}, payload)
            assert worker.receive() == ({"n": len(payload)}, payload[::-1])
    with pytest.raises(ProcessLookupError):
        os.kill(first["pid"], 0)


def test_an_error_of_ours_comes_back_as_it_was_and_a_defect_is_named() -> None:
    with echo() as worker, pytest.raises(InputError, match="It is wrong") as wrong:
        worker.receive()
        worker.send({"wrong": True})
        worker.receive()
    assert wrong.value.hint == "Mend it."
    with echo() as worker, pytest.raises(SetupError, match="ZeroDivisionError"):
        worker.receive()
        worker.send({"broken": True})
        worker.receive()


def test_a_worker_that_ends_without_an_answer_gives_its_last_words() -> None:
    with echo() as worker, pytest.raises(SetupError, match=r"echoing \(exit code 3: all I\[2J can say\)"):
        worker.receive()
        worker.send({"exit": 3})
        worker.receive()


def test_a_worker_that_is_killed_is_told_by_its_signal() -> None:
    with echo() as worker:
        os.kill(worker.receive()[0]["pid"], signal.SIGKILL)
        worker.send({}, b"x" * 100_000)
        with pytest.raises(SetupError, match=r"crashed: echoing \(signal 9, SIGKILL"):
            worker.receive()


def test_a_silent_worker_is_ended() -> None:
    with echo(silence_seconds=30.0) as worker:
        pid = worker.receive()[0]["pid"]
        worker.silence_seconds = 0.05
        worker.send({"sleep": True})
        with pytest.raises(SetupError, match="hung: echoing"):
            worker.receive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_only_the_last_words_are_kept() -> None:
    reading, writing = os.pipe()
    tail = Tail(most=8)
    with os.fdopen(writing, "wb") as said, os.fdopen(reading, "rb") as heard:
        tail.follow(heard)
        said.write(b"the first words, and the last")
        said.close()
        assert tail.text() == "the last"
