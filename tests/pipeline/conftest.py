"""What whole runs of tiny models share: latency tables, and a core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all runs on a FAKE clock (fake_clock_run.py), for which a table is the same whenever it is measured.

    Also for those of the other processes of this session: a table takes more than most runs.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tables"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_export_at_a_time() -> Iterator[None]:
    """A second process would take longer to start than it saves with models this small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wdp_edge.cost.measure.usable_cores", lambda: 1)
        yield
