"""`kill -9` at any moment, the same command again: the final weights are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


def small_project(folder: Path, **changes: int) -> Path:
    """A random dense model and noisy coloured squares in FOLDER. changes: of the model's arguments."""
    sys.path.insert(0, str(HERE.parent / "cli"))
    from tiny_project import ARGS, MODEL, write_images

    torch.manual_seed(0)
    save_file(timm.create_model(MODEL, num_classes=3, **{**ARGS, **changes}).state_dict(), folder / "dense.safetensors")
    write_images(folder / "data/train", 24)
    write_images(folder / "data/val", 4)
    return folder


def start(folder: Path, cache: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / "fake_clock_run.py"), str(folder)]
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


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_runs_end_in_bit_identical_weights(tmp_path: Path, tables: Path, kills: int) -> None:
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        small_project(tmp_path / name)
    seconds = finish(tmp_path / "calm", tables)
    rng = random.Random(0)
    stages = set()
    for _ in range(kills):
        process = start(tmp_path / "killed", tables)
        time.sleep(rng.uniform(0.15, 0.9) * seconds)
        process.kill()
        process.communicate()
        stages.add(len(list((tmp_path / "killed" / "run").glob("stages/*.json"))))
    finish(tmp_path / "killed", tables)
    assert kills < 10 or len(stages) > 1, "the kills hit more than one stage"
    for file in ("model/model.safetensors", "model/structure.json"):
        calm = (tmp_path / "calm" / "run" / file).read_bytes()
        assert calm == (tmp_path / "killed" / "run" / file).read_bytes()
