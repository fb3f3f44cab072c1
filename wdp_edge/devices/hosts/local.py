"""This machine as a host of native runners."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

from wdp_edge.devices.hosts.host import Completed, arch_of, called, check_path, demand, run_process, stream_process
from wdp_edge.io.files import cache_root, disk_error
from wdp_edge.protocols.device import Kind


class LocalHost:
    """Runs commands here. folder: its work folder; `host` in wdp-edge's cache when None."""

    kind = Kind.MEASURED

    def __init__(self, name: str = "local", folder: Path | None = None) -> None:
        self.name = name
        self._folder = folder or cache_root() / "host"

    def arch(self) -> str:
        return arch_of(platform.machine(), self.name)

    def push(self, local: Path, remote: str) -> None:
        # The work folder may be called anything: no shell sees its name here.
        check_path(remote.removeprefix(self.workdir()))
        path = Path(remote)
        try:
            if local.is_dir():
                shutil.copytree(local, path)
            else:
                shutil.copy2(local, path)
        except shutil.Error as error:  # copytree gathers what went wrong
            raise disk_error(OSError(str(error)), path) from error
        except OSError as error:
            raise disk_error(error, path) from error

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        if shutil.which(argv[0]) is None:
            return Completed(127, "", f"{argv[0]}: not found\n")
        return run_process(argv, f"{called(argv)} on {self.name}", timeout)

    def stream(self, argv: Sequence[str], silence_seconds: float) -> Generator[str, None, None]:
        what = f"{called(argv)} on {self.name}"
        done = yield from stream_process(argv, what, silence_seconds)
        if last := demand(done, self.name, called(argv)).out:
            yield last

    def workdir(self) -> str:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise disk_error(error, self._folder) from error
        return str(self._folder.resolve())
