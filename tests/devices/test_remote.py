"""wdp_edge/devices/remote.py: real files and real runners over every transport, and devices that vanish meanwhile."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from heard import Heard
from host_contract import SECONDS
from real_adbd import Adbd, start_adbd
from real_sshd import start_sshd, tmpfs_wrap, wait_until
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.devices.hosts.adb import AdbHost
from wdp_edge.devices.hosts.host import Completed, Host
from wdp_edge.devices.hosts.local import LocalHost
from wdp_edge.devices.hosts.ssh import SshHost
from wdp_edge.devices.local import LocalDevice
from wdp_edge.devices.reference import ExpectedOutput
from wdp_edge.devices.remote import Interrupted, RemoteDevice, RunnerReport
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import sha256
from wdp_edge.protocols.device import Conditions, Kind, TimingPlan, get_device, ratio
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.runners.build import Bundle, bundle

TARGET = "executorch"
PLAN = TimingPlan(rounds=3, runs=4, warmup=1)
# Never finished before the test has killed something; the number tells its runners from others.
ENDLESS = TimingPlan(rounds=100_000 + secrets.randbelow(100_000), runs=20, warmup=0)

missing = [name for name in ("cmake", "g++") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: no runner can be built")


class Net(nn.Module):
    """Small enough to export in a second; `width` sets what it costs and, by its seed, what it gives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# What files give here, worked out once for all tests.
_known: dict[tuple[str, str], ExpectedOutput] = {}


def remote(
    host: Host,
    silence_seconds: float = SECONDS,
    make_bundle: Callable[[str, str], Bundle] | None = None,
) -> RemoteDevice:
    device = RemoteDevice(host, silence_seconds, make_bundle)
    device._references = _known
    return device


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("files")
    target = get_target(TARGET)
    for width in (8, 5000):
        path = folder / f"net{width}.pte"
        target.export(Net(width).eval(), torch.zeros(1, 3, 4, 4), path, ExportOptions(Precision.FP32))
    return {width: folder / f"net{width}.pte" for width in (8, 5000)}


every_transport = pytest.mark.parametrize("host", ["local", "ssh", "adb"], indirect=True)


def listed(host: Host) -> list[str]:
    """Names in the device's work folder."""
    return host.run(["sh", "-c", 'ls -A "$0"', host.workdir()], SECONDS).out.split()


