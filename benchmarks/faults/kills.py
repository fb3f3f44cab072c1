"""Runs that are killed with SIGKILL, that find the disk full, or that meet a second command in their folder."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faults.compare import differences
from faults.project import copy_project, make_project, perform_run, recipe_of
from faults.store import Trial
from faults.warm import Child, Ended
from wdp_edge.files import remove

STAGES = ("table", "learning", "selection", "compensation", "recovery", "export", "tightening", "report")
SECONDS = 600.0
_RECORDS = {
    "table": "table",
    "learn": "learning",
    "select": "selection",
    "compensate": "compensation",
    "recover": "recovery",
    "export": "export",
    "export-1": "export",
    "smaller-0": "tightening",
    "tighten-0": "tightening",
    "report.html": "report",
}


@dataclass(frozen=True)
class Bench:
    """What all trials share. order: the records of the undisturbed run and what each took."""

    root: Path
    seed: int
    order: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        if lacking := set(STAGES) - {_RECORDS.get(name, "") for name, _ in self.order}:
            raise RuntimeError(f"the undisturbed run has no stage {', '.join(sorted(lacking))}")

    @property
    def calm(self) -> Path:
        """What the undisturbed run left."""
        return self.root / "calm"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def log(self) -> Path:
        return self.root / "log"

    def project(self) -> Path:
        """A fresh project, always in the same place: paths are part of what runs write."""
        return copy_project(self.root / "template", self.root / "project")

    def rng(self, kind: str, number: int) -> random.Random:
        return random.Random(f"{self.seed} {kind} {number}")


def prepare(root: Path, seed: int) -> Bench:
    """The template of all projects, and the undisturbed run, which leaves its table in the cache."""
    if not (root / "template").exists():
        shutil.rmtree(root / "making", ignore_errors=True)
        _must(Child(partial(make_project, root / "making"), root / "log"), "the project")
        (root / "making").rename(root / "template")
    if not (root / "order").exists():
        shutil.rmtree(root / "cache", ignore_errors=True)
        project = copy_project(root / "template", root / "project")
        _must(start(project, root / "cache", root / "log"), "an undisturbed run")
        copy_project(project / "run", root / "calm")
        (root / "order").write_text("\n".join(f"{name} {seconds}" for name, seconds in dated(project / "run")))
    lines = (line.split() for line in (root / "order").read_text().splitlines())
    return Bench(root, seed, tuple((name, float(seconds)) for name, seconds in lines))


def _must(child: Child, what: str) -> None:
    ended = child.wait(SECONDS)
    if ended.code != 0:
        raise RuntimeError(f"{what} fails, so there is nothing to compare with:\n{ended.err}")


def dated(run: Path) -> list[tuple[str, float]]:
    """A run's records in the order of writing, and the seconds since the one before."""
    paths = [*(run / "stages").glob("*.json"), run / "result.json", run / "report.html"]
    times = sorted((p.stat().st_mtime, p.name.removesuffix(".json")) for p in paths if p.stem != "calibration")
    starts = [(run / "recipe.toml").stat().st_mtime, *(at for at, _ in times)]
    return [(name, at - start) for (at, name), start in zip(times, starts, strict=False)]


def start(folder: Path, cache: Path, log: Path) -> Child:
    return Child(lambda: perform_run(recipe_of(folder)), log, {"WDP_EDGE_CACHE": str(cache)})


def has(run: Path, record: str) -> bool:
    if record in ("result", "report.html"):
        return (run / ("result.json" if record == "result" else record)).exists()
    return (run / "stages" / f"{record}.json").exists()


def at_work(bench: Bench, run: Path) -> str:
    """The record that the run was making: the first that is not there."""
    return next((name for name, _ in bench.order if not has(run, name)), "")


