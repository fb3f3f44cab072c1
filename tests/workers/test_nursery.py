"""Forked workers are processes like any other: environment, folder, pipes, exit code, group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from wdp_edge.workers import nursery
from wdp_edge.workers.nursery import Started, start_worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

PROBE = """
import json, os, signal, sys, threading
IMPORTED_BY = os.getpid()

def main():
    said = sys.stdin.readline().strip()
    if said == "exit":
        raise SystemExit(3)
    if said == "break":
        raise ValueError("broken on purpose")
    if said == "child":
        os.system("sleep 60 & echo $!")
        sys.stdin.readline()
    if said == "busy":  # without a look at its pipes
        os.system(f"sleep 60 & echo {os.getpid()} $!")
        signal.pause()
    print(json.dumps({"env": dict(os.environ), "folder": os.getcwd(), "imported_by": IMPORTED_BY, "pid": os.getpid(),
                      "group": os.getpgid(0), "reaps": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL}))
"""
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment in which `probe` and `with_thread` can be imported."""
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "with_thread.py").write_text(THREAD)
    return {**os.environ, "PYTHONPATH": str(tmp_path), "WDP_EDGE_PROBE": "1"}


def pipe(file: IO[bytes] | None) -> IO[bytes]:
    assert file is not None
    return file


def finish(worker: Started, said: str = "") -> tuple[int, str, str]:
    """Exit code, output and errors."""
    with pipe(worker.stdin) as words:
        words.write(said.encode() + b"\n")
    with pipe(worker.stdout) as out, pipe(worker.stderr) as err:
        texts = out.read().decode(), err.read().decode()
    return worker.wait(), *texts


def seen(env: Mapping[str, str]) -> dict[str, Any]:
    code, out, err = finish(start_worker("probe", (), env))
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended: a zombie has, and only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def all_gone(*pids: int) -> bool:
    """Within ten seconds."""
    deadline = time.monotonic() + 10
    while not all(gone(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    return all(gone(pid) for pid in pids)


def test_workers_share_what_was_imported_and_nothing_else(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = seen(env)
    monkeypatch.chdir(tmp_path)
    second = seen({**env, "WDP_EDGE_PROBE": "2"})
    assert first["imported_by"] == second["imported_by"] != second["pid"]
    assert [s["env"]["WDP_EDGE_PROBE"] for s in (first, second)] == ["1", "2"]
    assert second["folder"] == str(tmp_path) != first["folder"]
    assert second["group"] == second["pid"], "a group of its own can be killed with all that it started"
    assert second["reaps"], "children of a worker are waited for as ever"


def test_what_libraries_read_when_they_are_imported_is_the_workers_own(env: dict[str, str]) -> None:
    first, second = seen(env), seen({**env, "OMP_NUM_THREADS": "7"})
    assert first["imported_by"] != second["imported_by"]
    assert second["env"]["OMP_NUM_THREADS"] == "7"


def test_exit_codes_and_last_words(env: dict[str, str]) -> None:
    assert finish(start_worker("probe", (), env), "exit")[0] == 3
    code, out, err = finish(start_worker("probe", (), env), "break")
    assert code == 1 and not out and "broken on purpose" in err
    code, _, err = finish(start_worker("no_such_module", (), env))
    assert code == 1 and "no_such_module" in err


def test_a_killed_worker_takes_along_what_it_started(env: dict[str, str]) -> None:
    worker = start_worker("probe", (), env)
    pipe(worker.stdin).write(b"child\n")
    pipe(worker.stdin).flush()
    child = int(pipe(worker.stdout).readline())
    os.killpg(worker.pid, signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)
    assert all_gone(child)
    for file in (worker.stdin, worker.stdout, worker.stderr):
        pipe(file).close()


def test_with_a_second_thread_workers_are_ordinary_processes(env: dict[str, str]) -> None:
    worker = start_worker("probe", ("with_thread",), env)
    assert isinstance(worker, subprocess.Popen)
    # `python -m` runs a module's own last lines, which the probe has not.
    assert finish(worker)[0] == 0


def test_a_nursery_that_was_killed_is_replaced(env: dict[str, str]) -> None:
    first = seen(env)
    os.kill(first["imported_by"], signal.SIGKILL)
    assert all_gone(first["imported_by"])
    assert seen(env)["imported_by"] != first["imported_by"]


def killed_after(said: str, env: Mapping[str, str]) -> bytes:
    """What a worker answers to a process that is killed then."""
    script = (
        "import os\nfrom wdp_edge.workers.nursery import start_worker\n"
        f"w = start_worker('probe', (), dict(os.environ))\nw.stdin.write(b'{said}\\n'); w.stdin.flush()\n"
        "print(w.stdout.readline().decode(), flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    return done.stdout


def test_a_nursery_ends_with_the_process_that_started_it(env: dict[str, str]) -> None:
    assert all_gone(json.loads(killed_after("", env))["imported_by"])


def test_a_worker_ends_with_the_process_that_started_it(env: dict[str, str]) -> None:
    """A run that is killed, or whose terminal is closed, must not go on exporting."""
    assert all_gone(*map(int, killed_after("busy", env).split())), "the worker, and what it started"


def test_few_nurseries_stay(env: dict[str, str]) -> None:
    for number in range(4):
        seen({**env, "OMP_NUM_THREADS": str(number + 1)})
    assert len(nursery._nurseries) == 2
