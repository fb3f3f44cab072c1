"""`python -m fake_core_ml`: the worker of the devices `apple`, where Core ML's own library is a fake: it needs a Mac.

All of coremltools above its native classes is the real one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coremltools.models.compute_plan as plans
import coremltools.models.model as models
import numpy as np
from coremltools.models.compute_device import MLCPUComputeDevice, MLNeuralEngineComputeDevice
from coremltools.models.compute_plan import (
    MLComputePlanCost,
    MLComputePlanDeviceUsage,
    MLModelStructure,
    MLModelStructureProgram,
    MLModelStructureProgramBlock,
    MLModelStructureProgramFunction,
    MLModelStructureProgramOperation,
)
from coremltools.models.ml_program.experimental import async_wrapper, remote_device
from fake_xcode import CLASSES, NANOSECONDS

from wdp_edge.devices.apple import worker as apple_worker
from wdp_edge.targets.coreml.package import read_package

_WARMING, _SLOWER = 3, 10


class FakeProxy:
    """In place of `_MLModelProxy`. The first predictions take ten times as long. Refuses all with $FAKE_REFUSAL."""

    def __init__(self, path: str, units: str, function: str, hints: dict[str, str], asset: None) -> None:
        assert Path(path).is_dir()
        if said := os.environ.get("FAKE_REFUSAL"):
            raise RuntimeError(said)
        self.path, self.units, self.runs = path, units, 0

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return 9

    def predict(self, data: dict[str, Any], state: None) -> dict[str, Any]:
        ((name, value),) = data.items()
        assert name == "image" and (isinstance(value, np.ndarray) or value.mode == "RGB")
        self.runs += 1
        return {"logits": np.zeros((1, CLASSES), np.float32)}

    def get_last_predict_duration_in_nano_seconds(self) -> int:
        return NANOSECONDS[self.units] * (_SLOWER if self.runs <= _WARMING else 1)

    def get_compiled_model_path(self) -> str:
        return self.path

    @staticmethod
    def get_compute_plan(path: str, units: str) -> Any:
        return FakePlan(path, units)


class FakePlan:
    """In place of MLComputePlan: every operator but constants costs the same; layers run on the Neural Engine."""

    def __init__(self, path: str, units: str) -> None:
        operations = [
            MLModelStructureProgramOperation({}, o.type, [SimpleNamespace(name=v.name) for v in o.outputs], [], None)
            for o in read_package(Path(path)).operations
        ]
        function = MLModelStructureProgramFunction([], MLModelStructureProgramBlock([], operations, []))
        self.model_structure = MLModelStructure(None, MLModelStructureProgram({"main": function}), None)
        self._count = sum(not o.operator_name.startswith("const") for o in operations)
        self._engine = units in ("ALL", "CPU_AND_NE")

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> MLComputePlanCost | None:
        return None if operation.operator_name.startswith("const") else MLComputePlanCost(1 / self._count)

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> MLComputePlanDeviceUsage | None:
        if operation.operator_name.startswith("const"):
            return None
        kind = (
            MLNeuralEngineComputeDevice if self._engine and operation.operator_name == "linear" else MLCPUComputeDevice
        )
        device = object.__new__(kind)  # its own constructor wants a native object
        return MLComputePlanDeviceUsage(device, [device])


def compile_nothing(model: str, destination_path: str) -> None:
    """In place of `compile_model`, which is Core ML's."""
    Path(destination_path).mkdir()


def install(workspace: Path, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """workspace: a folder that stands for coremltools' Xcode project, which packages for Linux lack."""
    for module in (models, plans):
        put(module, "_MLModelProxy", FakeProxy)
    put(async_wrapper, "compile_model", compile_nothing)
    (workspace / "ModelRunner.xcworkspace").mkdir(exist_ok=True)
    put(remote_device._ModelRunnerAppBuilder, "_get_project_path", staticmethod(lambda: workspace))


if __name__ == "__main__":
    install(Path(os.environ["FAKE_WORKSPACE"]))
    apple_worker.main()
