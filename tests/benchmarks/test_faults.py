"""benchmarks/bench_faults.py: its parts, and a short seeded form of the bench itself."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import readers
from faults.compare import differences
from faults.mutate import mutate_bytes, mutate_json, mutate_lines
from faults.store import Store, Trial
from PIL import Image
from safetensors.torch import save

BENCH = Path(__file__).parents[2] / "benchmarks/bench_faults.py"


def test_mutations_follow_from_the_seed_and_change_something() -> None:
    text = json.dumps({"a": [1, {"b": "c"}], "d": 2.5})
    for seed in range(200):
        twice = [
            (
                mutate_bytes(text.encode(), random.Random(seed), 8),
                mutate_json(text, random.Random(seed)),
                mutate_lines("a = 1\nb = 2\n", random.Random(seed), ("x",), "="),
            )
            for _ in range(2)
        ]
        assert twice[0] == twice[1]
    changed = [mutate_json(text, random.Random(seed))[0] for seed in range(200)]
    assert len(set(changed)) > 100 and sum(c != text.encode() for c in changed) > 190


def test_independent_readers_read_what_was_written() -> None:
    tensors = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([1, 2]), "c": torch.arange(6.0).reshape(2, 3).T}
    wanted = {name: tensor.numpy() for name, tensor in tensors.items()}
    archive = io.BytesIO()
    torch.save(tensors, archive)
    assert readers.same(readers.torch_zip(archive.getvalue()), wanted) == ""
    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert readers.same(readers.safetensors(save(dense)), wanted) == ""
    assert readers.same({**wanted, "b": np.array([1, 3])}, wanted) == "b has other values"
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    assert np.array_equal(readers.png(png.getvalue()), pixels)


def test_runs_differ_by_names_and_bytes_but_not_by_the_clock(tmp_path: Path) -> None:
    for name, seconds in (("calm", 1.0), ("other", 2.0)):
        (tmp_path / name / "stages").mkdir(parents=True)
        (tmp_path / name / "stages/a.json").write_text(json.dumps({"seconds": seconds, "kept": [1, 2]}))
    assert differences(tmp_path / "calm", tmp_path / "other") == []
    (tmp_path / "other/stages/a.json").write_text(json.dumps({"seconds": 1.0, "kept": [1, 3]}))
    (tmp_path / "other/stages/.a.tmp").write_text("")
    assert differences(tmp_path / "calm", tmp_path / "other") == ["stages/.a.tmp is left over", "stages/a.json differs"]


def test_trials_are_kept_even_when_the_last_line_is_torn(tmp_path: Path) -> None:
    Store.at(tmp_path).add(Trial("kill", 1, "table", "exit 0", ""))
    with (tmp_path / "trials.jsonl").open("a") as file:
        file.write('{"kind": "ki')
    again = Store.at(tmp_path)
    assert again.missing("kill", 3) == [0, 2] and [t.number for t in again.of("kill", 3)] == [1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks of a process that has imported torch")
def test_a_killed_run_and_some_mutations(tmp_path: Path) -> None:
    """Trial 1 kills while it learns."""
    words = ["--folder", tmp_path, "--short", "--kill", 2, "--disk", 0, "--together", 0, "--mutation", 63]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    Store.at(tmp_path).add(Trial("kill", 0, "table", "skipped", "measures a table, which takes as long as all else"))
    done = subprocess.run(
        [sys.executable, BENCH, *map(str, words)], capture_output=True, text=True, env=environment, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "1 of 2 killed runs end as undisturbed ones\n  inside: learning 1\n" in done.stdout
    assert "54 of 63 mutated inputs" in done.stdout
