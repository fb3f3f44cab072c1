"""A tiny real ViT for every test that needs a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from tiny_vit import TINY, lively

from wdp_edge.models.spec import ModelSpec, create

# On a machine with other work an example may take any time: what is found must not depend on it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Folders of tests/, by their longest files: whole runs, exports to all targets.
LONGEST = ("pruning", "commands", "runs", "targets", "calibration", "devices", "cli")


@pytest.fixture
def tiny_spec() -> ModelSpec:
    return TINY


@pytest.fixture
def tiny_model() -> Any:
    torch.manual_seed(0)
    return lively(create(TINY))


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all runs on a FAKE clock (benchmarks/fake_clock.py): it gives the same table at any time.

    Also for those of the other processes of this session: a table takes more than most runs.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tables"
    folder.mkdir(exist_ok=True)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders with long files first: as the last ones they would leave the other process without work for minutes."""
    places = {folder: place for place, folder in enumerate(LONGEST)}
    items.sort(key=lambda item: min(places.get(part, len(LONGEST)) for part in item.path.parts))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """With WDP_EDGE_NO_SKIPS, a skipped test of devices, runners or GPUs is a failure: CI has what they need."""
    report = yield
    must_run = {"devices", "runners", "tflite_gpu"} & set(item.path.parts)
    if os.environ.get("WDP_EDGE_NO_SKIPS") and report.skipped and must_run:
        report.outcome = "failed"
        report.longrepr = f"skipped where it has to run: {report.longrepr}"
    return report
