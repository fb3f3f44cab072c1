"""Making a kind of device, or the GPU, ready: what is missing is named, with its size, before it is fetched."""

from __future__ import annotations

from wdp_edge import progress
from wdp_edge.devices.setup import Step, qemu_steps
from wdp_edge.devices.setup_gpu import gpu_steps
from wdp_edge.errors import InputError
from wdp_edge.report.units import quantity
from wdp_edge.runs.results import SetupResult, SetupStep

QEMU, GPU = "qemu", "gpu"


def set_up(name: str) -> SetupResult:
    """Fetches and builds what devices of this kind need, into the user's cache; nothing when all is there.

    Raises InputError for another name than "qemu" and "gpu", SetupError when a step fails.
    """
    if name not in (QEMU, GPU):
        raise InputError(f"There is nothing to set up for '{name}'.", f"What has a set-up: {QEMU}, {GPU}.")
    steps = qemu_steps() if name == QEMU else gpu_steps()
    for step in steps:
        progress.say(words(step))
    with progress.task(f"set up {name}", max(1, len(steps))) as advance:
        for step in steps:
            step.perform()
            advance(1)
    return SetupResult(name, [SetupStep(step.title, list(step.files), step.bytes) for step in steps])


def words(step: Step) -> str:
    """Such as "Fetch executorch 1.5.1 for aarch64: executorch-1.5.1-….whl (11.2 MB)"."""
    if not step.files:
        return step.title
    size = "size not told" if step.bytes is None else quantity(step.bytes, "B")
    return f"{step.title}: {', '.join(step.files)} ({size})"
