"""wdp_edge/devices/own_runner.py over every transport.

STAND-IN: the programs are shell scripts that say what benchmark_model and executor_runner say, with a time that follows
from the size of the file. The real ones are for Android, of which there is none here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from host_contract import SECONDS

from wdp_edge.devices.hosts.host import Completed, Host
from wdp_edge.devices.hosts.local import LocalHost
from wdp_edge.devices.own_runner import OwnRunner
from wdp_edge.devices.remote import Interrupted
from wdp_edge.errors import InputError
from wdp_edge.protocols.device import Kind, TimingPlan, get_device, ratio

every_transport = pytest.mark.parametrize("host", ["local", "ssh", "adb"], indirect=True)
PLAN = TimingPlan(rounds=3, runs=4, warmup=2)

# Both keep the words that they got in a file of the folder that they run in.
BENCHMARK_MODEL = """#!/bin/sh
echo "$@" >>calls
us=$(wc -c <"${1#--graph=}")
echo "INFO: count=9 first=90000 curr=$us min=$us max=90000 avg=20000 std=9"
echo "INFO: count=4 first=$us curr=$us min=$us max=$((us + 4)) avg=$((us + 2)) std=1 p5=$us median=$((us + 1)) p95=9"
echo "INFO: Inference timings in us: Init: 5, First inference: 9, Warmup (avg): 2, Inference (avg): 3"
case $* in *report_peak*) echo "INFO: Overall peak memory footprint (MB) via periodic monitoring: 2.5" ;; esac
"""
EXECUTOR_RUNNER = """#!/bin/sh
echo "$@" >>calls
size=$(wc -c <"${1#--model_path=}")
at='I 00:00:06.075611 executorch:executor_runner.cpp:705]'
n=0
for ms in 900 800 $((size + 1)) $((size + 4)) $((size + 3)) $((size + 2)); do
  n=$((n + 1))
  EACH echo "$at Iteration $n of 6: $ms.000000 ms" >&2
done
echo "$at Model executed successfully 6 time(s) in $((6 * size)).000000 ms." >&2
echo "OutputX 0: tensor(sizes=[1, 3], [1., 2., 3.])"
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Of 2,000 and 1,000 bytes: the stand-ins do not look into them."""
    for name, size in (("large", 2000), ("small", 1000)):
        (tmp_path / name).write_bytes(name.encode() * (size // 5))
    return [tmp_path / "large", tmp_path / "small"]


def program(folder: Path, text: str) -> Path:
    """Not executable, as a download is."""
    path = folder / "android_aarch64_program"
    path.write_text(text)
    path.chmod(0o644)
    return path


def calls(host: Host) -> list[str]:
    """What the programs were given since it was asked last."""
    file = f"{host.workdir()}/calls"
    said = host.run(["cat", file], SECONDS).out
    host.run(["rm", "-f", file], SECONDS)
    return said.splitlines()


@every_transport
def test_processes_of_benchmark_model_alternate(host: Host, files: list[Path], tmp_path: Path) -> None:
    calls(host)
    device = OwnRunner(host, program(tmp_path, BENCHMARK_MODEL))
    seen: list[tuple[int, int]] = []
    large, small = device.time("tflite", files, PLAN, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    latency = large.latency
    assert (latency.p50, latency.p90, latency.min, latency.kind) == (2.001, 2.001, 2.0, Kind.MEASURED)
    assert latency.caveat == (
        "timed by benchmark_model, whose outputs nobody checked; p50 and p90 are of its medians of 3 rounds"
    )
    assert large.rounds == (2.0, 2.0, 2.0) and ratio(small, large) == 0.5
    assert large.peak_memory == 2.5 * 1024 * 1024
    given = calls(host)
    graphs = [line.split()[0] for line in given]
    first, second = graphs[:2]
    assert first != second
    assert graphs == [first, second, second, first, first, second, *[first, second]]
    assert given[0].split()[1:] == ["--num_threads=1", "--num_runs=4", "--min_secs=0", "--warmup_runs=2"]


@every_transport
def test_executions_of_executor_runner_are_figures_of_their_own(host: Host, files: list[Path], tmp_path: Path) -> None:
    device = OwnRunner(host, program(tmp_path, EXECUTOR_RUNNER.replace("EACH", "")))
    large, small = device.time("executorch", files, PLAN)
    assert (large.latency.p50, large.latency.p90, large.latency.min) == (2002.5, 2004.0, 2001.0)
    assert large.latency.caveat == "timed by executor_runner, whose outputs nobody checked"
    assert small.rounds == (1001.0,) * 3 and small.peak_memory is None


@pytest.mark.parametrize("host", ["local"], indirect=True)
def test_a_sum_of_executions_is_a_mean_and_said_so(host: Host, files: list[Path], tmp_path: Path) -> None:
    device = OwnRunner(host, program(tmp_path, EXECUTOR_RUNNER.replace("EACH", "#")))
    (timing,) = device.time("executorch", files[:1], TimingPlan(rounds=1, runs=4, warmup=2))
    assert (timing.latency.p50, timing.latency.min) == (2000.0, 2000.0)
    assert timing.latency.caveat is not None
    assert timing.latency.caveat.endswith("; p50 and p90 are of its means of 1 round")


class Phone(LocalHost):
    """Stands in for Android, where executor_runner writes to the system's log only: `logcat` shows it."""

    def __init__(self, folder: Path) -> None:
        super().__init__("adb:phone", folder)
        self.asked: list[list[str]] = []

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        if argv[0] != "logcat":
            return super().run(argv, timeout)
        self.asked.append(list(argv))
        lines = [f"Iteration {n} of 2: {n}.500000 ms" for n in (1, 2)]
        return Completed(0, "\n".join([*lines, "Model executed successfully 2 time(s) in 4.000000 ms.", ""]), "")


