"""Figures that fakes of the library's functions return, and how such a fake is put in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from wdp_edge.protocols.device import Latency
from wdp_edge.runs.figures import BudgetFigures, ModelFigures
from wdp_edge.runs.results import PruneResult

DENSE = ModelFigures(0.917, Latency(8.2, 8.4, 8.1), 370_000_000, 21_600_000, 22_800_000, None, 12)
SHIPPED = ModelFigures(
    0.906,
    Latency(3.9, 4.0, 3.8),
    150_000_000,
    9_700_000,
    10_100_000,
    Path("runs/r/artifacts/model.pte"),
    10,
    0.98,
)
PRUNED = PruneResult(
    Path("runs/r"),
    "executorch",
    "int8-dynamic",
    "local",
    BudgetFigures(4.1, 3.9, 0.951, True),
    DENSE,
    SHIPPED,
)
MISSED = replace(PRUNED, budget=BudgetFigures(3.0, 3.9, 1.3, False))
RECIPE = """
[model]
name = "vit"
num_classes = 3
checkpoint = "dense.pt"
[data]
train = "t"
val = "v"
[prune]
threads = 2
seed = 5
epochs = 2
"""
Fake = Callable[..., list[tuple[Any, ...]]]


def fake_verbs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Fake:
    """fake("prune", result) puts a fake for wdp_edge.pruning.prune.prune that returns or raises `result`.

    It returns the list of the arguments of its calls.
    """
    monkeypatch.chdir(folder)
    (folder / "wdp-edge.toml").write_text(RECIPE)

    def put(name: str, result: Any) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        def function(*arguments: Any) -> Any:
            calls.append(arguments)
            if isinstance(result, BaseException):
                raise result
            return result() if callable(result) else result

        monkeypatch.setattr(
            import_module(f"wdp_edge.{'pruning' if name == 'prune' else 'commands'}.{name}"), name, function
        )
        return calls

    return put
