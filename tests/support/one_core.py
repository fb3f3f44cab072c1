"""Whole runs of tiny models: every process that they start takes longer to start than it saves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_export_at_a_time() -> Iterator[None]:
    """A second process would take longer to start than it saves with models this small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wdp_edge.cost.measure.usable_cores", lambda: 1)
        yield
