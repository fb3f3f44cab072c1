"""Processes that start in milliseconds: forks of one that has imported everything and exported one small model.

A fork runs the product's own code, and so do the workers that it starts: these are forks too, by a nursery that parted
from the trial before it did anything, because a process with threads must not fork.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from wdp_edge.workers.nursery import Nursery, Started, serve, socket_pair

MODULES = (
    "numpy", "scipy.optimize", "scipy.stats", "rich.console", "tomlkit", "filelock", "torch", "timm",
    "safetensors.torch", "onnx", "onnxscript", "onnxruntime", "torch.export", "torch.onnx._internal.exporter._core",
    "PIL.Image", "PIL.features", "jinja2", "matplotlib.figure",
    "wdp_edge.cli", "wdp_edge.pruning.prune", "wdp_edge.commands.auto", "wdp_edge.commands.export",
    "wdp_edge.commands.verify", "wdp_edge.commands.evaluate", "wdp_edge.commands.inspect", "wdp_edge.report.page",
    "wdp_edge.cost.export_worker", "wdp_edge.artifacts.export_worker", "wdp_edge.devices.worker",
    "wdp_edge.targets.onnx.target", "wdp_edge.lowering.vit", "wdp_edge.targets.onnx.graph",
)  # fmt: skip
CRASHED = 99


def warm_up(temporary: Path) -> None:
    """Imports what a trial needs, and what its libraries import at their first export. One thread: forks are sound.

    temporary: what killed trials leave in a temporary folder goes there.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    for name in MODULES:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    _keep_registries()
    from wdp_edge.protocols.precision import Precision
    from wdp_edge.protocols.target import ExportOptions, get_target

    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 2), torch.nn.GELU())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "warm.onnx"
        get_target("onnx").export(layer.eval(), torch.zeros(1, 3, 2, 2), path, ExportOptions(Precision.FP32))
    # What is there now stays: a collector that walks over it would copy every page of it into every fork.
    gc.collect()
    gc.freeze()


def _keep_registries() -> None:
    """PyTorch's ONNX exporter parses the source of 3,000 operators at every export, a third of its time: once will do.

    The operators are the same ones; every export still gets a registry of its own to add to.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = functools.cache(ONNXRegistry.from_torchlib)

    def from_torchlib(*version: Any, **named: Any) -> ONNXRegistry:
        known, registry = read(*version, **named), ONNXRegistry()
        registry._opset_version = known._opset_version
        registry.functions = {name: list(found) for name, found in known.functions.items()}
        return registry

    ONNXRegistry.from_torchlib = staticmethod(from_torchlib)  # type: ignore[assignment, method-assign]


@dataclass(frozen=True)
class Ended:
    """How a child ended. code: negative for a signal. rss: its largest resident memory in bytes."""

    code: int
    out: str
    err: str
    seconds: float
    rss: int
    timed_out: bool = False


class Child:
    """A fork that calls `work` and exits with what it returns. folder: where its output and its workers' ids go."""

    def __init__(
        self, work: Callable[[], int], folder: Path, env: Mapping[str, str] | None = None, memory: int | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "workers").unlink(missing_ok=True)  # ids of an earlier child's may be somebody else's by now
        self._folder, self._began = folder, time.monotonic()
        self._ended: tuple[int, Any] | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _child(work, folder, env or {}, memory)

    def kill(self, workers: bool) -> None:
        """SIGKILL, to the process alone or to its workers as well."""
        if self.running():
            os.kill(self.pid, signal.SIGKILL)
        if workers:
            self._kill_workers()

    def _kill_workers(self) -> None:
        listed = self._folder / "workers"
        for line in listed.read_text().split() if listed.exists() else []:
            try:
                os.killpg(int(line), signal.SIGKILL)
            except ProcessLookupError:
                continue

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._status(os.WNOHANG) is None

    def _status(self, options: int = 0) -> tuple[int, Any] | None:
        if self._ended is None:
            pid, status, usage = os.wait4(self.pid, options)
            if pid:
                self._ended = (os.waitstatus_to_exitcode(status), usage)
        return self._ended

    def wait(self, limit: float) -> Ended:
        """The end, forced after `limit` seconds."""
        timed_out = False
        while self.running():
            if time.monotonic() - self._began > limit:
                timed_out = True
                self.kill(workers=True)
                self._status()
            time.sleep(0.005)
        assert self._ended is not None
        code, usage = self._ended
        out, err = ((self._folder / name).read_text(errors="replace") for name in ("out", "err"))
        return Ended(code, out, err, time.monotonic() - self._began, usage.ru_maxrss * 1024, timed_out)


def _child(work: Callable[[], int], folder: Path, env: Mapping[str, str], memory: int | None) -> None:
    """Never returns."""
    code = CRASHED
    try:
        os.environ.update(env)
        for number, name in ((1, "out"), (2, "err")):
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, number)
        os.setsid()
        if memory is not None:
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, mapped + memory))
        with Workers(folder / "workers") as workers, patch("wdp_edge.workers.process.start_worker", workers.start):
            code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Workers:
    """The product's nursery, as a fork of this process, which has imported everything. A context manager.

    listing: gets the process ids of all workers. To be entered before the trial has threads.
    """

    def __init__(self, listing: Path) -> None:
        self._listing = listing

    def __enter__(self) -> Self:
        ours, theirs = socket_pair()
        if os.fork() == 0:
            ours.close()
            try:
                serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._nursery = Nursery(ours)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._nursery.close()

    def start(self, module: str, imports: Sequence[str], env: Mapping[str, str]) -> Started:
        """In place of the product's `start_worker`."""
        worker = self._nursery.start(module, imports, env)
        with self._listing.open("a") as file:
            file.write(f"{worker.pid}\n")
        return worker