@every_transport
def test_files_are_timed_in_the_order_given(host: Host, files: dict[int, Path]) -> None:
    device = remote(host)
    seen: list[tuple[int, int]] = []
    large, small, again = device.time(
        TARGET, [files[5000], files[8], files[5000]], PLAN, lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [len(t.rounds) for t in (large, small, again)] == [3, 3, 3]
    assert small.latency.kind is Kind.MEASURED
    # 600 times the work: true on any machine, however busy
    assert ratio(large, small) > 3 and ratio(again, small) > 3
    report = device.report
    assert isinstance(report, RunnerReport) and report.runtime == TARGET and report.peak_rss_bytes > 1 << 20
    assert [f.input for f in report.files] == [(1, 3, 4, 4)] * 3


def test_memory_grows_with_the_file(files: dict[int, Path]) -> None:
    small, large = (get_device("local").peak_memory(TARGET, files[width], 1) for width in (8, 5000))
    assert large - small > 0.9 * (files[5000].stat().st_size - files[8].stat().st_size)


@every_transport
def test_what_is_there_is_not_carried_again(host: Host, files: dict[int, Path]) -> None:
    remote(host).time(TARGET, [files[8]], PLAN)
    there = listed(host)
    assert sha256(files[8]) in there and bundle(TARGET, host.arch()).digest in there
    assert not [name for name in there if name.endswith(".part")]

    class NoPush:
        """The same host, which refuses files."""

        def __getattr__(self, name: str) -> object:
            assert name != "push", "a file was carried again"
            return getattr(host, name)

    remote(NoPush()).time(TARGET, [files[8]], PLAN)  # type: ignore[arg-type]
    assert listed(host) == there


@pytest.mark.parametrize("host", ["ssh", "adb"], indirect=True)
def test_probe_names_the_device(host: Host) -> None:
    here, there = LocalDevice().probe(), remote(host).probe()
    assert here.model in there.model
    assert (there.cores, there.features, there.system) == (here.cores, here.features, here.system)
    assert there.name == host.name and there.key != here.key


@pytest.mark.parametrize("host", ["local"], indirect=True)
def test_rests_between_rounds_change_neither_order_nor_number(host: Host, files: dict[int, Path]) -> None:
    plan = replace(PLAN, cpus=(0,), cooldown_seconds=0.01)
    large, small = remote(host).time(TARGET, [files[5000], files[8]], plan)
    assert len(large.rounds) == len(small.rounds) == 3
    assert all(a > b for a, b in zip(large.rounds, small.rounds, strict=True))


@pytest.mark.parametrize("host", ["local"], indirect=True)
def test_what_the_runner_refuses_is_passed_on(host: Host, files: dict[int, Path]) -> None:
    with pytest.raises(SetupError, match=r"runner failed on local \(exit code 3, last words: .*"):
        remote(host).time(TARGET, [files[8]], replace(PLAN, cpus=(100_000,)))


@pytest.mark.parametrize("host", ["local"], indirect=True)
def test_files_that_are_none_of_the_target_do_not_reach_the_device(
    host: Host, files: dict[int, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pte"
    bad.write_bytes(files[8].read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short"):
        remote(host).time(TARGET, [bad], PLAN)
    with pytest.raises(InputError, match="no target"):
        remote(host).time("nonsense", [files[8]], PLAN)
    assert listed(host) == []


@every_transport
def test_a_wrong_result_does_not_pass_as_a_fast_one(host: Host, files: dict[int, Path]) -> None:
    """The device holds a smaller file, with other values, in the place of the one that is to be timed."""
    host.push(files[8], f"{host.workdir()}/{secrets.token_hex(4)}")
    place = f"{host.workdir()}/{sha256(files[5000])}"
    host.run(["rm", "-f", place], SECONDS)
    host.push(files[8], place)
    try:
        with pytest.raises(InputError, match=r"net5000\.pte gives a wrong result on .*, so its time means nothing"):
            remote(host).time(TARGET, [files[5000]], PLAN)
    finally:
        host.run(["rm", "-f", place], SECONDS)


def runners() -> list[int]:
    """Processes of this machine that are endless runners; not the shells that started them."""
    words = rf"^[^ ]*/ld-linux[^ ]* --library-path .*--rounds {ENDLESS.rounds} "
    found = subprocess.run(["pgrep", "-f", words], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def send(number: signal.Signals) -> None:
    """A signal to the runner on the device."""
    (pid,) = runners()
    os.kill(pid, number)


def interrupted(
    host: Host, files: dict[int, Path], strike: Callable[[], object], silence: float = SECONDS
) -> Interrupted:
    """What is raised when `strike()` comes down after the second round."""

    def on_round(done: int, total: int) -> None:
        if done == 2:
            strike()

    with pytest.raises(Interrupted) as caught:
        remote(host, silence_seconds=silence).time(TARGET, [files[8], files[5000]], ENDLESS, on_round)
    wait_until(lambda: not runners())
    error = caught.value
    assert len(error.timings) == 2 and all(len(t.rounds) >= 2 for t in error.timings), "what was measured is kept"
    assert isinstance(error, SetupError) and error.exit_code == 2 and "\n" not in str(error)
    return error


@every_transport
def test_a_runner_that_is_killed(host: Host, files: dict[int, Path]) -> None:
    error = interrupted(host, files, lambda: send(signal.SIGKILL))
    assert error.message.startswith(f"runner failed on {host.name} (signal 9")


@every_transport
def test_a_runner_that_hangs(host: Host, files: dict[int, Path]) -> None:
    error = interrupted(host, files, lambda: send(signal.SIGSTOP), silence=2.0)
    assert error.message == f"runner on {host.name} hung (silent for 2 s)."


def test_an_ssh_server_that_is_killed(files: dict[int, Path], tmp_path: Path) -> None:
    server = start_sshd(tmp_path / "sshd")
    host = SshHost(server.address, server.config)
    try:
        error = interrupted(host, files, server.kill)
        assert f"{host.name} broke" in error.message or f"{host.name} refuses the connection" in error.message
    finally:
        host.close()
        server.stop()


def test_an_adb_daemon_that_is_killed(files: dict[int, Path], adbd: Adbd) -> None:
    host = AdbHost(adbd.serial)
    try:
        error = interrupted(host, files, adbd.kill)
        assert error.message.startswith(f"The connection to {host.name} broke")
    finally:
        adbd.start()


def full(host: Host, files: dict[int, Path]) -> None:
    """A device with two megabytes: the file fits, its runner does not, and nothing half is left."""
    with pytest.raises(SetupError, match=f"No space is left on {host.name}") as caught:
        remote(host).time(TARGET, [files[8]], PLAN)
    assert "\n" not in str(caught.value)
    assert listed(host) == []


def test_an_ssh_device_whose_disk_is_full(files: dict[int, Path], tmp_path: Path) -> None:
    cache = tmp_path / "small"
    cache.mkdir()
    server = start_sshd(tmp_path / "sshd", wrap=tmpfs_wrap(cache, 2 << 20), cache=cache)
    host = SshHost(server.address, server.config)
    try:
        full(host, files)
    finally:
        host.close()
        server.stop()


def test_an_adb_device_whose_disk_is_full(
    files: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = start_adbd(tmp_path / "adbd", tmpfs_bytes=2 << 20)
    monkeypatch.setenv("PATH", f"{device.bin}:{os.environ['PATH']}")
    try:
        full(AdbHost(device.serial), files)
    finally:
        device.stop()


class Scripted(LocalHost):
    """Stands in for devices that are not here: it answers commands from `answers`, a runner from `lines`."""

    def __init__(self, folder: Path, answers: dict[str, str], lines: Sequence[str] = ()) -> None:
        super().__init__("adb:scripted", folder)
        self.answers = answers
        self.lines = lines

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        if argv[0] in ("cat", "nproc", "getprop", "uname"):
            said = self.answers.get(" ".join(argv))
            return Completed(1, "", "") if said is None else Completed(0, said, "")
        return super().run(argv, timeout)

    def stream(self, argv: Sequence[str], silence_seconds: float) -> Generator[str, None, None]:
        yield from self.lines


CORE = (
    "processor\t: {}\nFeatures\t: fp asimd asimdhp asimddp\n"
    "CPU implementer\t: 0x41\nCPU part\t: {}\nCPU revision\t: 0\n\n"
)


def test_probe_of_a_phone_with_two_kinds_of_cores(tmp_path: Path) -> None:
    cores = "".join(CORE.format(i, "0xd05" if i < 4 else "0xd41") for i in range(8))
    phone = {
        "cat /proc/cpuinfo": f"{cores}Hardware\t: Somebody's SoC\n",
        "nproc": "8\n",
        "getprop ro.product.model": "Pixel 5\n",
        "uname -m": "aarch64\n",
        "uname -s": "Linux\n",
    }
    info = remote(Scripted(tmp_path, phone)).probe()
    assert info.model == "Pixel 5, Arm 0x41 part 0xd05 revision 0 + Arm 0x41 part 0xd41 revision 0"
    assert (info.cores, info.features, info.system) == (8, ("asimd", "asimdhp", "asimddp"), "Android aarch64")


def test_probe_of_a_board_that_says_little(tmp_path: Path) -> None:
    board = {"cat /proc/device-tree/model": "Raspberry Pi 4\0", "uname -m": "aarch64\n", "uname -s": "Linux\n"}
    info = remote(Scripted(tmp_path, board)).probe()
    assert (info.model, info.cores, info.system) == ("Raspberry Pi 4, aarch64", 0, "Linux aarch64")


LOADED = '{"event":"loaded","runtime":"r","threads":1,"files":[{"load_ms":1,"input":[1,3,4,4],"dtype":"float32"}]}'
ROUND = '{"event":"round","number":0,"ms":[[1.0,1.0]]}'
DONE = (
    '{"event":"done","outputs":[{"abs_sum":1,"first":[1.0],"count":1}],"peak_rss_bytes":1,'
    '"temperature":null,"clock_mhz":[2000,1500]}'
)
ODD = [
    ([], "does not say what it loaded"),
    (["Welcome to the board!"], "Welcome to the board!"),
    (["[" * 100_000], "nested"),
    ([ROUND], "does not say what it loaded"),
    ([LOADED.replace("[1,3,4,4]", "[1,3,8,8]")], r"sees other inputs in net8\.pte"),
    ([LOADED, DONE], "round 0 is missing"),
    ([LOADED, ROUND.replace("[1.0,1.0]", "[1.0]")], "round 0 is missing"),
    ([LOADED, ROUND.replace(":0", ":1")], "round 0 is missing"),
    ([LOADED, ROUND.replace("1.0]", "-1.0]")], "not a time"),
    ([LOADED, ROUND.replace("1.0]", "NaN]")], "not a finite number"),
    ([LOADED, ROUND], "does not end as it should"),
    ([LOADED, ROUND, ROUND], "does not end as it should"),
    ([LOADED, ROUND, DONE, ROUND], "does not end as it should"),
    ([LOADED, ROUND, DONE.replace("[{", '[],"x":[{')], "has not run every file"),
]


@pytest.mark.parametrize(("lines", "what"), ODD, ids=range(len(ODD)))
def test_a_runner_that_says_odd_things(lines: list[str], what: str, files: dict[int, Path], tmp_path: Path) -> None:
    host = Scripted(tmp_path / "device", {}, lines)
    made = tmp_path / "bundle"
    made.mkdir()
    device = remote(host, make_bundle=lambda target, arch: Bundle(made, ("./runner",), "digest", "r"))
    with pytest.raises(SetupError, match=rf"Could not parse the output of the runner on adb:scripted: .*{what}"):
        device.time(TARGET, [files[8]], TimingPlan(rounds=1, runs=2, warmup=0))


def test_a_clock_that_stood_still_for_a_run(files: dict[int, Path], tmp_path: Path) -> None:
    made = tmp_path / "bundle"
    made.mkdir()
    timings = []
    for ms in ("[0,1.5]", "[0,0]"):
        lines = [line.replace("[1.0,1.0]", ms) for line in told(files[8], [40, 40], [2000, 2000])]
        host = Scripted(tmp_path / "device", {}, lines)
        device = remote(host, make_bundle=lambda target, arch: Bundle(made, ("./runner",), "digest", "r"))
        if ms == "[0,1.5]":
            timings = device.time(TARGET, [files[8]], TimingPlan(rounds=1, runs=2, warmup=0))
        else:
            with pytest.raises(SetupError, match="too coarse for this file"):
                device.time(TARGET, [files[8]], TimingPlan(rounds=1, runs=2, warmup=0))
    assert [t.rounds for t in timings] == [(1.5,)] and timings[0].latency.p50 == 1.5


def told(path: Path, temperature: list[float], clock: list[float]) -> list[str]:
    """The lines of a runner that gives the file's right output."""
    output = remote(LocalHost())._prepare(TARGET, [path], PLAN).expected[0].output
    values = {"abs_sum": output.abs_sum, "first": output.first, "count": output.count}
    done = {"event": "done", "outputs": [values], "peak_rss_bytes": 1, "temperature": temperature, "clock_mhz": clock}
    return [LOADED, ROUND, json.dumps(done)]


class Processes(Scripted):
    """Stands in for a device whose clock falls: its runner says other lines in every process."""

    def __init__(self, folder: Path, processes: list[list[str]]) -> None:
        super().__init__(folder, {})
        self.processes = processes

    def stream(self, argv: Sequence[str], silence_seconds: float) -> Generator[str, None, None]:
        yield from self.processes.pop(0)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_clock_that_falls_is_in_the_figures_and_said(rounds: int, files: dict[int, Path], tmp_path: Path) -> None:
    """With rests every round is a process of its own: the first one's word and the last one's count."""
    scripts = [told(files[8], [40, 45], [2000, 1700]), told(files[8], [46, 50], [1900, 1500])]
    made = tmp_path / "bundle"
    made.mkdir()
    host = Processes(tmp_path / "device", scripts)
    device = remote(host, make_bundle=lambda target, arch: Bundle(made, ("./runner",), "digest", "r"))
    heard = Heard()
    progress.use(heard)
    plan = TimingPlan(rounds=rounds, runs=2, warmup=0, cooldown_seconds=0.001)
    (timing,) = device.time(TARGET, [files[8]], plan)
    progress.use(progress.Silent())
    last = 1700 if rounds == 1 else 1500
    why = f"its clock fell from 2000 to {last} MHz"
    assert timing.latency.conditions == Conditions((40, 45 if rounds == 1 else 50), (2000, last), why)
    assert heard.lines == [f"warning: adb:scripted slowed down: {why}"]


def test_devices_by_name() -> None:
    assert get_device("local").name == "local"
    assert get_device("ssh:pi@board") is get_device("ssh:pi@board"), "one connection for all that a session does"
    for name in ("toaster", "ssh", "board:x", "", "SSH:pi@board"):
        with pytest.raises(InputError, match=r"Known devices|not an address"):
            get_device(name)
