"""The software Vulkan driver for tests of files for GPUs, fetched once, as `devices setup gpu` does it."""

from __future__ import annotations

import pytest

from wdp_edge.devices.setup_gpu import gpu_steps
from wdp_edge.errors import SetupError
from wdp_edge.runners.vulkan import has_gpu


def make_driver_ready() -> None:
    """Skips the test where there is neither a GPU nor a way to get the driver."""
    if has_gpu():
        return
    try:
        for step in gpu_steps():
            step.perform()
    except SetupError as error:
        pytest.skip(f"no Vulkan driver: {error}")
