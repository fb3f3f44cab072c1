"""The command that reads each mutated input, and whether its answer is what the bytes say.

`read_…` gives the command's exit code and keeps in `SEEN` what was read; `check_…` gives "" when an independent reader
of the same bytes finds that too. Both run in the trial's own process.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from faults import readers
from faults.project import ARGS, CLASSES, MODEL, fault_clock

SEEN: dict[str, Any] = {}


def performed(call: Callable[[], Any]) -> int:
    """The exit code of a call, on the fake clock; its result is kept. Errors are told as commands tell them."""
    from wdp_edge.cli._shared import perform

    def keep() -> None:
        SEEN["result"] = call()

    with fault_clock():
        return perform(keep, lambda result: None, as_json=False)


def command(*words: str) -> int:
    """A command whose JSON is kept."""
    import contextlib

    from wdp_edge.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main([*words, "--json"])
    answer = json.loads(said.getvalue())
    if "error" in answer:
        print(f"error: {answer['error']['message']}\nhint: {answer['error']['hint']}", file=sys.stderr)
    SEEN["result"] = answer
    return code


# --- recipe ---


def read_recipe(path: Path) -> int:
    """What a command does with a recipe before it costs time."""
    from wdp_edge.commands.init import project_recipe
    from wdp_edge.pruning.inputs import Inputs

    def call() -> Any:
        recipe = project_recipe(path.parent, {}, {}, ("model.name", "model.checkpoint", "data.train", "data.val"))
        Inputs.of(recipe).check_prunable()
        return recipe

    return performed(call)


def check_recipe(path: Path) -> str:
    """Every setting of the file has its value in the recipe, as `tomllib` reads it."""
    recipe = SEEN["result"]
    for key, value in leaves(tomllib.loads(path.read_text(encoding="utf-8"))):
        if key[0] == "budget" or key[:2] == ("model", "args"):
            continue
        got = recipe
        for name in key:
            got = getattr(got, name)
        got = got.value if hasattr(got, "value") else got
        relative = isinstance(value, str) and got == str(path.parent / value)
        if got != value and not relative and list(np.ravel(got)) != list(np.ravel(value)):
            return f"{'.'.join(key)} is {value!r} in the file and {got!r} in the recipe"
    return ""


def leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting of a table: its names from the outermost to its own, and its value."""
    for key, value in table.items():
        if isinstance(value, dict) and (*path, key) != ("model", "args"):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


# --- checkpoints and saved models ---


def read_checkpoint(path: Path) -> int:
    """Loads the dense model."""
    from wdp_edge.config.recipe import ModelRecipe
    from wdp_edge.models.files import load_dense
    from wdp_edge.models.spec import ModelSpec

    spec = ModelSpec.of(ModelRecipe(MODEL, dict(ARGS), len(CLASSES), str(path)))
    return performed(lambda: load_dense(spec, path).state_dict())


def check_safetensors(path: Path) -> str:
    """The model holds the file's tensors."""
    return readers.same(_arrays(), readers.safetensors(path.read_bytes()))


def check_pth(path: Path) -> str:
    """The model holds the archive's tensors."""
    return readers.same(_arrays(), readers.torch_zip(path.read_bytes()))


def _arrays() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in SEEN["result"].items()}


def read_saved(path: Path) -> int:
    """Loads the folder of a pruned model."""
    from wdp_edge.models.files import load

    return performed(lambda: load(path.parent))


def check_structure(path: Path) -> str:
    """The widths that the file states are those of the loaded layers."""
    model, said = SEEN["result"], json.loads(path.read_text(encoding="utf-8"))["structure"]
    got = [(b.mlp.fc1.out_features if hasattr(b.mlp, "fc1") else 0) for b in model.blocks]
    wanted = [b["hidden"] for b in said["blocks"]]
    return "" if got == wanted else f"hidden units {wanted} in the file, {got} in the model"


# --- records of a run ---


def read_report(path: Path) -> int:
    """`wdp-edge report`"""
    run = path.parent if path.name in ("manifest.json", "result.json") else path.parent.parent
    return command("report", str(run))


def check_report(path: Path) -> str:
    """The page is whole, and nothing in it has become markup."""
    run = path.parent if path.name in ("manifest.json", "result.json") else path.parent.parent
    page = (run / "report.html").read_text(encoding="utf-8")
    json.loads(path.read_text(encoding="utf-8"))
    if not page.rstrip().endswith("</html>") or "<script" in page.lower() or "\x1b" in page:
        return "the report is cut short or holds what the record put into it"
    return ""


def read_again(path: Path) -> int:
    """`wdp-edge prune` on a run that has all its records but the result."""
    from faults.project import recipe_of
    from wdp_edge.pruning.prune import prune

    (path.parent.parent / "result.json").unlink(missing_ok=True)
    return performed(lambda: prune(recipe_of(path.parent.parent.parent)))


def check_again(path: Path) -> str:
    """The run went on and ended in a result."""
    from wdp_edge.io.files import to_plain

    plain = to_plain(SEEN["result"])
    return "" if json.loads(json.dumps(plain)) == plain else "the result is no JSON"


# --- artifacts ---


def read_artifact(path: Path) -> int:
    """`wdp-edge inspect`"""
    return command("inspect", str(path))


def _operators() -> int:
    return sum(o["count"] for o in SEEN["result"]["contents"]["operators"])


def check_onnx(path: Path) -> str:
    """As many operators as nodes of the graph."""
    return _counted(_operators(), readers.onnx_operators(path.read_bytes()))


