"""benchmarks/bench_faults.py: its parts, and a short seeded form of the bench itself."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_faults import same_code
from faults import readers
from faults.compare import EXPORTED, differences, without_export
from faults.kills import RECORDS, Bench, Blow, diary_of, has, strike
from faults.mutate import mutate_bytes, mutate_json, mutate_lines
from faults.project import Diary, recipe_of, watched
from faults.store import Store, Trial
from faults.warm import Child
from PIL import Image
from safetensors.torch import save

from wdp_edge.pruning.finish import Saved
from wdp_edge.runs.run import Run

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
    for end in (None, -1, -10):  # of the chunk that ends the file
        assert np.array_equal(readers.png(png.getvalue()[:end]), pixels)
    with pytest.raises(Exception, match=r"unpack|incomplete|index"):
        readers.png(png.getvalue()[:-20])


def test_runs_differ_by_names_and_bytes_but_not_by_the_clock(tmp_path: Path) -> None:
    for name, seconds in (("calm", 1.0), ("other", 2.0)):
        (tmp_path / name / "stages").mkdir(parents=True)
        (tmp_path / name / "stages/a.json").write_text(json.dumps({"seconds": seconds, "kept": [1, 2]}))
    assert differences(tmp_path / "calm", tmp_path / "other") == []
    (tmp_path / "other/stages/a.json").write_text(json.dumps({"seconds": 1.0, "kept": [1, 3]}))
    (tmp_path / "other/stages/.a.tmp").write_text("")
    assert differences(tmp_path / "calm", tmp_path / "other") == ["stages/.a.tmp is left over", "stages/a.json differs"]


def test_an_export_adds_its_own_file_and_nothing_else(tmp_path: Path) -> None:
    calm, other = tmp_path / "calm", tmp_path / "other"
    for run in (calm, other):
        (run / "artifacts").mkdir(parents=True)
        (run / "manifest.json").write_text(json.dumps({"seed": 0, "artifacts": {}}))
    assert without_export(differences(calm, other), calm, other) == [
        "the exported file is not there, or not in the manifest"
    ]
    (other / EXPORTED).write_bytes(b"file")
    digest = hashlib.sha256(b"file").hexdigest()
    (other / f"{EXPORTED}.json").write_text(json.dumps({"sha256": digest}))
    record = {"artifacts": {EXPORTED: {"sha256": digest, "bytes": 4}}}
    (other / "manifest.json").write_text(json.dumps({"seed": 0, **record}))
    assert without_export(differences(calm, other), calm, other) == []
    (other / "manifest.json").write_text(json.dumps({"seed": 1, **record}))
    (other / "artifacts/other").write_bytes(b"")
    (other / EXPORTED).write_bytes(b"torn")
    assert without_export(differences(calm, other), calm, other) == [
        "artifacts/other is left over",
        "manifest.json differs in more than the exported file",
        "the exported file is not what its record says",
    ]


def test_trials_are_kept_even_when_the_last_line_is_torn(tmp_path: Path) -> None:
    Store.at(tmp_path).add(Trial("kill", 1, "table", "exit 0", ""))
    with (tmp_path / "trials.jsonl").open("a") as file:
        file.write('{"kind": "ki')
    again = Store.at(tmp_path)
    assert again.missing("kill", 3) == [0, 2] and [t.number for t in again.of("kill", 3)] == [1]


def test_trials_of_other_code_are_not_added_to(tmp_path: Path) -> None:
    """A reference run of older code differs without a fault."""
    assert same_code(tmp_path) and same_code(tmp_path)
    (tmp_path / "code").write_text("0123")
    assert not same_code(tmp_path)


def test_a_diary_knows_what_was_begun_and_what_ended(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary")
    assert not diary.began("learn") and diary.ended() == []
    for words in (("begin", "learn"), ("end", "learn", 0.5), ("begin", "select")):
        diary.note(*words)
    assert diary.began("select") and not diary.began("export") and diary.ended() == [("learn", 0.5)]


def test_a_run_keeps_the_state_before_each_stage_that_it_makes(tmp_path: Path) -> None:
    recipe, diary, halted = recipe_of(tmp_path), Diary(tmp_path / "diary"), tmp_path / "halted"
    with Run(tmp_path / "run", recipe) as run, watched(diary, halted) as making:
        run.stage("learn", Saved, lambda: Saved("a", 1.0))
        run.stage("learn", Saved, lambda: Saved("a", 1.0))
        making(run.path, "report.html", lambda: None)
    assert [name for name, _ in diary.ended()] == ["learn", "report.html"]
    assert not has(halted / "learn", "learn") and has(halted / "report.html", "learn")
    assert (halted / "learn/manifest.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(("work", "delay", "inside"), [(60.0, 0.0, True), (0.0, 0.2, False)])
def test_a_blow_counts_when_it_lands_inside_the_stage(tmp_path: Path, work: float, delay: float, inside: bool) -> None:
    """The second run had ended before the blow."""
    bench, run = Bench(tmp_path, 0, tuple((name, 1.0) for name in RECORDS)), tmp_path / "run"

    def act() -> int:
        diary_of(bench.log).note("begin", "learn")
        time.sleep(work)
        (run / "stages").mkdir(parents=True)
        (run / "stages/learn.json").write_text("{}")
        return 0

    child = Child(act, bench.log)
    assert strike(bench, child, run, Blow("learn", True, delay, True)) == inside


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks of a process that has imported torch")
def test_killed_runs_and_some_mutations(tmp_path: Path) -> None:
    """The last two of eight kills: inside tightening and report."""
    words = ["--folder", tmp_path, "--short", "--kill", 8, "--disk", 0, "--together", 0, "--mutation", 21]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for number in range(6):
        Store.at(tmp_path).add(Trial("kill", number, "", "skipped", "left to the long form"))
    done = subprocess.run(
        [sys.executable, BENCH, *map(str, words)], capture_output=True, text=True, env=environment, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "2 of 8 killed runs end as undisturbed ones\n  inside: tightening 1, report 1\n" in done.stdout
    assert "18 of 21 mutated inputs" in done.stdout
