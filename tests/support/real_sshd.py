"""A real sshd on 127.0.0.1 with keys of its own, which logs in the user who runs the tests."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if Path(p).exists()), None)
TOOLS = ("ssh", "scp", "ssh-keygen")


def skip_without_sshd() -> None:
    missing = [t for t in TOOLS if shutil.which(t) is None] + ([] if SSHD else ["sshd"])
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: apt-get install openssh-server openssh-client")


def wait_until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Returns when `true()` is; fails the test when it does not become so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def processes_below(pid: int) -> list[int]:
    """All that `pid` and its children have started and that still run."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [p for child in map(int, children) for p in (child, *processes_below(child))]


def name_of(pid: int) -> str:
    """Of the program that a process runs; "" when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


@dataclass
class Sshd:
    """Reached with the ssh configuration file `config`. cache: what the device calls XDG_CACHE_HOME."""

    folder: Path
    port: int
    cache: Path
    process: subprocess.Popen[bytes]

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def address(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Ends the server and every connection at once, as a loss of power does; what runs there is not asked."""
        own = [p for p in processes_below(self.process.pid) if name_of(p).startswith("sshd")]
        for pid in (self.process.pid, *own):
            with contextlib.suppress(ProcessLookupError):  # a session that has just ended by itself
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.kill()


def start_sshd(folder: Path, sftp: bool = True, wrap: tuple[str, ...] = (), cache: Path | None = None) -> Sshd:
    """A server that keeps its files in `folder`. wrap: a command that starts it, such as unshare."""
    skip_without_sshd()
    folder.mkdir(parents=True, exist_ok=True)
    cache = cache or folder / "cache"
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    port = free_port()
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    (folder / "ssh_config").write_text(
        f"Host *\n  IdentityFile {folder / 'key'}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        f"  UserKnownHostsFile {folder / 'known_hosts'}\n  StrictHostKeyChecking yes\n"
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
    )
    settings = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host_key'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "MaxSessions 50",
        f"SetEnv XDG_CACHE_HOME={cache}",
        *(["Subsystem sftp internal-sftp"] if sftp else []),
    ]
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # as root, sshd insists on it
    log = (folder / "sshd.log").open("wb")
    process = subprocess.Popen([*wrap, str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    server = Sshd(folder, port, cache, process)

    def listens() -> bool:
        assert process.poll() is None, (folder / "sshd.log").read_text()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens)
    return server


def tmpfs_wrap(cache: Path, size: int) -> tuple[str, ...]:
    """A command that runs another one where `cache` is a file system of `size` bytes."""
    user = () if os.geteuid() == 0 else ("-U", "--map-current-user", "--keep-caps")
    script = 'mount -t tmpfs -o "size=$0" tmpfs "$1" && shift && exec "$@"'
    wrap = ("unshare", "-m", *user, "sh", "-c", script, str(size), str(cache))
    probe = subprocess.run([*wrap, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no mount namespaces here: {probe.stderr.strip()}")
    return wrap
