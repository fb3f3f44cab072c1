"""What is mutated, the command that reads it, and the independent reader that its answer is held against."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faults import readers
from faults.mutate import mutate_bytes, mutate_json, mutate_lines
from faults.project import ARGS, CLASSES, MODEL, fault_clock

Mutation = tuple[bytes, str]
_TOML_LIES = ("", "0", "-1", "1e999", "nan", "true", '"x"', '"../../x"', '"a\\u0000b"', '"\\u001b[2J"', "[]", "{}",
              "99999999999999999999999", "[1, [2]]", "1979-05-27", "'''", '"150%"', "0x1F", '"<b>"')  # fmt: skip
_CSV_LIES = ("", "7", "-1", "1e3", "../../../etc/passwd", "a\x00b", '"', "\x1b[31m", "é", "red,blue")
_SEEN: dict[str, Any] = {}


@dataclass(frozen=True)
class Kind:
    """file: in the project. mutate: its bytes. read: the command; 0 or 2, and what was read kept in `_SEEN`.

    check: "" when what was read is what the bytes say. Both run in the trial's own process.
    """

    name: str
    file: str
    mutate: Callable[[bytes, random.Random], Mutation]
    read: Callable[[Path], int]
    check: Callable[[Path], str]


def performed(call: Callable[[], Any]) -> int:
    from wdp_edge.cli._shared import perform

    def keep() -> None:
        _SEEN["result"] = call()

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
    _SEEN["result"] = answer
    return code


# --- recipe ---


def read_recipe(path: Path) -> int:
    from wdp_edge.pipeline.context import Context
    from wdp_edge.project import project_recipe

    def call() -> Any:
        recipe = project_recipe(path.parent, {}, {}, ("model.name", "model.checkpoint", "data.train", "data.val"))
        Context(recipe).check_prunable()
        return recipe

    return performed(call)


def check_recipe(path: Path) -> str:
    recipe = _SEEN["result"]
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
    for key, value in table.items():
        if isinstance(value, dict) and (*path, key) != ("model", "args"):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


# --- checkpoints and saved models ---


def read_checkpoint(path: Path) -> int:
    from wdp_edge.models.files import load_dense
    from wdp_edge.models.spec import ModelSpec
    from wdp_edge.recipe import ModelRecipe

    spec = ModelSpec.of(ModelRecipe(MODEL, dict(ARGS), len(CLASSES), str(path)))
    return performed(lambda: load_dense(spec, path).state_dict())


def check_safetensors(path: Path) -> str:
    return readers.same(_arrays(), readers.safetensors(path.read_bytes()))


def check_pth(path: Path) -> str:
    return readers.same(_arrays(), readers.torch_zip(path.read_bytes()))


def _arrays() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in _SEEN["result"].items()}


def read_saved(path: Path) -> int:
    from wdp_edge.models.files import load

    return performed(lambda: load(path.parent))


def check_structure(path: Path) -> str:
    """The widths that the file states are those of the loaded layers."""
    model, said = _SEEN["result"], json.loads(path.read_text(encoding="utf-8"))["structure"]
    got = [(b.mlp.fc1.out_features if hasattr(b.mlp, "fc1") else 0) for b in model.blocks]
    wanted = [b["hidden"] for b in said["blocks"]]
    return "" if got == wanted else f"hidden units {wanted} in the file, {got} in the model"


# --- records of a run ---


def read_report(path: Path) -> int:
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
    from wdp_edge.pipeline.prune import prune

    (path.parent.parent / "result.json").unlink(missing_ok=True)
    return performed(lambda: prune(recipe_of(path.parent.parent.parent)))


def check_again(path: Path) -> str:
    from wdp_edge.files import to_plain

    plain = to_plain(_SEEN["result"])
    return "" if json.loads(json.dumps(plain)) == plain else "the result is no JSON"


# --- artifacts ---


def read_artifact(path: Path) -> int:
    return command("inspect", str(path))


def _operators() -> int:
    return sum(o["count"] for o in _SEEN["result"]["contents"]["operators"])


def check_onnx(path: Path) -> str:
    return _counted(_operators(), readers.onnx_operators(path.read_bytes()))


def check_tflite(path: Path) -> str:
    return _counted(_operators(), readers.tflite_operators(path.read_bytes()))


def check_pte(path: Path) -> str:
    return _counted(_SEEN["result"]["contents"]["delegates"], readers.pte_delegates(path.read_bytes()))


def read_package(path: Path) -> int:
    return read_artifact(next(p for p in path.parents if p.suffix == ".mlpackage"))


def check_package(path: Path) -> str:
    package = next(p for p in path.parents if p.suffix == ".mlpackage")
    return _counted(_operators(), readers.mil_operators(next(package.rglob("*.mlmodel")).read_bytes()))


def _counted(got: int, wanted: int) -> str:
    return "" if got == wanted else f"{got} told, {wanted} in the file"


def read_by_runtime(path: Path) -> int:
    """`wdp-edge evaluate` on a file whose facts were made to fit it."""
    from wdp_edge.files import sha256

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
    from wdp_edge.plain import from_plain

    folder = images_at(root / "data/val")
    images, labels = load_labelled(folder, range(len(folder)), from_plain(Preprocessing, facts["preprocessing"]), 0, "")
    for image, label in zip(images.numpy(), labels.tolist(), strict=True):
        x = ((image.astype(np.float32) / 255 - mean) / std)[None]
        (logits,) = program.run(None, {program.input_names[0]: x})
        count, right = count + 1, right + int(np.argmax(logits) == label)
    got = _SEEN["result"]["accuracy"]
    # A weight near a tie may fall either way in another order of sums: one image of six.
    return "" if abs(got - right / count) < 1.01 / count else f"accuracy {got}, by the reference {right / count}"


# --- images, lists, devices ---


def read_image(path: Path) -> int:
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
    wanted = readers.png(path.read_bytes())
    if wanted.shape != (16, 16, 3):
        return ""  # it is resized, which is another reader's business
    return "" if np.array_equal(_SEEN["result"], wanted) else "other pixels"


def read_list(path: Path) -> int:
    from wdp_edge.data.listed import images_at

    return performed(lambda: images_at(path))


def check_list(path: Path) -> str:
    text = path.read_text(encoding="utf-8-sig")
    head, *rows = [row for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
    at = head.index("path")
    wanted = sorted(Path(row[at].strip()).as_posix() for row in rows)
    return "" if sorted(_SEEN["result"].paths) == wanted else "other images"


RUNNER = "\n".join(
    [
        '{"event": "loaded", "runtime": "onnx", "threads": 1, "files": '
        '[{"load_ms": 1.5, "input": [1, 3, 16, 16], "dtype": "float32"}]}',
        '{"event": "round", "number": 0, "ms": [[1.25, 1.5]]}',
        '{"event": "round", "number": 1, "ms": [[1.25, 1.75]]}',
        '{"event": "done", "outputs": [{"abs_sum": 6.0, "first": [1.0, 2.0, 3.0], "count": 3}], '
        '"peak_rss_bytes": 1000000, "temperature": [40.0, 41.0], "clock_mhz": [1800, 1800]}',
    ]
)


def read_device(path: Path) -> int:
    """A timing on a FAKE host that says what the file holds; the device's own checks are real."""
    from unittest.mock import patch

    from wdp_edge.device import Kind as Times
    from wdp_edge.device import TimingPlan
    from wdp_edge.devices.events import Output
    from wdp_edge.devices.reference import Reference
    from wdp_edge.devices.remote import RemoteDevice, _Job

    class FakeHost:
        name, kind = "fake:board", Times.MEASURED

        def stream(self, argv: Any, silence: float) -> Iterator[str]:
            yield from path.read_bytes().decode(errors="replace").splitlines()

    expected = Reference((1, 3, 16, 16), "float32", Output(6.0, (1.0, 2.0, 3.0), 3))
    job = _Job(["runner"], ["model"], ["model.onnx"], [expected], TimingPlan(rounds=2, runs=2, warmup=1))
    device = RemoteDevice(FakeHost())  # type: ignore[arg-type]
    with patch.object(RemoteDevice, "_prepare", lambda *any: job):
        return performed(lambda: device.time("onnx", [path], job.plan))


