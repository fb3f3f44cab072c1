"""`python -m wdp_edge.devices.apple.worker`: Core ML packages timed by coremltools' benchmarker.

On a connected device coremltools builds, signs and starts an app, and talks to it by files that devicectl copies.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch

from wdp_edge.devices.hosts.host import last_words
from wdp_edge.devices.worker import TRACE, some_input, stay_on, write_rounds
from wdp_edge.errors import InputError, SetupError, WdpError
from wdp_edge.io.files import cache_root, to_plain
from wdp_edge.protocols.device import TimingPlan
from wdp_edge.protocols.target import OperatorTime
from wdp_edge.targets.coreml.package import Package, read_package
from wdp_edge.targets.coreml.runtime import described, only_input, to_picture
from wdp_edge.targets.coreml.trace import operators
from wdp_edge.workers.messages import serve, write_message


def main() -> None:
    serve(handle)


def handle(request: dict[str, Any], requests: IO[bytes], replies: IO[bytes]) -> None:
    """The answers to the request, then an empty message when the device is left as it was."""
    plan = TimingPlan(**request["plan"])
    stay_on(plan.cpus)
    packages = [read_package(Path(path)) for path in request["artifacts"]]
    inputs = [input_of(package, request["udid"]) for package in packages]
    where = request["udid"], request["team"]
    with own_temporary_folder(), asyncio.Runner() as runner, reached(runner, *where) as device:
        made = partial(BenchmarkedProgram, runner, device, request["units"])
        programs = [made(package, given) for package, given in zip(packages, inputs, strict=True)]
        if request["verb"] == TRACE:
            write_message(replies, {"operators": to_plain(programs[0].trace(plan))})
        else:
            write_rounds([partial(program.times, plan) for program in programs], plan, replies)
    write_message(replies, {})


def input_of(package: Package, udid: str) -> dict[str, Any]:
    """Noise as Core ML takes it. Raises InputError for pixels on a connected device."""
    shape, dtype = only_input(package)
    image = some_input(shape, dtype, torch.Generator().manual_seed(0))
    if dtype == "uint8" and udid:
        raise InputError(
            f"{package.path} takes images, which coremltools cannot pass to a connected device.",
            "Export it without normalization inside to time it there.",
        )
    return {str(described(package).input[0].name): to_picture(image) if dtype == "uint8" else image.numpy()}


class BenchmarkedProgram:
    """A package in Core ML. device: coremltools' own, None for this Mac. units: as coremltools calls them."""

    def __init__(
        self, runner: asyncio.Runner, device: Any, units: str, package: Package, inputs: dict[str, Any]
    ) -> None:
        import coremltools
        from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

        self._runner, self._package, self._inputs = runner, package, inputs
        allowed = coremltools.ComputeUnit[units]
        model = coremltools.models.MLModel(str(package.path), compute_units=allowed, skip_model_load=True)
        self._benchmarker = MLModelBenchmarker(model, device)

    def times(self, plan: TimingPlan) -> list[float]:
        """Milliseconds of each of `plan.runs` predictions, after `plan.warmup` untimed ones, by Core ML's clock."""
        with self._explained():
            work = self._benchmarker.benchmark_predict(self._inputs, plan.warmup + plan.runs)
            return [float(ms) for ms in self._runner.run(work).samples[plan.warmup :]]

    def trace(self, plan: TimingPlan) -> list[OperatorTime]:
        """Times of the operators, in the order of the program."""
        with self._explained():
            work = self._benchmarker.benchmark_operation_execution(self._inputs, plan.warmup + plan.runs)
            found = self._runner.run(work)
        return operators(self._package, found, plan.warmup)

    def _explained(self) -> AbstractContextManager[None]:
        hint = "Time it on other compute units (apple:cpu), or export it again."
        return explained(f"Core ML cannot run {self._package.path}", hint)


@contextmanager
def reached(runner: asyncio.Runner, udid: str, team: str) -> Iterator[Any]:
    """The connected device with coremltools' app running on it; None for "", which is this Mac."""
    if not udid:
        yield None
        return
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device

    # A built app is used again: one for each signature and version.
    folder = cache_folder() / f"{version('coremltools')}-{team}"
    folder.mkdir(parents=True, exist_ok=True)
    # No two teams can register the same app.
    credentials = AppSigningCredentials(development_team=team, bundle_identifier=f"wdp-edge.modelrunner.{team.lower()}")
    hint = "Open modelrunner/ModelRunner.xcworkspace of the package coremltools in Xcode and run it once on the device."
    with explained(f"The app that times models does not start on {udid}", hint):
        (listed,) = [device for device in Device.get_devices() if device.udid == udid]
        device = runner.run(listed.prepare_for_model_debugging(credentials, folder))
    try:
        yield device
    finally:
        device.session.stop()
        shutil.rmtree(device.session.working_directory, ignore_errors=True)  # messages of this session


def cache_folder() -> Path:
    """`apple` in $WDP_EDGE_CACHE, or ~/.cache/wdp-edge/apple."""
    return cache_root() / "apple"


@contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Copies of every model, which coremltools leaves in the system's temporary folder, go away at the end."""
    with tempfile.TemporaryDirectory(prefix="wdp-edge-") as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def explained(what: str, hint: str) -> Iterator[None]:
    """Errors of Core ML and coremltools, which are of many types, as a SetupError with their last words."""
    with warnings.catch_warnings(record=True) as warned:
        try:
            yield
        except WdpError:
            raise
        except Exception as error:
            said = getattr(error, "message", None) or str(error)
            text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            # The cause of a model that does not load is in a warning.
            causes = [str(w.message) for w in warned if issubclass(w.category, RuntimeWarning)]
            words = last_words("\n".join([text, *causes]))
            raise SetupError(f"{what} ({type(error).__name__}{words}).", hint) from error


if __name__ == "__main__":
    main()
