"""Android devices, and Linux boards with an adb daemon, reached with the user's own adb."""

from __future__ import annotations

import re
from pathlib import Path

from wdp_edge.devices.hosts.host import Completed, last_words, run_process
from wdp_edge.devices.hosts.shell import ANSWER_SECONDS, ShellHost
from wdp_edge.errors import InputError, SetupError

# As `adb devices` prints them: letters and digits, host:port, [IPv6]:port, names of wireless debugging.
_SERIAL = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:%\[\]-]{0,199}")

# What adb says, why that is, and what helps.
_REASONS = (
    ("unauthorized", "does not trust this machine", "Unlock the device and accept its question about debugging."),
    ("no permissions", "may not be opened by this user", "Install your distribution's udev rules for adb."),
    ("offline", "is offline", "Plug it in again, or `adb disconnect` and `adb connect` it."),
    ("not found", "is not there", "`adb devices` lists those that are; `adb connect host:port` adds one."),
)


class AdbHost(ShellHost):
    """`adb:SERIAL`. Raises InputError for a malformed serial."""

    def __init__(self, serial: str) -> None:
        super().__init__(f"adb:{serial}")
        if not _SERIAL.fullmatch(serial):
            raise InputError(
                f"'adb:{serial[:80]}' is not a device of adb.", "Write adb:SERIAL as `adb devices` prints it."
            )
        self._serial = serial
        self._checked = False

    def _client(self, line: str) -> list[str]:
        self._check()
        return [*self._adb(), "shell", "-T", line]

    def _copy(self, local: Path, remote: str, timeout: float) -> Completed:
        return run_process([*self._adb(), "push", str(local), remote], f"adb push to {self.name}", timeout)

    def _lost(self, said: str) -> SetupError:
        for words, why, hint in _REASONS:
            if words in said:
                return SetupError(f"{self.name} {why}.", hint)
        return SetupError(
            f"The connection to {self.name} broke{last_words(said)}.",
            "Check that the device is on and that `adb devices` lists it, then run again.",
        )

    def _adb(self) -> list[str]:
        return ["adb", "-s", self._serial]

    def _check(self) -> None:
        """Raises SetupError when the device is not there, or mixes stderr into stdout as Android did before 7."""
        if self._checked:
            return
        done = run_process([*self._adb(), "features"], f"adb on {self.name}", ANSWER_SECONDS)
        if done.code != 0:
            raise self._lost(done.err)
        if "shell_v2" not in done.out.split():
            raise SetupError(
                f"{self.name} has an adb daemon that does not report how commands end.", "Use Android 7 or newer."
            )
        self._checked = True