def check_device(path: Path) -> str:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    wanted = [ms for line in lines if line.get("event") == "round" for ms in line["ms"][0]]
    (timing,) = _SEEN["result"]
    return "" if timing.latency.min == min(wanted) else f"fastest {timing.latency.min}, told {min(wanted)}"


def _json(data: bytes, rng: random.Random) -> Mutation:
    return mutate_json(data.decode(), rng)


def _header(data: bytes, rng: random.Random) -> Mutation:
    """A safetensors file: its header as JSON, or its bytes."""
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.6:
        header, how = mutate_json(data[8 : 8 + size].decode(), rng)
        stated = len(header) if rng.random() < 0.9 else rng.choice((2**40, 2**63, 0, len(header) + 1))
        return stated.to_bytes(8, "little") + header + data[8 + size :], f"header: {how}"
    return mutate_bytes(data, rng, head=size)


def _whole(head: int) -> Callable[[bytes, random.Random], Mutation]:
    return lambda data, rng: mutate_bytes(data, rng, head)


def _toml(data: bytes, rng: random.Random) -> Mutation:
    return mutate_lines(data.decode(), rng, _TOML_LIES, "=")


def _csv(data: bytes, rng: random.Random) -> Mutation:
    return mutate_lines(data.decode(), rng, _CSV_LIES, ",")


