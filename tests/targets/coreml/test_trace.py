"""Times of operators by Core ML's estimate. Its answers are FAKE here: they need a Mac; the package is real."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wdp_edge.errors import SetupError
from wdp_edge.protocols.target import OperatorRole
from wdp_edge.targets.coreml.package import Package, read_package
from wdp_edge.targets.coreml.trace import operators


class MLCPUComputeDevice:
    pass


class MLNeuralEngineComputeDevice:
    pass


@pytest.fixture(scope="module")
def package(sound: Path) -> Package:
    return read_package(sound)


def told(output: str, samples: list[float], device: object | None = None) -> Any:
    usage = None if device is None else SimpleNamespace(preferred_compute_device=device)
    return SimpleNamespace(
        spec=SimpleNamespace(outputs=[SimpleNamespace(name=output)]),
        measurement=SimpleNamespace(samples=samples),
        compute_device_usage=usage,
    )


def outputs_of(package: Package) -> dict[str, str]:
    """Names of what operators write, by their kind."""
    return {o.type: o.outputs[0].name for o in package.operations}


def test_operators_come_in_the_order_of_the_program_with_their_units(package: Package) -> None:
    written = outputs_of(package)
    infos = [
        told(written["linear"], [9.0, 9.0, 2.0, 2.0], MLNeuralEngineComputeDevice()),
        told(written["conv"], [9.0, 9.0, 1.0, 1.0], MLCPUComputeDevice()),
    ]
    found = operators(package, infos, warmup=2)
    assert not [time for time in found if time.name.startswith("const")]
    kinds = [o.type for o in package.operations if not o.type.startswith("const")]
    assert [time.name.split(",")[0] for time in found] == kinds and kinds.index("conv") < kinds.index("linear")
    times = {time.name: time for time in found}
    linear, conv = times["linear, Neural Engine"], times["conv, CPU"]
    assert (linear.ms, linear.role, linear.delegated) == (2.0, OperatorRole.LINEAR, True)
    assert (conv.ms, conv.role, conv.delegated) == (1.0, OperatorRole.CONV, False)
    assert (times["relu"].ms, times["relu"].role, times["relu"].delegated) == (0.0, OperatorRole.OTHER, False)


def test_no_estimate_at_all_is_said(package: Package) -> None:
    for infos in ([], [told("x", [])]):
        with pytest.raises(SetupError, match="does not estimate"):
            operators(package, infos, warmup=0)
