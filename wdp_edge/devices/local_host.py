"""This machine as a host of native runners."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

from wdp_edge.device import Kind
from wdp_edge.devices.host import Completed, arch_of, called, check_path, demand, run_process, stream_process
from wdp_edge.files import atomic_path, disk_error


class LocalHost:
    """Runs commands here. folder: its work folder, or None for one in the user's cache."""

    kind = Kind.MEASURED

    def __init__(self, name: str = "local", folder: Path | None = None) -> None:
        self.name = name
        self._folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wdp-edge" / "host"

    def arch(self) -> str:
        return arch_of(platform.machine(), self.name)

    def push(self, local: Path, remote: str) -> None:
        path = Path(check_path(remote))
        try:
            if local.is_dir():
                shutil.copytree(local, path)
            else:
                shutil.copy2(local, path)
        except shutil.Error as error:  # copytree gathers what went wrong
            raise disk_error(OSError(str(error)), path) from error
        except OSError as error:
            raise disk_error(error, path) from error

    def pull(self, remote: str, local: Path) -> None:
        with atomic_path(local) as temporary:
            shutil.copyfile(check_path(remote), temporary)

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        if shutil.which(argv[0]) is None:
            return Completed(127, "", f"{argv[0]}: not found\n")
        return run_process(argv, f"{called(argv)} on {self.name}", timeout)

    def stream(self, argv: Sequence[str], silence_seconds: float) -> Generator[str, None, None]:
        what = f"{called(argv)} on {self.name}"
        done = yield from stream_process(argv, what, silence_seconds)
        demand(done, self.name, called(argv))

    def workdir(self) -> str:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise disk_error(error, self._folder) from error
        return check_path(str(self._folder.resolve()))