def mutate_device(data: bytes, rng: random.Random) -> Mutation:
    """One line of JSON, or the bytes of all."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    lines = data.decode().splitlines()
    at = rng.randrange(len(lines))
    changed, how = mutate_json(lines[at], rng)
    return "\n".join([*lines[:at], changed.decode(errors="replace"), *lines[at + 1 :]]).encode(), how


ART = "run/artifacts/"
STAGES = ("dense", "table", "learn", "select", "recover", "measure", "verify")
KINDS = [
    Kind("recipe", "wdp-edge.toml", _toml, read_recipe, check_recipe),
    Kind("safetensors", "dense.safetensors", _header, read_checkpoint, check_safetensors),
    Kind("pth", "dense.pth", _whole(4096), read_checkpoint, check_pth),
    Kind("structure", "run/model/structure.json", _json, read_saved, check_structure),
    Kind("manifest", "run/manifest.json", _json, read_report, check_report),
    Kind("result", "run/result.json", _json, read_report, check_report),
    *(Kind("stage", f"run/stages/{name}.json", _json, read_report, check_report) for name in STAGES),
    *(Kind("stage", f"run/stages/{name}.json", _json, read_again, check_again) for name in (*STAGES, "compensate")),
    Kind("onnx", ART + "model-1.onnx", _whole(4096), read_artifact, check_onnx),
    Kind("onnx run", ART + "model-1.onnx", _whole(4096), read_by_runtime, check_by_runtime),
    Kind("pte", "files/model.pte", _whole(6000), read_artifact, check_pte),
    Kind("tflite", "files/model.tflite", _whole(0), read_artifact, check_tflite),
    Kind("mlpackage", "files/model.mlpackage/Manifest.json", _json, read_package, check_package),
    Kind("mlpackage", "files/model.mlpackage/MODEL", _whole(4096), read_package, check_package),
    Kind("image", "data/val/red/000.png", _whole(60), read_image, check_image),
    Kind("list", "data/train/list.csv", _csv, read_list, check_list),
    Kind("device", "device.txt", mutate_device, read_device, check_device),
]  # fmt: skip


# Which kinds take turns; those with more to break come twice or three times.
SHARES = (
    "recipe", "recipe", "safetensors", "safetensors", "pth", "pth", "structure", "structure", "manifest", "result",
    "stage", "stage", "stage", "onnx", "onnx run", "pte", "tflite", "mlpackage", "image", "list", "device",
)  # fmt: skip


def kind_of(number: int, rng: random.Random) -> Kind:
    """The kind of a trial: in turn, so that any number of trials is spread over all."""
    name = SHARES[number % len(SHARES)]
    return rng.choice([kind for kind in KINDS if kind.name == name])