def check_tflite(path: Path) -> str:
    """As many operators as the subgraphs have."""
    return _counted(_operators(), readers.tflite_operators(path.read_bytes()))


def check_pte(path: Path) -> str:
    """As many delegates as the first plan has."""
    return _counted(SEEN["result"]["contents"]["delegates"], readers.pte_delegates(path.read_bytes()))


def read_package(path: Path) -> int:
    """`wdp-edge inspect` on the package that the file is in."""
    return read_artifact(next(p for p in path.parents if p.suffix == ".mlpackage"))


def check_package(path: Path) -> str:
    """As many operators as operations that are no constants."""
    package = next(p for p in path.parents if p.suffix == ".mlpackage")
    return _counted(_operators(), readers.mil_operators(next(package.rglob("*.mlmodel")).read_bytes()))


def _counted(got: int, wanted: int) -> str:
    return "" if got == wanted else f"{got} told, {wanted} in the file"


def read_by_runtime(path: Path) -> int:
    """`wdp-edge evaluate` on a file whose facts were made to fit it."""
    from wdp_edge.io.files import sha256

    beside = path.with_name(path.name + ".json")
    facts = json.loads(beside.read_text())
    beside.write_text(json.dumps({**facts, "sha256": sha256(path)}))
    return command("evaluate", str(path))


def check_by_runtime(path: Path) -> str:
    """The same share of images right by ONNX's reference implementation."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    root, facts = Path(path.parents[2]), json.loads(path.with_name(path.name + ".json").read_text())
    mean, std = (np.array(facts["preprocessing"][k], np.float32).reshape(3, 1, 1) for k in ("mean", "std"))
    program, right, count = ReferenceEvaluator(onnx.load(path)), 0, 0
    from wdp_edge.data.listed import images_at
    from wdp_edge.data.loading import load_labelled
    from wdp_edge.data.preprocess import Preprocessing
    from wdp_edge.io.plain import from_plain

    folder = images_at(root / "data/val")
    images, labels = load_labelled(folder, range(len(folder)), from_plain(Preprocessing, facts["preprocessing"]), 0, "")
    for image, label in zip(images.numpy(), labels.tolist(), strict=True):
        x = ((image.astype(np.float32) / 255 - mean) / std)[None]
        (logits,) = program.run(None, {program.input_names[0]: x})
        count, right = count + 1, right + int(np.argmax(logits) == label)
    got = SEEN["result"]["accuracy"]
    # A weight near a tie may fall either way in another order of sums: one image of six.
    return "" if abs(got - right / count) < 1.01 / count else f"accuracy {got}, by the reference {right / count}"


# --- images, lists, devices ---


def read_image(path: Path) -> int:
    """The pixels that training would see, without a crop."""
    from dataclasses import replace

    from faults.project import recipe_of
    from wdp_edge.data.listed import images_at
    from wdp_edge.data.loading import load_labelled
    from wdp_edge.data.preprocess import preprocessing_of
    from wdp_edge.models.spec import ModelSpec, create

    spec = ModelSpec.of(recipe_of(path.parents[3]).model)
    plain = replace(preprocessing_of(create(spec)), crop_pct=1.0)
    folder = images_at(path.parent.parent)
    place = folder.paths.index(path.relative_to(folder.root).as_posix())
    return performed(lambda: load_labelled(folder, [place], plain, 0, "read")[0][0].permute(1, 2, 0).numpy())


def check_image(path: Path) -> str:
    """The same pixels."""
    wanted = readers.png(path.read_bytes())
    if wanted.shape != (16, 16, 3):
        return ""  # it is resized, which is another reader's business
    return "" if np.array_equal(SEEN["result"], wanted) else "other pixels"


def read_list(path: Path) -> int:
    """Reads a list of images."""
    from wdp_edge.data.listed import images_at

    return performed(lambda: images_at(path))


def check_list(path: Path) -> str:
    """The same paths."""
    text = path.read_text(encoding="utf-8-sig")
    head, *rows = [row for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
    at = head.index("path")
    wanted = sorted(Path(row[at].strip()).as_posix() for row in rows)
    return "" if sorted(SEEN["result"].paths) == wanted else "other images"


def read_device(path: Path) -> int:
    """A timing on a FAKE host that says what the file holds; the device's own checks are real."""
    from unittest.mock import patch

    from wdp_edge.devices.events import OutputDigest
    from wdp_edge.devices.reference import ExpectedOutput
    from wdp_edge.devices.remote import RemoteDevice, _Job
    from wdp_edge.protocols.device import Kind as Times
    from wdp_edge.protocols.device import TimingPlan

    class FakeHost:
        name, kind = "fake:board", Times.MEASURED

        def stream(self, argv: Any, silence: float) -> Iterator[str]:
            yield from path.read_bytes().decode(errors="replace").splitlines()

    expected = ExpectedOutput((1, 3, 16, 16), "float32", OutputDigest(6.0, (1.0, 2.0, 3.0), 3))
    job = _Job(["runner"], ["model"], ["model.onnx"], [expected], TimingPlan(rounds=2, runs=2, warmup=1))
    device = RemoteDevice(FakeHost())  # type: ignore[arg-type]
    with patch.object(RemoteDevice, "_prepare", lambda *any: job):
        return performed(lambda: device.time("onnx", [path], job.plan))


def check_device(path: Path) -> str:
    """The fastest run is the fastest that the runner told."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    wanted = [ms for line in lines if line.get("event") == "round" for ms in line["ms"][0]]
    (timing,) = SEEN["result"]
    return "" if timing.latency.min == min(wanted) else f"fastest {timing.latency.min}, told {min(wanted)}"
