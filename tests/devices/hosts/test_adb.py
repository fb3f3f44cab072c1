"""wdp_edge/devices/hosts/adb.py: a real adb against a real adbd, in a network namespace of their own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_contract import SECONDS, HostContract, runs_somewhere
from hypothesis import given
from hypothesis import strategies as st
from real_adbd import Adbd, start_adbd
from real_sshd import wait_until

from wdp_edge.devices.hosts.adb import AdbHost
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.device import Kind, get_device


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adbd]:
    adbd = start_adbd(tmp_path_factory.mktemp("adbd"), tmpfs_bytes=8 << 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{adbd.bin}:{os.environ['PATH']}")
        yield adbd
    adbd.stop()


class TestAdbHost(HostContract):
    @pytest.fixture
    def host(self, device: Adbd) -> AdbHost:
        return AdbHost(device.serial)

    def test_its_times_are_measured_and_its_work_folder_is_in_the_devices_cache(
        self, host: AdbHost, device: Adbd
    ) -> None:
        assert host.kind is Kind.MEASURED
        assert host.workdir() == str(device.cache / "wdp-edge")


def test_a_device_that_is_not_there(device: Adbd) -> None:
    with pytest.raises(SetupError, match=r"adb:emulator-5554 is not there\. .adb devices. lists"):
        AdbHost("emulator-5554").arch()


def test_a_machine_without_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"Cannot start adb: No such file.*doctor"):
        AdbHost("emulator-5554").arch()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "does not trust this machine"),
        ("error: device offline", "is offline"),
        ("error: insufficient permissions for device: user has no permissions", "may not be opened"),
        ("error: closed", "The connection to adb:X broke, last words: error: closed"),
        ("", r"The connection to adb:X broke\. "),
    ],
)
def test_words_of_adb_are_explained(said: str, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        raise AdbHost("X")._lost(said)


def test_a_daemon_that_tells_no_exit_codes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for Android 6 and older, of which there is none here."""
    old = tmp_path / "adb"
    old.write_text("#!/bin/sh\necho cmd\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SetupError, match="does not report how commands end"):
        AdbHost("X").arch()


def test_a_full_disk_is_one_sentence(device: Adbd, tmp_path: Path) -> None:
    host = AdbHost(device.serial)
    (tmp_path / "large").write_bytes(secrets.token_bytes(9 << 20))
    place = f"{host.workdir()}/large"
    with pytest.raises(SetupError, match="No space is left on adb:"):
        host.push(tmp_path / "large", place)
    host.run(["rm", "-f", place], SECONDS)


def test_a_daemon_killed_while_a_command_runs(device: Adbd, tmp_path: Path) -> None:
    host = AdbHost(device.serial)
    number = f"3{secrets.randbelow(10**6):06}"
    seen = []
    try:
        with pytest.raises(SetupError, match=r"The connection to adb:.* broke") as caught:
            for line in host.stream(["sh", "-c", f"echo up; exec sleep {number}"], SECONDS):
                seen.append(line)
                device.kill()
        assert seen == ["up"] and "\n" not in str(caught.value)
        wait_until(lambda: not runs_somewhere(f"sleep {number}"))  # what ran there has ended by itself
        (tmp_path / "file").write_text("x")
        for attempt in (lambda: host.run(["true"], SECONDS), lambda: host.push(tmp_path / "file", "/nowhere/never")):
            with pytest.raises(SetupError, match=r"adb:.* (is offline|is not there|broke)"):
                attempt()
    finally:
        device.start()
    assert host.run(["echo", "back"], SECONDS).out == "back\n"


@pytest.mark.parametrize("serial", ["R5CT30ABCDE", "emulator-5554", "10.0.0.7:5555", "[::1]:5555", "adb-1-x._adb._tcp"])
def test_serials(serial: str) -> None:
    assert get_device(f"adb:{serial}").name == f"adb:{serial}"


@given(st.text(max_size=30))
def test_a_serial_holds_nothing_that_adb_could_take_for_an_option(text: str) -> None:
    try:
        AdbHost(text)
    except InputError:
        return
    assert text.isascii() and text.isprintable() and not text.startswith("-") and " " not in text
