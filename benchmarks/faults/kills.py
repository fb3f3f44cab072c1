"""Runs that are killed with SIGKILL, that find the disk full, or that meet a second command in their folder."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faults.compare import differences, without_export
from faults.project import REPORT, Diary, copy_project, empty_probes, make_project, perform_run, recipe_of
from faults.store import Trial
from faults.warm import Child, Ended
from wdp_edge.io.files import remove

STAGES = ("table", "learning", "selection", "compensation", "recovery", "export", "tightening", "report")
SECONDS = 3600.0
RECORDS = {
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
    """What all trials share. order: the records of the undisturbed run and the seconds that each took.

    short: without what takes long to export.
    """

    root: Path
    seed: int
    order: tuple[tuple[str, float], ...]
    short: bool = False

    def __post_init__(self) -> None:
        if lacking := set(STAGES) - {RECORDS.get(name, "") for name, _ in self.order}:
            raise RuntimeError(f"the undisturbed run has no stage {', '.join(sorted(lacking))}")

    @property
    def calm(self) -> Path:
        """What the undisturbed run left."""
        return self.root / "calm"

    @property
    def cache(self) -> Path:
        """Where the undisturbed run left its table."""
        return self.root / "cache"

    @property
    def log(self) -> Path:
        """What the first process of a trial says."""
        return self.root / "log"

    def project(self, record: str = "") -> Path:
        """A fresh project, always in the same place: paths are part of what runs write.

        record: with the undisturbed run as it was right before it made that one; "" for no run.
        """
        shutil.rmtree(self.root / "tmp", ignore_errors=True)
        (self.root / "tmp").mkdir()
        folder = copy_project(self.root / "template", self.root / "project")
        if record:
            shutil.copytree(self.root / "halted" / record, folder / "run")
        return folder

    def rng(self, kind: str, number: int) -> random.Random:
        """Of one trial, whichever others are made."""
        return random.Random(f"{self.seed} {kind} {number}")


def prepare(root: Path, seed: int, short: bool = False) -> Bench:
    """The template of all projects, and the undisturbed run, which leaves its table in the cache.

    short: with a table of `empty_probes`.
    """
    if not (root / "template").exists():
        shutil.rmtree(root / "making", ignore_errors=True)
        _must(Child(partial(make_project, root / "making"), root / "log"), "the project")
        (root / "making").rename(root / "template")
    if not (root / "order").exists():
        for made in ("cache", "halted", "calm"):
            shutil.rmtree(root / made, ignore_errors=True)
        project = copy_project(root / "template", root / "project")
        probes: AbstractContextManager[None] = empty_probes() if short else nullcontext()
        with probes:
            undisturbed = start(project, root / "cache", root / "log", root / "halted")
        _must(undisturbed, "an undisturbed run")
        copy_project(project / "run", root / "calm")
        seconds = [f"{name} {seconds}" for name, seconds in diary_of(root / "log").ended()]
        (root / "order").write_text("\n".join(seconds))
    lines = (line.split() for line in (root / "order").read_text().splitlines())
    return Bench(root, seed, tuple((name, float(seconds)) for name, seconds in lines), short)


def _must(child: Child, what: str) -> None:
    ended = child.wait(SECONDS)
    if ended.code != 0:
        how = f"takes longer than {SECONDS:.0f} s" if ended.timed_out else "fails"
        raise RuntimeError(f"{what} {how}, so there is nothing to compare with:\n{ended.err}")


def diary_of(log: Path) -> Diary:
    """Of the process whose output goes to `log`."""
    return Diary(log / "diary")


def start(folder: Path, cache: Path, log: Path, halted: Path | None = None) -> Child:
    """A process that runs the project in `folder`. halted: see `perform_run`."""
    diary = diary_of(log).path
    diary.unlink(missing_ok=True)
    return Child(lambda: perform_run(recipe_of(folder), diary, halted), log, {"WDP_EDGE_CACHE": str(cache)})


def has(run: Path, record: str) -> bool:
    """Whether the run has made this record."""
    return (run / REPORT if record == REPORT else run / "stages" / f"{record}.json").exists()


def at_work(bench: Bench, run: Path) -> str:
    """The record that the run was making: the first that is not there."""
    return next((name for name, _ in bench.order if not has(run, name)), "")


@dataclass(frozen=True)
class Blow:
    """A SIGKILL while a record is made. whole: of a run from the start, not of one that goes on from right before.

    delay: seconds after the record was begun. workers: whether the process's workers are killed as well.
    """

    record: str
    whole: bool
    delay: float
    workers: bool

    @classmethod
    def drawn(cls, bench: Bench, rng: random.Random, stage: str, reach: float) -> Blow:
        """One for a stage. reach: the latest point, as a share of what its record took in the undisturbed run."""
        record, seconds = rng.choice([(name, took) for name, took in bench.order if RECORDS.get(name) == stage])
        return cls(record, rng.random() < 0.25, rng.uniform(0.0, reach) * seconds, rng.random() < 0.5)

    def __str__(self) -> str:
        of, workers = "a run from the start" if self.whole else "a run that goes on", ", workers too" * self.workers
        return f"{of}, killed {self.delay:.3f} s after it began {self.record}{workers}"


def kill_trial(bench: Bench, number: int) -> Trial:
    """Kills a run inside the stage whose turn it is, runs it again, and compares."""
    rng, began = bench.rng("kill", number), time.monotonic()
    stage, reach = STAGES[number % len(STAGES)], 0.9
    if bench.short and stage == "table":
        return Trial("kill", number, stage, "skipped", "measuring a table takes as long as all else")
    for _ in range(8):
        blow = Blow.drawn(bench, rng, stage, reach)
        folder = bench.project("" if blow.whole else blow.record)
        # A table that is in the cache is not measured.
        cache = folder / "cache" if stage == "table" else bench.cache
        inside = strike(bench, start(folder, cache, bench.log), folder / "run", blow)
        if inside:
            break
        reach /= 2  # another time the machine was faster than while the undisturbed run was made
    ended = start(folder, cache, bench.log).wait(SECONDS)
    wrong = judge_end(bench, ended, folder / "run") if inside else "none of eight blows landed inside the stage"
    return Trial("kill", number, stage, f"exit {ended.code}", str(blow), wrong, time.monotonic() - began)


def strike(bench: Bench, child: Child, run: Path, blow: Blow) -> bool:
    """Whether the kill landed inside the stage: the run had begun its record, and has not got it."""
    diary = diary_of(bench.log)
    while child.running() and not diary.began(blow.record):
        time.sleep(0.002)
    time.sleep(blow.delay)
    child.kill(blow.workers)
    return child.wait(SECONDS).code == -signal.SIGKILL and diary.began(blow.record) and not has(run, blow.record)


def judge_end(bench: Bench, ended: Ended, run: Path) -> str:
    """ "" when the run has ended well and left what an undisturbed one leaves."""
    if ended.code != 0 or "Traceback" in ended.err:
        return f"exit {ended.code}: {last_words(ended)}"
    return "; ".join(differences(bench.calm, run)[:5])


def last_words(ended: Ended) -> str:
    """What a process said last: its error, if it told one."""
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
    length = sum(seconds for name, seconds in bench.order if name != "table")
    rng, began = bench.rng("together", number), time.monotonic()
    folder, logs = bench.project(), [bench.log, bench.root / "log2"]
    other, apart = rng.choice(("prune", "report", "verify", "export")), rng.choice((0.0, rng.uniform(0.0, length)))
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
    run = folder / "run"
    found = differences(bench.calm, run)
    if other == "export" and ends[1].code == 0:
        # It found the run finished, and added a file of its own.
        found = without_export(found, bench.calm, run)
    wrong = wrong or "; ".join(filter(None, losers)) or "; ".join(found[:5])
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
