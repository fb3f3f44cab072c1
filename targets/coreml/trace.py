"""How long each operator of a Core ML package takes, by Core ML's own estimate of their shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wdp_edge.errors import SetupError
from wdp_edge.protocols.device import usual
from wdp_edge.protocols.target import OperatorRole, OperatorTime
from wdp_edge.targets.coreml.package import Package

_ROLES = {
    "conv": OperatorRole.CONV,
    "linear": OperatorRole.LINEAR,
    "matmul": OperatorRole.MATMUL,  # layers with weights are the ones above
    "softmax": OperatorRole.SOFTMAX,
    "layer_norm": OperatorRole.NORM,
}
_CPU = "CPU"
_UNITS = {"MLCPUComputeDevice": _CPU, "MLGPUComputeDevice": "GPU", "MLNeuralEngineComputeDevice": "Neural Engine"}


def operators(package: Package, infos: Sequence[Any], warmup: int) -> list[OperatorTime]:
    """Operators in the order of the program, without constants.

    infos: coremltools' MLModelBenchmarker.OperationExecutionInfo, whose samples are milliseconds of a prediction times
    the share that Core ML estimates. warmup: samples to leave out.
    Raises SetupError when Core ML estimates nothing.
    """
    known = {info.spec.outputs[0].name: info for info in infos if info.spec.outputs}
    if not any(info.measurement.samples for info in infos):
        raise SetupError("Core ML does not estimate what this model's operators cost.", "Leave --per-op out.")
    kept = [operation for operation in package.operations if not operation.type.startswith("const")]
    return [operator(operation.type, known.get(operation.outputs[0].name), warmup) for operation in kept]


def operator(kind: str, info: Any, warmup: int) -> OperatorTime:
    """An operator that Core ML says nothing about gets no time and no compute unit."""
    usage = info.compute_device_usage if info else None
    unit = _UNITS.get(type(usage.preferred_compute_device).__name__, "") if usage else ""
    samples = info.measurement.samples[warmup:] if info else []
    return OperatorTime(
        name=f"{kind}, {unit}" if unit else kind,
        role=_ROLES.get(kind, OperatorRole.OTHER),
        ms=usual(samples) if samples else 0.0,
        delegated=unit not in ("", _CPU),
    )