def test_times_are_found_in_androids_log(files: list[Path], tmp_path: Path) -> None:
    host = Phone(tmp_path / "device")
    device = OwnRunner(host, program(tmp_path, "#!/bin/sh\necho $$ >pid\n"))
    (timing,) = device.time("executorch", files[:1], TimingPlan(rounds=1, runs=1, warmup=1))
    assert timing.latency.p50 == 2.5
    pid = (tmp_path / "device/pid").read_text().strip()
    assert host.asked == [["logcat", "-d", "-v", "raw", f"--pid={pid}", "-s", "ExecuTorch"]]
    failing = OwnRunner(host, program(tmp_path, "#!/bin/sh\nkill -6 $$\n"))
    with pytest.raises(Interrupted, match=r"executor_runner failed on adb:phone \(signal 6, last words: Model"):
        failing.time("executorch", files[:1], PLAN)


@pytest.mark.parametrize("host", ["local"], indirect=True)
def test_cores_and_rests(host: Host, files: list[Path], tmp_path: Path) -> None:
    script = BENCHMARK_MODEL.replace("echo", "grep Cpus_allowed_list /proc/self/status >cores\necho", 1)
    plan = TimingPlan(rounds=2, runs=1, cpus=(0,), cooldown_seconds=0.01)
    (timing,) = OwnRunner(host, program(tmp_path, script)).time("tflite", files[:1], plan)
    assert len(timing.rounds) == 2
    assert host.run(["cat", f"{host.workdir()}/cores"], SECONDS).out.split()[1] == "0"


@every_transport
def test_a_program_that_fails_or_is_none(host: Host, files: list[Path], tmp_path: Path) -> None:
    failing = program(tmp_path, "#!/bin/sh\necho 'ERROR: Failed to load model' >&2\nexit 1\n")
    with pytest.raises(Interrupted, match=r"benchmark_model failed on .* \(exit code 1, last words: ERROR: Failed"):
        OwnRunner(host, failing).time("tflite", files, PLAN)
    silent = program(tmp_path, "#!/bin/sh\necho hello\n")
    with pytest.raises(Interrupted, match=r"executor_runner on .* reports no times\. .*ENABLE_LOGGING"):
        OwnRunner(host, silent).time("executorch", files, PLAN)
    foreign = program(tmp_path, "\x7fELF of another machine")
    with pytest.raises(Interrupted, match="benchmark_model failed on"):
        OwnRunner(host, foreign).time("tflite", files, PLAN)


@pytest.mark.parametrize("host", ["local"], indirect=True)
def test_what_was_timed_before_is_kept(host: Host, files: list[Path], tmp_path: Path) -> None:
    script = BENCHMARK_MODEL + "[ $(wc -l <calls) -lt 6 ]\n"
    with pytest.raises(Interrupted, match="exit code 1") as caught:
        OwnRunner(host, program(tmp_path, script)).time("tflite", files, PLAN)
    assert [t.rounds for t in caught.value.timings] == [(2.0, 2.0), (1.0, 1.0)]


@pytest.mark.parametrize("host", ["ssh"], indirect=True)
def test_a_program_that_hangs_is_ended_and_named(host: Host, files: list[Path], tmp_path: Path) -> None:
    hanging = program(tmp_path, "#!/bin/sh\nexec sleep 100\n")
    with pytest.raises(Interrupted, match=r"benchmark_model on ssh:.* hung \(not done after 1 s\)"):
        OwnRunner(host, hanging, seconds=1.0).time("tflite", files, PLAN)


def test_wrong_words_are_refused_before_anything_runs(files: list[Path], tmp_path: Path) -> None:
    device = OwnRunner(LocalHost(folder=tmp_path / "device"), tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"that times onnx files.*benchmark_model for tflite"):
        device.time("onnx", files, PLAN)
    with pytest.raises(InputError, match=r"There is no program .*nowhere"):
        device.time("tflite", files, PLAN)
    for name in ("local", "qemu:cortex-a76"):
        with pytest.raises(InputError, match=f"'{name}' takes no runner of your own"):
            get_device(name, "benchmark_model")
    assert isinstance(get_device("adb:SERIAL", "benchmark_model"), OwnRunner)


def test_another_program_is_another_device(tmp_path: Path) -> None:
    """For the cache of latency tables."""
    host = LocalHost(folder=tmp_path / "device")
    keys = {OwnRunner(host, program(tmp_path, text)).probe().key for text in ("one", "two", "one")}
    assert len(keys) == 2
