"""A run directory with plausible figures of a DINOv2-S: `python tests/support/report_run.py FOLDER`."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.io.files import write_json, write_text
from wdp_edge.models.structure import AttentionGeometry, BlockWidths, Geometry, MlpGeometry, Structure, count
from wdp_edge.protocols.device import Kind, Latency
from wdp_edge.runs.drops import Drops
from wdp_edge.runs.figures import BudgetFigures, ModelFigures
from wdp_edge.runs.results import Parity, PruneResult
from wdp_edge.runs.stages import (
    MANIFEST,
    RECIPE,
    RESULT,
    Candidate,
    CurvePoint,
    Learned,
    Measured,
    Recovered,
    Round,
    Selected,
    Verified,
)
from wdp_edge.tasks.by_class import paired_drops

DENSE = Structure(384, (BlockWidths(6, 64, 1536),) * 12)
GEOMETRY = Geometry(
    attention=(AttentionGeometry(tokens=17, keys=17, per_channel=4, per_inner=3),) * 12,
    mlp=(MlpGeometry(tokens=17, per_channel=4, per_unit=1),) * 12,
    parameters=242_314,
    macs=3_613_824,
)
HEADS = [5, 4, 4, 5, 6, 5, 4, 4, 3, 4, 3]
HIDDEN = [768, 576, 512, 640, 704, 768, 640, 576, 448, 512, 320]
CHANNELS = [24, 24, 32, 32, 40, 48, 40, 40, 32, 48, 64]
SHIPPED = DENSE.with_widths(HEADS, HIDDEN, CHANNELS)
BUDGET_MS, DENSE_MS = 2.14, 4.28


def attention_ms(heads: int) -> float:
    return 0.017 + 0.013 * heads


def mlp_ms(hidden: int) -> float:
    return 0.012 + 0.0001538 * hidden


def build_run(folder: Path, model: str = "vit_small_patch14_dinov2.lvd142m") -> Path:
    """Writes every file of a finished run and returns its folder."""
    write_json(folder / RESULT, result(folder))
    write_text(folder / RECIPE, recipe(model))
    write_json(folder / MANIFEST, manifest())
    stages = folder / "stages"
    write_json(stages / "dense.json", {"structure": DENSE, "geometry": GEOMETRY, "accuracy": 0.9165})
    write_json(stages / "table.json", table())
    write_json(stages / "learn.json", learned())
    write_json(stages / "select.json", selected())
    write_json(stages / "recover.json", recovered())
    write_json(stages / "measure.json", measured())
    write_json(stages / "verify.json", verified())
    return folder


def table() -> LatencyTable:
    return LatencyTable(
        attention=tuple((h, attention_ms(h)) for h in range(1, 7)),
        mlp=tuple((n, mlp_ms(n)) for n in (64, 320, 640, 960, 1280, 1536)),
        fixed_ms=0.16,
        dense_ms=DENSE_MS,
        kind=Kind.MEASURED,
        key=TableKey("executorch", "int8-dynamic", "local", 1, 384, 64, 17, {"torch": "2.14.1"}),
        context=(),
    )


def result(folder: Path) -> PruneResult:
    dense, shipped = count(DENSE, GEOMETRY), count(SHIPPED, GEOMETRY)
    return PruneResult(
        run=folder,
        target="executorch",
        precision="int8-dynamic",
        device="local",
        budget=BudgetFigures(BUDGET_MS, 2.087, 2.087 / BUDGET_MS, True),
        dense=ModelFigures(0.9165, Latency(4.28, 4.47, 4.21), dense.macs, dense.parameters, 22_753_064, exit=12),
        shipped=ModelFigures(
            accuracy=0.9082,
            latency_ms=Latency(2.087, 2.151, 2.04),
            macs=shipped.macs,
            parameters=shipped.parameters,
            bytes=12_204_416,
            path=Path("artifacts/model.pte"),
            exit=11,
            agreement=0.9537,
        ),
        drops=drops(),
    )


CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def drops(names: Sequence[str] = CLASSES, images: int = 1000) -> Drops:
    """Losses that grow from class to class, from a seed; the first of more than ten classes has no images."""
    noise = np.random.default_rng(3)
    groups = np.repeat(np.arange(len(names)), images)
    before = noise.random(len(groups)) < 0.9165
    after = np.where(noise.random(len(groups)) < 0.03 * groups / len(names), ~before & (groups % 2 > 0), before)
    seen = (groups > 0) | (len(names) <= 10)
    return paired_drops(before[seen], after[seen], groups[seen], names, "accuracy")


def recipe(model: str) -> str:
    return f"""[model]
name = {model!r}
num_classes = 10
checkpoint = "dense.safetensors"

[model.args]
img_size = 56

[data]
train = "cifar10/train"
val = "cifar10/test"

[prune]
latency_budget = "50%"
precision = "int8-dynamic"
images = 100000

