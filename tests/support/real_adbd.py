"""A real adbd in a network namespace of its own, and an `adb` that works inside it.

adbd listens on every interface and adb finds devices on ports 5555 to 5585: nothing of it must be seen outside.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_sshd import free_port, wait_until

PORT = 5599
# Not the one that a device puts before it on PATH.
ADB = shutil.which("adb")
TOOLS = ("adb", "unshare", "nsenter", "ip", "mount", "apt-get", "dpkg-deb")


def adbd_root() -> Path:
    """A folder with adbd and its libraries, unpacked once from the distribution's packages; needs no root."""
    if missing := [t for t in TOOLS if shutil.which(t) is None]:
        pytest.skip(f"{', '.join(missing)} missing: apt-get install adb util-linux iproute2 (on Debian)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wdp-edge-tests" / "adbd"
    if not cache.exists():
        part = cache.with_name(f"adbd.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            _unpack(part)
            part.rename(cache)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"adbd cannot be fetched: {error.stderr.strip().splitlines()[-1:]}")
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return cache


def _unpack(root: Path) -> None:
    """adbd from Debian's main archive or, where it is only there, its backports."""
    apt = root / "apt"
    for folder in ("etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial", "log"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    address = _said(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()[0]
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    suites = [suite, "bookworm-backports"] if suite == "bookworm" else [suite]
    lines = [f"deb [signed-by={keys}] {address} {s} main\n" for s in suites]
    (apt / "etc/sources.list").write_text("".join(lines))
    settings = {
        "Dir::Etc": apt / "etc",
        "Dir::Etc::sourcelist": apt / "etc/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Log": apt / "log",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": _said(["id", "-un"]).strip(),
        "Debug::NoLocking": "1",
        "Acquire::Languages": "none",
    }
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    _said(["apt-get", *options, "-qq", "update"])
    release = ["-t", suites[-1]]
    _said(["apt-get", *options, *release, "-qq", "-y", "--download-only", "install", "adbd"])
    for package in sorted((apt / "cache/archives").glob("*.deb")):
        _said(["dpkg-deb", "-x", str(package), str(root)])
    shutil.rmtree(apt)


def _said(argv: list[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=300).stdout


@dataclass
class Adbd:
    """holder: keeps the namespaces. cache: what the device calls XDG_CACHE_HOME; it may be a tmpfs only seen inside."""

    folder: Path
    root: Path
    cache: Path
    holder: subprocess.Popen[bytes]
    process: subprocess.Popen[bytes] | None = None

    serial = f"127.0.0.1:{PORT}"

    @property
    def bin(self) -> Path:
        """For PATH: holds the `adb` that works inside."""
        return self.folder / "bin"

    def inside(self, mounts: bool = False) -> list[str]:
        spaces = ["-U", "-n", *(["-m"] if mounts else [])]
        return ["nsenter", "-t", str(self.holder.pid), *spaces, "--preserve-credentials", "--wd=/", "--"]

    def start(self) -> None:
        folders = [p for pattern in ("lib/*-linux-gnu", "usr/lib/*-linux-gnu*") for p in self.root.glob(pattern)]
        folders += [p / "android" for p in folders if (p / "android").is_dir()]
        loader = next(p for pattern in ("lib64/ld-*", "lib/ld-*", "usr/lib64/ld-*") for p in self.root.glob(pattern))
        daemon = self.root / "usr/lib/android-sdk/platform-tools/adbd"
        libraries = ":".join(map(str, folders))
        self.process = subprocess.Popen(
            [*self.inside(mounts=True), str(loader), "--library-path", libraries, str(daemon)],
            env={**os.environ, "ADBD_PORT": str(PORT), "XDG_CACHE_HOME": str(self.cache)},
            stderr=(self.folder / "adbd.log").open("ab"),
        )

        def ready() -> bool:
            self.adb("connect", self.serial)
            return "device" in self.adb("-s", self.serial, "get-state")

        wait_until(ready)

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def adb(self, *arguments: str) -> str:
        done = subprocess.run([self.bin / "adb", *arguments], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    def stop(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.adb("kill-server")
        for process in (self.process, self.holder):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def start_adbd(folder: Path, tmpfs_bytes: int = 0) -> Adbd:
    """A running adbd. tmpfs_bytes: size of the file system below `cache`, 0 for a plain folder."""
    root = adbd_root()
    cache = folder / "cache"
    for path in (folder / "bin", folder / "home", cache):
        path.mkdir(parents=True)
    mount = f"mount -t tmpfs -o size={tmpfs_bytes} tmpfs '{cache}' && " if tmpfs_bytes else ""
    script = f"ip link set lo up && {mount}echo ready && exec cat"
    holder = subprocess.Popen(
        ["unshare", "-U", "-r", "-n", "-m", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stderr is not None
    if holder.stdout.readline() != b"ready\n":
        pytest.skip(f"no namespaces for unprivileged users here: {holder.stderr.read().decode()}")
    device = Adbd(folder, root, cache, holder)
    adb = device.bin / "adb"
    adb.write_text(
        f"#!/bin/sh\nexport HOME='{folder / 'home'}' ANDROID_ADB_SERVER_PORT={free_port()}\n"
        f'exec {" ".join(device.inside())} {ADB} "$@"\n'
    )
    adb.chmod(0o755)
    try:
        device.start()
    except BaseException:
        device.stop()
        raise
    return device
