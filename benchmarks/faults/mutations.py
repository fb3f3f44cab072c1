"""One mutated input, the command that reads it, and everything that must hold of how it ends."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

from faults.inputs import RUNNER, Kind, kind_of
from faults.kills import Bench, last_words
from faults.project import MODEL, recipe_of
from faults.store import Trial
from faults.warm import Child, Ended
from wdp_edge.io.files import sha256

SECONDS = 60.0
MEMORY = 4 << 30
_OTHERS = {"executorch": "model.pte", "tflite": "model.tflite", "coreml": "model.mlpackage"}


def prepare_inputs(bench: Bench) -> None:
    """The project of all mutations: the calm run, and one sound file of every kind that is read."""
    base = bench.root / "inputs"
    if base.exists():
        return
    making = bench.root / "making"
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(bench.root / "template", making)
    shutil.copytree(bench.calm, making / "run")
    (making / "device.txt").write_text(RUNNER)
    rows = [f"{p.relative_to(making / 'data/train')},{p.parent.name}" for p in sorted(making.rglob("train/*/*.png"))]
    (making / "data/train/list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    ended = Child(
        partial(_write_files, making, bench.root / "project", {} if bench.short else _OTHERS), bench.log
    ).wait(1800)
    if ended.code != 0:
        raise RuntimeError(f"the inputs cannot be made:\n{ended.err}")
    making.rename(base)


def _write_files(folder: Path, project: Path, others: dict[str, str]) -> int:
    """A recipe, a .pth, and artifacts of other targets. others: their names, and those of the files."""
    import timm
    import torch
    from safetensors.torch import load_file

    from wdp_edge.config.file import dump_recipe
    from wdp_edge.protocols.precision import Precision
    from wdp_edge.protocols.target import ExportOptions, get_target

    (folder / "wdp-edge.toml").write_text(dump_recipe(recipe_of(project), comments=False))
    weights = load_file(folder / "dense.safetensors")
    torch.save(weights, folder / "dense.pth")
    recipe = recipe_of(project)
    model = timm.create_model(MODEL, num_classes=recipe.model.num_classes, **recipe.model.args).eval()
    model.load_state_dict(weights)
    (folder / "files").mkdir()
    for name, file in others.items():
        target = get_target(name)
        if not target.missing():
            target.export(model, torch.zeros(1, 3, 16, 16), folder / "files" / file, ExportOptions(Precision.FP32))
    return 0


def mutation_trial(bench: Bench, number: int) -> Trial:
    """Mutates the input whose turn it is, and judges the command that reads it."""
    rng, began = bench.rng("mutation", number), time.monotonic()
    kind = kind_of(number, rng)
    project = bench.root / "project"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(bench.root / "inputs", project)
    path = file_of(kind, project)
    if path is None:
        return Trial("mutation", number, kind.name, "skipped", "its toolkit is not installed")
    sound = path.read_bytes()
    data, how = kind.mutate(sound, rng)
    while data == sound:
        data, how = kind.mutate(sound, rng)
    path.write_bytes(data)
    before = fingerprints(project)
    env = {"WDP_EDGE_CACHE": str(bench.cache), "COLUMNS": "200"}
    ended = Child(partial(_attempt, kind, path, bench.log), bench.log, env, MEMORY).wait(SECONDS)
    # What a command that succeeds writes into its run is its work; the rest is never its own.
    kept = {name: d for name, d in before.items() if ended.code == 2 or not name.startswith("run/")}
    wrong = judge(kind, ended, bench.log / "verdict") or overwritten(kept, fingerprints(project))
    note = f"{path.relative_to(project)}: {how}; {last_words(ended)}"
    return Trial("mutation", number, kind.name, f"exit {ended.code}", note, wrong, time.monotonic() - began, ended.rss)


def file_of(kind: Kind, project: Path) -> Path | None:
    """Where the kind's file is; None where the toolkit that writes it is missing."""
    path = project / kind.file
    if path.name == "MODEL":
        return next(path.parent.rglob("*.mlmodel"), None)
    return path if path.exists() else None


def _attempt(kind: Kind, path: Path, log: Path) -> int:
    import os

    os.chdir(next(p for p in path.parents if p.name == "project"))
    verdict = log / "verdict"
    verdict.unlink(missing_ok=True)
    code = kind.read(path)
    if code in (0, 1):
        try:
            verdict.write_text(kind.check(path))
        except Exception as error:
            verdict.write_text(f"the independent reader refuses it: {type(error).__name__}: {error}")
    return code


def judge(kind: Kind, ended: Ended, verdict: Path) -> str:
    """ "" when the command refused the input in one sentence, or read it as the independent reader does."""
    if ended.timed_out:
        return f"longer than {SECONDS:.0f} s"
    if ended.rss > MEMORY:
        return f"{ended.rss >> 20} MiB of memory"
    if ended.code in (0, 1) and "Traceback" not in ended.err:
        return verdict.read_text()
    if ended.code != 2 or "Traceback" in ended.err:
        return f"exit {ended.code}: {ended.err.strip().splitlines()[-1] if ended.err.strip() else 'no word'}"[:300]
    told = ended.err[ended.err.rfind("error: ") :] if "error: " in ended.err else ""
    message, found, hint = told.partition("\nhint: ")
    if not found or not message.endswith(".") or not message.removeprefix("error: ").strip("."):
        return f"no sentence: {told or ended.err}"[:300]
    if not (message + hint.rstrip("\n")).isprintable():
        return f"not to be printed: {told!r}"[:300]
    return ""


_WRITTEN = ("run/report.html", "run/result.json", "run/.lock", "run/artifacts/model-1.onnx.json")


def fingerprints(folder: Path) -> dict[str, str]:
    """SHA-256 by name of every file that no command may write."""
    return {
        name: sha256(p)
        for p in folder.rglob("*")
        if p.is_file() and (name := p.relative_to(folder).as_posix()) not in _WRITTEN
    }


def overwritten(before: dict[str, str], after: dict[str, str]) -> str:
    """ "" when no file has changed or is gone."""
    return "; ".join(f"{name} was changed" for name, digest in before.items() if after.get(name) != digest)