[prune.select]
floor = 0.95
"""


def manifest() -> dict[str, object]:
    options = "--latency-budget 50% --precision int8-dynamic --train cifar10/train --val cifar10/test"
    return {
        "version": 1,
        "command": ["wdp-edge", "prune", *options.split()],
        "started": "2026-11-23T10:04:12.501233+00:00",
        "finished": "2026-11-23T10:27:55.100912+00:00",
        "versions": {
            "executorch": "1.5.1",
            "python": "3.11.2",
            "timm": "1.0.31",
            "torch": "2.14.1",
            "torchao": "0.18.0",
            "wdp-edge": "0.1.0",
        },
        "seed": 0,
        "device": {
            "name": "local",
            "model": "AMD EPYC 9R14 96-Core Processor",
            "cores": 2,
            "features": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"],
            "system": "Linux 6.1 x86_64",
        },
        "data": {
            "train": {"images": 50_000, "classes": 10, "fingerprint": digest(1)},
            "val": {"images": 10_000, "classes": 10, "fingerprint": digest(2)},
        },
        "artifacts": {
            "artifacts/model.pte": {"sha256": digest(3), "bytes": 12_204_416},
            "artifacts/dense.pte": {"sha256": digest(4), "bytes": 22_753_064},
            "model/model.safetensors": {"sha256": digest(5), "bytes": 46_220_032},
        },
        "recipe_digest": digest(6)[:16],
    }


def digest(seed: int) -> str:
    return f"{random.Random(seed).getrandbits(256):064x}"


def learned() -> Learned:
    noise = random.Random(7)
    curve = []
    for step in range(0, 235, 6):
        done = step / 234
        keep = 1 - 0.32 * (1 - math.exp(-3.2 * done))
        curve.append(
            CurvePoint(
                step,
                step * 64,
                {
                    "loss": 0.9 * math.exp(-2.5 * done) + 0.42 + noise.gauss(0, 0.03),
                    "distillation": 0.7 * math.exp(-2.5 * done) + 0.3 + noise.gauss(0, 0.02),
                    "budget_ms": 4.28 - 2.14 * min(1.0, 2 * done),
                    "cost_ms": 4.2 - 2.12 * (1 - math.exp(-4.5 * done)) + noise.gauss(0, 0.02),
                    "keep_heads": keep + noise.gauss(0, 0.005),
                    "keep_hidden": keep - 0.11 * done + noise.gauss(0, 0.005),
                    "keep_channels": keep - 0.05 * done + noise.gauss(0, 0.005),
                    "lambda": 10 * done,
                },
            )
        )
    return Learned(
        heads_scores=[[noise.random() for _ in range(6)] for _ in range(12)],
        hidden_scores=[[noise.random() for _ in range(16)] for _ in range(12)],
        keep_heads=[min(1.0, (h + noise.uniform(-0.6, 0.4)) / 6) for h in [*HEADS, 2]],
        keep_hidden=[(n + noise.uniform(-90, 60)) / 1536 for n in [*HIDDEN, 400]],
        seconds=148.2,
        images=15_000,
        curve=curve,
        keep_channels=[min(1.0, (c + noise.uniform(-6, 0)) / 64) for c in [*CHANNELS, 24]],
    )


def predicted(heads: list[int], hidden: list[int]) -> float:
    return 0.16 + sum(map(attention_ms, heads)) + sum(map(mlp_ms, hidden))


def candidate(exit: int, agreement: float, chosen: bool = False) -> Candidate:
    wider = 1 + 0.09 * (11 - exit)
    heads = [min(6, round(h * wider)) for h in [*HEADS, 2][:exit]]
    hidden = [min(1536, 64 * round(n * wider / 64)) for n in [*HIDDEN, 448][:exit]]
    ms = predicted(heads, hidden)
    return Candidate(f"exit {exit}", exit, heads, hidden, ms, agreement, 0.9 * (1 - agreement), chosen)


def selected() -> Selected:
    return Selected(
        kept_heads=[list(range(n)) for n in HEADS],
        kept_hidden=[list(range(n)) for n in HIDDEN],
        predicted_ms=2.08,
        candidates=[
            candidate(12, 0.871),
            candidate(11, 0.8885, True),
            candidate(10, 0.8655),
            candidate(9, 0.8215),
        ],
        rounds=[
            Round(2.086, 2.215, 4.29, 2.145, 1.062),
            Round(2.085, 2.087, 4.28, 2.14, 1.063),
        ],
        seconds=212.0,
        head_dims=CHANNELS,
    )


def recovered() -> Recovered:
    noise = random.Random(8)
    curve = []
    for step in range(0, 661, 10):
        done = step / 660
        values = {"loss": 0.35 + 0.5 * math.exp(-4 * done) + noise.gauss(0, 0.015), "lr": 2e-4 * (1 - done)}
        values["distillation"] = 0.7 * values["loss"]
        values["features"] = 0.08 + 0.1 * math.exp(-3 * done)
        if step % 110 == 0:
            values["holdout_accuracy"] = 0.876 + 0.032 * (1 - math.exp(-3 * done)) + noise.gauss(0, 0.001)
        curve.append(CurvePoint(step, step * 128, values))
    return Recovered(seconds=655.4, images=84_480, curve=curve)


def measured() -> Measured:
    noise = random.Random(9)
    slow = [noise.gauss(0.004, 0.018) for _ in range(12)]
    dense = [DENSE_MS * (1 + s) for s in slow]
    shipped = [2.087 * (1 + 0.6 * s + noise.gauss(0, 0.005)) for s in slow]
    whole = Latency(2.087, 2.151, 2.04, Kind.MEASURED)
    return Measured(Latency(4.28, 4.47, 4.21), whole, 2.087 / 4.28, BUDGET_MS, dense, shipped)


def verified() -> Verified:
    return Verified(
        [
            Parity("masked = shrunk", 64, 4.1e-6, 1.0, 1.0, 1.0),
            Parity("shrunk = exported, fp32", 64, 9.5e-6, 1.0, 1.0, 1.0),
            Parity("shrunk = exported, int8-dynamic", 64, 0.217, 0.99871, 0.99794, 0.984375),
        ]
    )


if __name__ == "__main__":
    print(build_run(Path(sys.argv[1])))
