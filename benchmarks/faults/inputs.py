"""What is mutated and how, and the command that reads it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults import reading
from faults.mutate import mutate_bytes, mutate_json, mutate_lines

Mutation = tuple[bytes, str]
_TOML_LIES = ("", "0", "-1", "1e999", "nan", "true", '"x"', '"../../x"', '"a\\u0000b"', '"\\u001b[2J"', "[]", "{}",
              "99999999999999999999999", "[1, [2]]", "1979-05-27", "'''", '"150%"', "0x1F", '"<b>"')  # fmt: skip
_CSV_LIES = ("", "7", "-1", "1e3", "../../../etc/passwd", "a\x00b", '"', "\x1b[31m", "é", "red,blue")
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


@dataclass(frozen=True)
class Kind:
    """file: in the project. mutate: its bytes. read: the command; 0 or 2, and what was read kept.

    check: "" when what was read is what the bytes say. Both run in the trial's own process.
    """

    name: str
    file: str
    mutate: Callable[[bytes, random.Random], Mutation]
    read: Callable[[Path], int]
    check: Callable[[Path], str]


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
RECORDS = ("dense", "table", "learn", "select", "recover", "measure", "verify")
KINDS = [
    Kind("recipe", "wdp-edge.toml", _toml, reading.read_recipe, reading.check_recipe),
    Kind("safetensors", "dense.safetensors", _header, reading.read_checkpoint, reading.check_safetensors),
    Kind("pth", "dense.pth", _whole(4096), reading.read_checkpoint, reading.check_pth),
    Kind("structure", "run/model/structure.json", _json, reading.read_saved, reading.check_structure),
    Kind("manifest", "run/manifest.json", _json, reading.read_report, reading.check_report),
    Kind("result", "run/result.json", _json, reading.read_report, reading.check_report),
    *(Kind("stage", f"run/stages/{name}.json", _json, reading.read_report, reading.check_report) for name in RECORDS),
    *(Kind("stage", f"run/stages/{name}.json", _json, reading.read_again, reading.check_again) for name in RECORDS),
    Kind("stage", "run/stages/compensate.json", _json, reading.read_again, reading.check_again),
    Kind("onnx", ART + "model-1.onnx", _whole(4096), reading.read_artifact, reading.check_onnx),
    Kind("onnx run", ART + "model-1.onnx", _whole(4096), reading.read_by_runtime, reading.check_by_runtime),
    Kind("pte", "files/model.pte", _whole(6000), reading.read_artifact, reading.check_pte),
    Kind("tflite", "files/model.tflite", _whole(0), reading.read_artifact, reading.check_tflite),
    Kind("mlpackage", "files/model.mlpackage/Manifest.json", _json, reading.read_package, reading.check_package),
    Kind("mlpackage", "files/model.mlpackage/MODEL", _whole(4096), reading.read_package, reading.check_package),
    Kind("image", "data/val/red/000.png", _whole(60), reading.read_image, reading.check_image),
    Kind("list", "data/train/list.csv", _csv, reading.read_list, reading.check_list),
    Kind("device", "device.txt", mutate_device, reading.read_device, reading.check_device),
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
