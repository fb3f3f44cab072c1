"""`kill -9` at any moment, the same command again: the final weights are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import fake_clock_run
import pytest
from tiny_project import small_project

IMAGES = 320  # a dozen steps in each loop


def start(folder: Path, cache: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, fake_clock_run.__file__, str(folder), str(IMAGES)]
    environment = {**os.environ, "WDP_EDGE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(folder: Path, cache: Path) -> float:
    """Runs to the end; seconds it took, but for the latency table, which later runs find in the cache."""
    began = time.monotonic()
    process = start(folder, cache)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()
    done = {name: (folder / "run/stages" / f"{name}.json").stat().st_mtime for name in ("dense-artifact", "table")}
    return time.monotonic() - began - (done["table"] - done["dense-artifact"])


def kill_at(folder: Path, cache: Path, moment: str) -> None:
    """Kills a run as soon as this file of its folder is there."""
    process = start(folder, cache)
    while not (folder / "run" / moment).exists():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.002)
    process.kill()
    process.communicate()


def assert_same(calm: Path, killed: Path) -> None:
    for file in ("model/model.safetensors", "model/structure.json"):
        assert (calm / "run" / file).read_bytes() == (killed / "run" / file).read_bytes()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of a project: for a calm run, and for one that is killed."""
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, killed):
        folder.mkdir()
        small_project(folder)
    return calm, killed


def test_a_run_killed_while_it_learns_and_recovers_ends_in_the_same_weights(
    folders: tuple[Path, Path], tables: Path
) -> None:
    calm, killed = folders
    finish(calm, tables)
    for loop in ("learn", "recover"):
        kill_at(killed, tables, f"stages/{loop}.checkpoint")
        assert not (killed / "run" / "stages" / f"{loop}.json").exists(), "it was killed before the loop's end"
    finish(killed, tables)
    assert_same(calm, killed)


@pytest.mark.slow
def test_runs_killed_at_ten_moments_end_in_the_same_weights(folders: tuple[Path, Path], tables: Path) -> None:
    calm, killed = folders
    seconds = finish(calm, tables)
    rng = random.Random(0)
    stages = set()
    for _ in range(10):
        process = start(killed, tables)
        time.sleep(rng.uniform(0.15, 0.9) * seconds)
        process.kill()
        process.communicate()
        stages.add(len(list((killed / "run").glob("stages/*.json"))))
    finish(killed, tables)
    assert len(stages) > 1, "the kills hit more than one stage"
    assert_same(calm, killed)
