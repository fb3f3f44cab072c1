"""The devices `apple`: Core ML on this Mac, or on an iPhone or iPad that Xcode's devicectl lists."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from wdp_edge.devices.apple.devicectl import find_device
from wdp_edge.devices.local import LocalDevice, receive_rounds
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.plain import from_plain
from wdp_edge.protocols.device import DeviceInfo, Kind, Timing, TimingPlan, runs_on
from wdp_edge.protocols.target import OperatorTime, get_target
from wdp_edge.workers.process import SILENCE_SECONDS, WorkerProcess

WORKER = "wdp_edge.devices.apple.worker"
TEAM = "WDP_EDGE_APPLE_TEAM"
# As coremltools calls them. Core ML may use less than it is allowed to.
UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu+gpu": "CPU_AND_GPU", "cpu+ne": "CPU_AND_NE"}
# UDIDs of the hardware, and identifiers of devicectl. No name of compute units looks like one.
_UDID = re.compile(r"[0-9A-Fa-f][0-9A-Fa-f-]{22,38}[0-9A-Fa-f]")
_TEAM = re.compile(r"[0-9A-Z]{10}")
_PLAN = TimingPlan(rounds=6, runs=5, warmup=1)


class AppleDevice:
    """`apple[:UDID][:UNITS]`. udid: of the connected device, "" for this Mac. units: what Core ML may use.

    Raises InputError for a malformed name, SetupError when this is not a Mac.
    """

    targets = ("coreml",)
    kind = Kind.MEASURED
    operator_kind = Kind.ESTIMATED

    def __init__(self, name: str, silence_seconds: float = SILENCE_SECONDS) -> None:
        self.name = name
        self.udid, self.units = parse_name(name)
        self.silence_seconds = silence_seconds
        if not is_mac():
            raise SetupError(
                f"The device '{name}' needs a Mac: Core ML runs on Apple's systems only.",
                "Run this on a Mac, or choose another device.",
            )

    def probe(self) -> DeviceInfo:
        """This Mac's chip and system, or the connected device's. Raises SetupError when that is not connected."""
        if self.udid:
            listed = find_device(self.udid)
            return DeviceInfo(self.name, listed.model, 0, (), listed.system)
        return replace(LocalDevice().probe(), name=self.name, system=f"macOS {platform.mac_ver()[0]}")

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """Times the packages in interleaved rounds in one worker process, in the given order, by Core ML's own clock.

        A prediction on a connected device costs seconds around it, so there at most 6 rounds of 5 runs are timed.
        on_round(done, total) is called after every finished round.
        Raises InputError for a file that is not a sound Core ML package, SetupError when Core ML cannot run it or the
        device is not ready.
        """
        plan = self._shortened(plan)
        request = self._request(target, "time", artifacts, plan)
        with WorkerProcess(WORKER, request, silence_seconds=self.silence_seconds) as worker:
            timings = receive_rounds(worker, plan.rounds, on_round)
            worker.receive()  # the app on the device has been ended
        return timings

    def peak_memory(self, target: str, artifact: Path, threads: int) -> int:
        """Raises InputError: Core ML works in other processes than the one that asks."""
        raise InputError(
            f"Device '{self.name}' does not report how much memory a file takes.", "Leave peak_memory out."
        )

    def traces(self, target: str) -> bool:
        """Core ML itself reports them, for every package."""
        return runs_on(self, target)

    def trace(self, target: str, path: Path, threads: int, runs: int) -> list[OperatorTime]:
        """Times of the package's operators: timed predictions, shared out as Core ML estimates (MLComputePlan).

        An operator's name ends with what Core ML prefers to run it on; one off the CPU counts as delegated.
        threads: Core ML chooses them itself. Raises like `time`.
        """
        plan = self._shortened(TimingPlan(rounds=1, runs=runs))
        request = self._request(target, "trace", [path], plan)
        with WorkerProcess(WORKER, request, silence_seconds=self.silence_seconds) as worker:
            operators = [from_plain(OperatorTime, one) for one in worker.receive()[0]["operators"]]
            worker.receive()
        return operators

    def _shortened(self, plan: TimingPlan) -> TimingPlan:
        if not self.udid:
            return plan
        few = {name: min(getattr(plan, name), getattr(_PLAN, name)) for name in ("rounds", "runs", "warmup")}
        return replace(plan, **few)

    def _request(self, target: str, verb: str, artifacts: Sequence[Path], plan: TimingPlan) -> dict[str, Any]:
        get_target(target)
        team = signing_team() if self.udid else ""
        return {
            "verb": verb,
            "what": f"{verb} {', '.join(p.name for p in artifacts)} on {self.name}",
            "artifacts": [str(p) for p in artifacts],
            "plan": asdict(plan),
            "units": UNITS[self.units],
            "udid": find_device(self.udid).udid if self.udid else "",
            "team": team,
        }


def parse_name(name: str) -> tuple[str, str]:
    """UDID ("" for this Mac) and compute units of a device's name, such as apple:00008120-001109881103C01E:cpu+ne.

    Raises InputError for a name of another form.
    """
    _, *words = name.split(":")
    udid = words.pop(0) if words and _UDID.fullmatch(words[0]) else ""
    units = words.pop(0) if words else "all"
    if words or units not in UNITS:
        raise InputError(
            f"There is no device '{name[:80]}'.",
            f"Write apple, apple:UNITS, apple:UDID or apple:UDID:UNITS; UNITS are one of {', '.join(UNITS)}, and "
            "`xcrun devicectl list devices` shows the UDID.",
        )
    return udid, units


def signing_team() -> str:
    """The Apple developer team that signs the app on a connected device.

    Raises SetupError when it is not set.
    """
    team = os.environ.get(TEAM, "")
    if not _TEAM.fullmatch(team):
        raise SetupError(
            f"The app that times models on a connected device has to be signed, and {TEAM} does not say by whom.",
            "Set it to the 10 letters and digits of your team at developer.apple.com (Membership details, Team ID).",
        )
    return team


def is_mac() -> bool:
    return platform.system() == "Darwin"
