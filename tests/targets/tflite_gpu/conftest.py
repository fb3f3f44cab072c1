"""Files for GPUs run on a software driver where there is no GPU."""

from __future__ import annotations

import pytest
from software_gpu import make_driver_ready


@pytest.fixture(scope="session")
def driver() -> None:
    make_driver_ready()
