"""wdp_edge/devices/hosts/ssh.py against a real sshd on 127.0.0.1 with a key made for the test."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_contract import SECONDS, HostContract, runs_somewhere
from hypothesis import example, given
from hypothesis import strategies as st
from real_sshd import Sshd, processes_below, start_sshd, tmpfs_wrap, wait_until

from wdp_edge.devices.hosts.ssh import SshAddress, SshHost, parse_address
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.device import Kind, get_device


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    sshd = start_sshd(tmp_path_factory.mktemp("sshd"))
    yield sshd
    sshd.stop()


@pytest.fixture(scope="module")
def module_host(server: Sshd) -> Iterator[SshHost]:
    host = SshHost(server.address, server.config)
    yield host
    host.close()


class TestSshHost(HostContract):
    @pytest.fixture
    def host(self, module_host: SshHost) -> SshHost:
        return module_host

    def test_its_times_are_measured_and_its_work_folder_is_in_the_devices_cache(
        self, host: SshHost, server: Sshd
    ) -> None:
        assert host.kind is Kind.MEASURED
        assert host.workdir() == str(server.cache / "wdp-edge")


def logins(server: Sshd) -> int:
    return (server.folder / "sshd.log").read_text().count("Accepted publickey")


def test_one_login_carries_everything_and_ends_with_the_session(server: Sshd, tmp_path: Path) -> None:
    before = logins(server)
    host = SshHost(server.address, server.config)
    assert host.run(["true"], SECONDS).code == 0
    (tmp_path / "file").write_text("x")
    host.push(tmp_path / "file", f"{host.workdir()}/{secrets.token_hex(8)}")
    assert list(host.stream(["echo", "hello"], SECONDS)) == ["hello"]
    assert logins(server) == before + 1
    socket = host._socket
    assert socket is not None and runs_somewhere(str(socket))
    host.close()
    assert not socket.parent.exists() and not runs_somewhere(str(socket))
    # It opens again when it is needed, and ends with the object too.
    assert host.run(["true"], SECONDS).code == 0 and logins(server) == before + 2
    socket = host._socket
    del host
    assert not runs_somewhere(str(socket))


def test_the_connection_ends_with_a_process_that_is_killed(server: Sshd) -> None:
    number = f"5{secrets.randbelow(10**6):06}"
    script = (
        "import sys; from pathlib import Path; from wdp_edge.devices.hosts.ssh import SshHost\n"
        "host = SshHost(sys.argv[1], Path(sys.argv[2])); host.arch(); print(host._socket, flush=True)\n"
        "list(host.stream(['sleep', sys.argv[3]], 100))"
    )
    argv = [sys.executable, "-c", script, server.address, str(server.config), number]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        socket = session.stdout.readline().strip()
        wait_until(lambda: runs_somewhere(f"^sleep {number}"))
        session.kill()
    wait_until(lambda: not runs_somewhere(f"sleep {number}"))
    wait_until(lambda: not runs_somewhere(socket))
    shutil.rmtree(Path(socket).parent, ignore_errors=True)


def test_the_users_configuration_gives_names_users_and_ports(server: Sshd) -> None:
    host = SshHost("board", server.config)
    assert host.name == "ssh:board"
    assert host.run(["echo", "here"], SECONDS).out == "here\n"
    host.close()


def test_a_configuration_made_for_logging_in_by_hand_does_not_disturb(server: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    by_hand = "  RequestTTY force\n  RemoteCommand exec tmux\n  LocalForward 1 localhost:1\n  ControlPath none\n"
    config.write_text(server.config.read_text() + "Host *\n" + by_hand)
    host = SshHost("board", config)
    assert host.run(["sh", "-c", "echo out; echo err >&2; exit 4"], SECONDS).code == 4
    (tmp_path / "file").write_text("x")
    host.push(tmp_path / "file", f"{host.workdir()}/{secrets.token_hex(8)}")
    host.close()


def test_jump_hosts_are_honoured(server: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    hop = f"ProxyCommand ssh -F {server.config} -W %h:%p board"
    config.write_text(f"Host behind\n  HostName 127.0.0.1\n  Port {server.port}\n  {hop}\n{server.config.read_text()}")
    before = logins(server)
    host = SshHost("behind", config)
    assert host.run(["echo", "here"], SECONDS).out == "here\n"
    assert logins(server) == before + 2
    host.close()


def test_a_server_without_sftp_takes_files_too(tmp_path: Path) -> None:
    sshd = start_sshd(tmp_path / "sshd", sftp=False)
    try:
        host = SshHost(sshd.address, sshd.config)
        place = f"{host.workdir()}/place"
        (tmp_path / "file").write_text("content")
        host.push(tmp_path / "file", place)
        assert host.run(["cat", place], SECONDS).out == "content"
        host.close()
    finally:
        sshd.stop()


def without(server: Sshd, tmp_path: Path, old: str, new: str) -> Path:
    """The configuration with something changed."""
    text = server.config.read_text()
    assert old in text
    config = tmp_path / "changed"
    config.write_text(text.replace(old, new))
    return config


def test_a_refused_login_is_one_sentence(server: Sshd, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    config = without(server, tmp_path, str(server.folder / "key"), str(tmp_path / "other"))
    host = SshHost(server.address, config)
    with pytest.raises(SetupError, match=r"ssh:.* refuses the login\. .*ssh-copy-id"):
        host.arch()
    assert host._socket is None


def test_a_host_with_another_key_is_not_talked_to(server: Sshd, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server.port} {(tmp_path / 'other.pub').read_text()}")
    changed = without(server, tmp_path, str(server.folder / "known_hosts"), str(tmp_path / "known"))
    with pytest.raises(SetupError, match="its key has changed"):
        SshHost(server.address, changed).arch()
    unknown = without(server, tmp_path, str(server.folder / "known_hosts"), str(tmp_path / "none"))
    with pytest.raises(SetupError, match="not a host that ssh trusts"):
        SshHost(server.address, unknown).arch()


def test_hosts_that_are_not_there(server: Sshd, tmp_path: Path) -> None:
    config = without(server, tmp_path, f"Port {server.port}", "Port 1")
    with pytest.raises(SetupError, match="ssh:board refuses the connection"):
        SshHost("board", config).arch()
    with pytest.raises(SetupError, match="name that cannot be resolved"):
        SshHost("no-such-host.invalid", server.config).arch()
    with pytest.raises(SetupError, match=r"The connection to ssh:.* broke, last words: .*config file"):
        SshHost(server.address, tmp_path / "absent").arch()


def test_a_silent_host_is_given_up(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wdp_edge.devices.hosts.ssh._LOGIN_SECONDS", 1.0)
    waiting = [server.process.pid, *processes_below(server.process.pid)]
    host = SshHost(server.address, server.config)
    os.kill(waiting[0], 19)  # stopped: the system still takes connections in its name
    try:
        with pytest.raises(SetupError, match=r"Logging in to ssh:.* hung"):
            host.arch()
    finally:
        os.kill(waiting[0], 18)


def test_a_server_killed_while_a_command_runs(tmp_path: Path) -> None:
    number = f"4{secrets.randbelow(10**6):06}"
    sshd = start_sshd(tmp_path / "sshd")
    try:
        host = SshHost(sshd.address, sshd.config)
        seen = []
        with pytest.raises(SetupError, match=r"(The connection to ssh:.* broke|refuses the connection)") as caught:
            for line in host.stream(["sh", "-c", f"echo up; exec sleep {number}"], SECONDS):
                seen.append(line)
                sshd.kill()
        assert seen == ["up"] and "\n" not in str(caught.value)
        wait_until(lambda: not runs_somewhere(f"sleep {number}"))  # what ran there has ended by itself
        with pytest.raises(SetupError, match="refuses the connection"):
            host.run(["true"], SECONDS)
        with pytest.raises(SetupError, match="refuses the connection"):
            host.push(sshd.config, "/nowhere/never")
        host.close()
    finally:
        sshd.stop()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    cache = tmp_path / "small"
    cache.mkdir()
    sshd = start_sshd(tmp_path / "sshd", wrap=tmpfs_wrap(cache, 2 << 20), cache=cache)
    try:
        host = SshHost(sshd.address, sshd.config)
        (tmp_path / "large").write_bytes(secrets.token_bytes(4 << 20))
        with pytest.raises(SetupError, match="No space is left on ssh:"):
            host.push(tmp_path / "large", f"{host.workdir()}/large")
        host.close()
    finally:
        sshd.stop()


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("pi@board", "pi", "board", None),
        ("pi@10.0.0.7:2222", "pi", "10.0.0.7", 2222),
        ("board", "", "board", None),
        ("board:22", "", "board", 22),
        ("pi@[::1]", "pi", "::1", None),
        ("pi@[fe80::1%eth0]:2222", "pi", "fe80::1%eth0", 2222),
    ],
)
def test_addresses(text: str, user: str, host: str, port: int | None) -> None:
    assert parse_address(text) == SshAddress(user, host, port)
    assert get_device(f"ssh:{text}").name == f"ssh:{text}"


WRONG = ["", "@board", "pi@", "-oProxyCommand=x", "pi@-oX", "a b", "pi@board:", "pi@board:0", "pi@board:99999"]


@pytest.mark.parametrize("text", [*WRONG, "pi@::1", "pi@[::1", "pi@[::1]x", "pi@[board]", "pi@[::1%$(x)]", "b:²"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"not an address of a device|no device 'ssh:'"):
        get_device(f"ssh:{text}")


@given(st.text(max_size=30))
@example("a@b@c")
@example("pi@[::1%-]:5")
def test_an_address_holds_nothing_that_ssh_could_take_for_an_option(text: str) -> None:
    try:
        address = parse_address(text)
    except InputError:
        return
    assert not address.destination.startswith("-") and not address.host.startswith("-")
    assert set(address.destination) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-@:%")


def test_an_ipv6_address_is_reached_in_brackets(server: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """sshd listens on IPv4 here; what ssh and scp are told shows whether they take the address for one."""
    host = SshHost("pi@[::1]:2222", server.config)
    host._socket = tmp_path / "socket"
    assert host._client("true")[-5:] == ["-p", "2222", "--", "pi@::1", "true"]
    assert host._scp_host() == "pi@[::1]"
    asked = subprocess.run(["ssh", "-G", "-p", "2222", "--", "pi@::1"], capture_output=True, text=True, check=True)
    assert {"hostname ::1", "port 2222", "user pi"} <= set(asked.stdout.splitlines())