def kill_trial(bench: Bench, number: int) -> Trial:
    """Kills a run inside the stage whose turn it is, runs it again, and compares."""
    rng, began = bench.rng("kill", number), time.monotonic()
    stage = STAGES[number % len(STAGES)]
    record, note = "", ""
    for _ in range(8):
        folder = bench.project()
        cache = bench.cache if stage != "table" else folder / "cache"
        aim = rng.choice([i for i, (name, _) in enumerate(bench.order) if _RECORDS.get(name) == stage])
        before, (_, seconds) = (bench.order[aim - 1][0] if aim else ""), bench.order[aim]
        delay, workers = rng.uniform(0.0, 0.9) * seconds, rng.random() < 0.5
        child = start(folder, cache, bench.log)
        while child.running() and before and not has(folder / "run", before):
            time.sleep(0.001)
        time.sleep(delay)
        if not child.running():
            continue
        child.kill(workers)
        child.wait(SECONDS)
        record = at_work(bench, folder / "run")
        note = (
            f"aimed at {stage}, killed {delay:.3f} s after {before or 'the start'}{', workers too' if workers else ''}"
        )
        if _RECORDS.get(record) == stage:
            break
    ended = start(folder, cache, bench.log).wait(SECONDS)
    wrong = judge_end(bench, ended, folder / "run")
    return Trial(
        "kill", number, _RECORDS.get(record, record), f"exit {ended.code}", note, wrong, time.monotonic() - began
    )


def judge_end(bench: Bench, ended: Ended, run: Path) -> str:
    """ "" when the run has ended well and left what an undisturbed one leaves."""
    if ended.code != 0 or "Traceback" in ended.err:
        return f"exit {ended.code}: {last_words(ended)}"
    return "; ".join(differences(bench.calm, run)[:5])


def last_words(ended: Ended) -> str:
    lines = [line for line in ended.err.splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    return told or (lines[-1] if lines else "no word")


def refused_well(ended: Ended) -> str:
    """ "" for exit 2 with a sentence and a hint."""
    if ended.code == 2 and "\nhint: " in ended.err and "Traceback" not in ended.err:
        return ""
    return f"exit {ended.code}: {last_words(ended)}"


def can_mount(folder: Path) -> bool:
    """Whether a small disk can be had: it takes root."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def disk_trial(bench: Bench, number: int) -> Trial:
    """A run on a disk that is too small, and on after room was made."""
    rng, began = bench.rng("disk", number), time.monotonic()
    disk = bench.project() / "run"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    try:
        size = sum(p.stat().st_size // 4096 + 1 for p in bench.calm.rglob("*")) * 4
        for _ in range(8):
            space = round(rng.uniform(0.02, 0.95) * size)
            _resize(disk, space)
            ended = start(disk.parent, bench.cache, bench.log).wait(SECONDS)
            if ended.code != 0:
                break
            for path in disk.iterdir():
                remove(path)
        record, note = at_work(bench, disk), f"{space} KiB: {last_words(ended)}"
        wrong = refused_well(ended) or ("" if "No space left" in ended.err else last_words(ended))
        _resize(disk, 65536)
        ended = start(disk.parent, bench.cache, bench.log).wait(SECONDS)
        wrong = wrong or judge_end(bench, ended, disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    return Trial("disk", number, record, f"exit {ended.code}", note, wrong, time.monotonic() - began)


def _resize(disk: Path, kibibytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", str(disk)], check=True)


def together_trial(bench: Bench, number: int) -> Trial:
    """Two commands in one folder: one of them does all, the other one waits for nothing and spoils nothing."""
    rng, began = bench.rng("together", number), time.monotonic()
    folder, logs = bench.project(), [bench.log, bench.root / "log2"]
    other, apart = rng.choice(("prune", "report", "verify", "export")), rng.choice((0.0, rng.uniform(0.0, 6.0)))
    first = start(folder, bench.cache, logs[0])
    time.sleep(apart)
    second = Child(_command(other, folder), logs[1], {"WDP_EDGE_CACHE": str(bench.cache)})
    ends = [first.wait(SECONDS), second.wait(SECONDS)]
    wrong = ""
    if other != "prune" and ends[0].code != 0:
        wrong = f"the run itself: exit {ends[0].code}: {last_words(ends[0])}"
    elif all(ended.code != 0 for ended in ends):
        wrong = f"neither ended well: {last_words(ends[0])}, {last_words(ends[1])}"
    losers = [refused_well(ended) for ended in ends if ended.code != 0]
    wrong = wrong or "; ".join(filter(None, losers)) or "; ".join(differences(bench.calm, folder / "run")[:5])
    codes = " and ".join(f"exit {ended.code}" for ended in ends)
    note = f"{apart:.2f} s apart: {last_words(ends[1])}"
    return Trial("together", number, f"prune and {other}", codes, note, wrong, time.monotonic() - began)


def _command(name: str, folder: Path) -> Callable[[], int]:
    if name == "prune":
        return lambda: perform_run(recipe_of(folder))

    def call() -> int:
        from wdp_edge.cli import main

        return main([name, str(folder / "run")])

    return call
