"""`make bench-faults`: what survives a kill, a full disk, a second command, and input that was damaged on purpose.

Runs of a tiny ViT on a FAKE clock are killed at seeded points inside every stage, meet a full disk or another command,
and must end in the same files as an undisturbed run. Mutated inputs of every format must be refused in one sentence, or
read as an independent reader reads them. Trials are stored: the same command goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections import Counter
from functools import partial
from pathlib import Path

from faults import kills, mutations, warm
from faults.store import Store, Trial, run_all

import wdp_edge
from wdp_edge import calibration, targets
from wdp_edge.io.files import sha256


def main() -> int:
    """The trials that are missing, and all figures; the exit code."""
    options = parsed()
    root = options.folder.absolute()
    store = Store.at(root)
    logging.disable(logging.WARNING)
    counts = {k: getattr(options, k) for k in ("kill", "disk", "together", "mutation")}
    if not same_code(root):
        print(f"The trials in {root} are of other code: give another --folder, or remove that one.")
        return 2
    if any(store.missing(kind, count) for kind, count in counts.items()):
        make(store, root, options, counts)
    return show(store, counts)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("build/faults"), help="where trials are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="without what takes long to export; no kill inside table")
    for kind, count, what in (
        ("kill", 100, "killed runs"),
        ("disk", 20, "runs with a full disk"),
        ("together", 20, "runs beside another command"),
        ("mutation", 1000, "mutated inputs"),
    ):
        parser.add_argument(f"--{kind}", type=int, default=count, metavar="N", help=f"{what} ({count})")
    return parser.parse_args()


def same_code(root: Path) -> bool:
    """Whether a folder's trials are of the present code: a reference of older code differs without a fault. A new
    folder becomes one of the present code."""
    packages = [Path(place) for package in (wdp_edge, calibration, targets) for place in package.__path__]
    files = sorted(p for package in packages for p in package.rglob("*.py"))
    code = hashlib.sha256("".join(sha256(path) for path in files).encode()).hexdigest()
    if not (root / "code").exists():
        (root / "code").write_text(code)
    return (root / "code").read_text() == code


def make(store: Store, root: Path, options: argparse.Namespace, counts: dict[str, int]) -> None:
    """All trials that are missing."""
    warm.warm_up(root / "tmp")
    bench = kills.prepare(root, options.seed, options.short)
    trials = {"kill": kills.kill_trial, "disk": kills.disk_trial, "together": kills.together_trial}
    if counts["mutation"]:
        mutations.prepare_inputs(bench)
    for kind, trial in {**trials, "mutation": mutations.mutation_trial}.items():
        if kind == "disk" and counts["disk"] and not kills.can_mount(root / "mount"):
            print("A full disk is a small tmpfs, and mounting one takes root: those runs are left out.", flush=True)
            continue
        run_all(store, kind, counts[kind], partial(trial, bench), said)


def said(line: str) -> None:
    """A line that is seen at once, also in a file."""
    print(line, flush=True)


def show(store: Store, counts: dict[str, int]) -> int:
    """The figures; exit 1 where anything is not as it should be."""
    names = {
        "kill": "killed runs end as undisturbed ones",
        "disk": "runs that found the disk full say so and end so too",
        "together": "runs beside another command do too",
        "mutation": "mutated inputs are refused in a sentence or read right",
    }
    failed: list[Trial] = []
    for kind, count in counts.items():
        done = [trial for trial in store.of(kind, count) if trial.how != "skipped"]
        wrong = [trial for trial in done if trial.wrong]
        failed += wrong
        print(f"{len(done) - len(wrong):,} of {count:,} {names[kind]}")
        if kind == "kill" and done:
            print("  inside: " + ", ".join(f"{s} {n}" for s, n in Counter(t.where for t in done).most_common()))
        if kind == "mutation" and done:
            print(f"  {sum(t.how == 'exit 2' for t in done):,} of them invalid")
            print("  " + ", ".join(f"{s} {n}" for s, n in Counter(t.where for t in done).most_common()))
            print(f"  at most {max(t.seconds for t in done):.1f} s and {max(t.bytes for t in done) / 2**30:.2f} GiB")
    for trial in failed:
        print(f"{trial.kind} {trial.number} ({trial.where}, {trial.note}): {trial.wrong}")
    return 1 if failed or any(store.missing(kind, count) for kind, count in counts.items()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
