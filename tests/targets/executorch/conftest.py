"""A file of one layer, exported once for the tests of this folder that read or run it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pte_files import tiny_file


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four inputs, two outputs, and a text. Not to be changed."""
    return tiny_file(tmp_path_factory.mktemp("small"), {"wdp_edge": "text"})
