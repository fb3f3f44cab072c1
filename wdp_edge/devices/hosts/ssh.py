"""Devices reached with the user's own ssh and scp: their configuration, agent and jump hosts are honoured."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from wdp_edge.devices.hosts.host import Completed, last_words, run_process, stream_process
from wdp_edge.devices.hosts.shell import ShellHost
from wdp_edge.errors import InputError, SetupError

_CONNECT_SECONDS = 10
_LOGIN_SECONDS = 60.0
_READY = "wdp-edge-ready"
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SCOPED = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")
_SOCKET_FOLDER_LIMIT = 70

_OPTIONS = (
    "BatchMode=yes",  # a question nobody sees would hang
    f"ConnectTimeout={_CONNECT_SECONDS}",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",  # banners and notices would look like last words
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
)

# What ssh says, why that is, and what helps.
_REASONS = (
    (
        "Host key verification failed",
        "is not a host that ssh trusts yet, or its key has changed",
        "Log in once by hand with ssh and accept its key, or fix known_hosts.",
    ),
    ("Permission denied", "refuses the login", "Set up a key for it that needs no question (ssh-copy-id, ssh-agent)."),
    ("Could not resolve hostname", "has a name that cannot be resolved", "Check the name, or add it to ~/.ssh/config."),
    ("Connection refused", "refuses the connection", "Check that its ssh server runs, and the port."),
    ("timed out", "does not answer", "Check that it is on and reachable."),
    ("No route to host", "cannot be reached", "Check that it is on, and the network in between."),
    ("Network is unreachable", "cannot be reached", "Check the network of this machine."),
)


@dataclass(frozen=True)
class SshAddress:
    """user: "" leaves it to ssh's configuration. host: a name, an alias or an address. port: None likewise."""

    user: str
    host: str
    port: int | None

    @property
    def destination(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host


def parse_address(text: str) -> SshAddress:
    """`[user@]host[:port]`; an IPv6 address stands in brackets, as in pi@[fe80::1%eth0]:2222.

    Raises InputError for anything else.
    """
    user, at, rest = text.rpartition("@")
    host, port = _split_port(rest, text)
    if (at and not _USER.fullmatch(user)) or (port is not None and not 0 < port < 65536):
        raise _wrong(text)
    return SshAddress(user, host, port)


def _split_port(rest: str, text: str) -> tuple[str, int | None]:
    """The host, without brackets, and the port."""
    if rest.startswith("["):
        host, closed, port = rest[1:].partition("]")
        if not closed or not _is_ipv6(host) or (port and not port.startswith(":")):
            raise _wrong(text)
        colon, port = port[:1], port[1:]
    else:
        host, colon, port = rest.partition(":")
        if not _HOST.fullmatch(host):
            raise _wrong(text)
    if colon and not re.fullmatch(r"[0-9]{1,5}", port):
        raise _wrong(text)
    return host, int(port) if colon else None


def _is_ipv6(host: str) -> bool:
    if not _SCOPED.fullmatch(host):
        return False
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _wrong(text: str) -> InputError:
    return InputError(
        f"'ssh:{text}' is not an address of a device.", "Write ssh:user@host or ssh:user@host:port; IPv6 in brackets."
    )


class SshHost(ShellHost):
    """`ssh:[user@]host[:port]`. One connection carries everything; it opens when first needed.

    config: an ssh configuration file instead of the user's. Raises InputError for a malformed address.
    """

    def __init__(self, address: str, config: Path | None = None) -> None:
        super().__init__(f"ssh:{address}")
        self.address = parse_address(address)
        self._config = config
        self._socket: Path | None = None
        self._opening = threading.Lock()
        self._closer: Callable[[], object] = lambda: None

    def close(self) -> None:
        """Ends the connection; another one opens when needed."""
        self._socket = None
        self._closer()

    def _client(self, line: str) -> list[str]:
        return ["ssh", "-T", *self._shared(), *self._port("-p"), "--", self.address.destination, line]

    def _copy(self, local: Path, remote: str, timeout: float) -> Completed:
        places = [str(local), f"{self._scp_host()}:{remote}"]
        flags = ["-q", "-r", "-p", *self._shared(), *self._port("-P")]
        done = run_process(["scp", *flags, "--", *places], f"scp to {self.name}", timeout)
        if done.code != 0 and "Connection closed" in done.err:
            # Small servers (dropbear) have no sftp, which ssh does not say more clearly; scp then still has its older
            # protocol.
            done = run_process(["scp", "-O", *flags, "--", *places], f"scp to {self.name}", timeout)
        return done

    def _lost(self, said: str) -> SetupError:
        for words, why, hint in _REASONS:
            if words in said:
                return SetupError(f"{self.name} {why}.", hint)
        return SetupError(
            f"The connection to {self.name} broke{last_words(said)}.",
            f"Check that the device is on and that `ssh {self.address.destination}` works, then run again.",
        )

    def _scp_host(self) -> str:
        user = f"{self.address.user}@" if self.address.user else ""
        return f"{user}[{self.address.host}]" if ":" in self.address.host else f"{user}{self.address.host}"

    def _port(self, flag: str) -> list[str]:
        return [] if self.address.port is None else [flag, str(self.address.port)]

    def _shared(self) -> list[str]:
        """Options of a client of the one connection, which is opened if it is not there."""
        with self._opening:
            if self._socket is None:
                self._socket = self._open()
        return [*self._options(), "-o", "ControlMaster=no", "-o", _control_path(self._socket)]

    def _options(self) -> list[str]:
        own = [] if self._config is None else ["-F", str(self._config)]
        return own + [part for option in _OPTIONS for part in ("-o", option)]

    def _open(self) -> Path:
        """Starts the connection and returns its control socket. Both vanish with this object or this process."""
        folder = Path(tempfile.mkdtemp(prefix="wdp-edge-"))
        if len(str(folder)) > _SOCKET_FOLDER_LIMIT:  # the system allows socket names of about 100 characters
            folder.rmdir()
            folder = Path(tempfile.mkdtemp(prefix="wdp-edge-", dir="/tmp"))
        socket = folder / "socket"
        # It reads our stdin to its end: should this process be killed, the connection ends with it.
        wait = f"echo {_READY}; exec cat >/dev/null"
        options = ["-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-o", _control_path(socket)]
        argv = ["ssh", "-T", *self._options(), *options, *self._port("-p"), "--", self.address.destination, wait]
        connection = stream_process(argv, f"Logging in to {self.name}", _LOGIN_SECONDS, stdin=subprocess.PIPE)
        self._closer = weakref.finalize(self, _close, connection, folder)
        try:
            self._await(connection)
        except BaseException:
            self.close()
            raise
        return socket

    def _await(self, connection: Generator[str, None, Completed]) -> None:
        """Returns when the login is done. Raises SetupError when it fails."""
        while True:
            try:
                line = next(connection)
            except StopIteration as ended:
                raise self._lost(ended.value.err) from None
            if line.strip() == _READY:  # other lines are what a profile prints
                return


def _control_path(socket: Path) -> str:
    """The option, quoted as in a configuration file."""
    return f'ControlPath="{str(socket).replace("%", "%%")}"'


def _close(connection: Generator[str, None, Completed], folder: Path) -> None:
    connection.close()
    shutil.rmtree(folder, ignore_errors=True)
