"""The native runners on this machine: every runtime against the same file in Python."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fake_sysfs import fake_sysfs
from native import TARGETS, events, export, needs, refused, run

from wdp_edge.protocols.target import get_target
from wdp_edge.runners.build import Bundle, bundle

pytestmark = needs("cmake", "g++")


@dataclass(frozen=True)
class Runner:
    """A target's runner and three of its files: two sizes, and one that takes pixels."""

    target: str
    bundle: Bundle
    small: Path
    large: Path
    pixels: Path


@pytest.fixture(scope="module", params=TARGETS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    target = request.param
    folder = tmp_path_factory.mktemp(target)
    files = [export(target, folder, 8), export(target, folder, 4000), export(target, folder, 8, pixels=True)]
    return Runner(target, bundle(target, platform.machine()), *files)


def fixed_input(dtype: str) -> torch.Tensor:
    """The runners' input, computed here from its definition."""
    state, values = 1, []
    for _ in range(48):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append((state >> 8) / 8388608 - 1 if dtype == "float32" else state >> 24)
    return torch.tensor(values, dtype=getattr(torch, dtype)).reshape(1, 3, 4, 4)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_outputs_are_those_of_the_python_runtime(runner: Runner, dtype: str) -> None:
    path = runner.small if dtype == "float32" else runner.pixels
    loaded, _, done = events(run(runner.bundle, "--rounds", 1, "--runs", 1, path))
    assert loaded["files"][0]["input"] == [1, 3, 4, 4] and loaded["files"][0]["dtype"] == dtype
    expected = get_target(runner.target).load(path, 1)(fixed_input(dtype)).flatten()
    output = done["outputs"][0]
    assert output["count"] == 20
    assert output["first"] == pytest.approx(expected[:16].tolist(), abs=1e-5)
    assert output["abs_sum"] == pytest.approx(float(expected.abs().sum()), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_given_inputs_are_run_one_after_another(runner: Runner, dtype: str, tmp_path: Path) -> None:
    path = runner.small if dtype == "float32" else runner.pixels
    images = torch.randint(0, 256, (3, 3, 4, 4), generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    given, got = tmp_path / "inputs", tmp_path / "outputs"
    images.numpy().tofile(given)
    (loaded,) = events(run(runner.bundle, "--inputs", given, "--outputs", got, path))
    program = get_target(runner.target).load(path, 1)
    expected = torch.cat([program(image) for image in images.split(1)])
    values = torch.frombuffer(bytearray(got.read_bytes()), dtype=torch.float32).reshape(3, 20)
    assert loaded["event"] == "loaded" and not torch.equal(expected[0], expected[1])
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)


def test_inputs_that_are_none_are_refused(runner: Runner, tmp_path: Path) -> None:
    given, got = tmp_path / "inputs", tmp_path / "outputs"
    for content in (b"", b"\0" * 100, b"\0" * (2 * 192 + 1)):
        given.write_bytes(content)
        assert "inputs of 192 bytes" in refused(run(runner.bundle, "--inputs", given, "--outputs", got, runner.small))
    assert "belong together" in refused(run(runner.bundle, "--inputs", given, runner.small))
    assert "for one file" in refused(
        run(runner.bundle, "--inputs", given, "--outputs", got, runner.small, runner.large)
    )
    nowhere = ("--inputs", tmp_path / "none", "--outputs", got)
    assert "cannot open" in refused(run(runner.bundle, *nowhere, runner.small))


def test_rounds_runs_and_files_come_in_the_order_given(runner: Runner) -> None:
    words = ("--rounds", 3, "--runs", 4, "--warmup", 0, "--threads", 1)
    first, *rounds, last = events(run(runner.bundle, *words, runner.large, runner.small))
    assert first["event"] == "loaded" and first["threads"] == 1 and len(first["files"]) == 2
    assert [r["number"] for r in rounds] == [0, 1, 2]
    assert all(len(times) == 4 and min(times) > 0 for r in rounds for times in r["ms"])
    # 500 times the work: true on any machine, however busy
    assert all(min(r["ms"][0]) > min(r["ms"][1]) for r in rounds)
    assert last["event"] == "done" and len(last["outputs"]) == 2
    assert last["outputs"][0] != last["outputs"][1]
    assert last["peak_rss_bytes"] > 1_000_000


def test_every_round_is_warmed_up_within_its_bounds(runner: Runner) -> None:
    words = ("--rounds", 2, "--runs", 1, "--warmup", 4)
    for settle in (0, 5):
        _, *rounds, _ = events(run(runner.bundle, *words, "--settle", settle, runner.large, runner.small))
        untimed = [count for r in rounds for count in r["untimed"]]
        assert len(untimed) == 4 and all(4 <= count <= 4 + settle for count in untimed)


def test_threads_and_cpus_are_honoured(runner: Runner) -> None:
    """Seen from outside: threads of the process, and where it may run."""
    tasks = {}
    for threads in (1, 2):
        words = ["--threads", threads, "--cpus", 0, "--rounds", 1_000_000, "--runs", 1, runner.large]
        command = [*runner.bundle.argv(str(runner.bundle.folder)), *map(str, words)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert '"loaded"' in process.stdout.readline()
            assert '"round"' in process.stdout.readline()
            proc = Path("/proc") / str(process.pid)
            status = (proc / "status").read_text()
            tasks[threads] = len(list((proc / "task").iterdir()))
            process.kill()
        assert "Cpus_allowed_list:\t0\n" in status
    assert tasks[2] == tasks[1] + 1


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "noise", "folder"])
def test_a_file_that_is_none_is_refused_in_one_line(runner: Runner, damage: str, tmp_path: Path) -> None:
    path = tmp_path / runner.small.name
    whole = runner.small.read_bytes()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        content = {"cut": whole[: len(whole) // 3], "empty": b"", "noise": bytes(range(256)) * 8}[damage]
        path.write_bytes(content)
    line = refused(run(runner.bundle, "--rounds", 1, "--runs", 1, runner.small, path))
    assert str(path) in line


def test_damaged_bytes_never_end_without_a_word(runner: Runner, tmp_path: Path) -> None:
    """Either the runtime notices, or it crashes and the runner says so, or the file is still a sound one.

    A runtime may also run on for ever, which the runner cannot tell from work: then the host ends it.
    """
    path = tmp_path / runner.small.name
    for seed in range(6):
        content = bytearray(runner.small.read_bytes())
        for at in torch.randint(8, len(content), (60,), generator=torch.Generator().manual_seed(seed)):
            content[at] ^= 0x5A
        path.write_bytes(content)
        try:
            done = run(runner.bundle, "--rounds", 1, "--runs", 1, path, seconds=20.0)
        except subprocess.TimeoutExpired:
            continue
        if done.returncode != 0:
            assert str(path) in refused(done)
        else:
            assert events(done)[-1]["event"] == "done"


@pytest.mark.parametrize("shows", [False, True], ids=["no /sys", "a fake /sys"])
def test_it_runs_where_there_is_nothing_else(runner: Runner, tmp_path: Path, shows: bool) -> None:
    """In a root folder with the bundle, one file and what describes the CPU: no other library, no /dev, and no /sys.

    FAKE: or one with the files of a machine that shows its temperature and clock.
    """
    room = ["unshare", "--user", "--map-root-user", "chroot"]
    if shutil.which("unshare") is None or subprocess.run([*room, "/", "true"], capture_output=True).returncode != 0:
        pytest.skip("this system lets a user make no namespace: a root folder of its own cannot be tried")
    root = tmp_path / "root"
    shutil.copytree(runner.bundle.folder, root)
    shutil.copyfile(runner.small, root / "model")
    (root / "proc").mkdir()
    if shows:
        fake_sysfs(root)
    shutil.copyfile("/proc/cpuinfo", root / "proc" / "cpuinfo")
    command = [*room, str(root), *runner.bundle.command, "--rounds", "1", "--runs", "1", "model"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    last = events(done)[-1]
    assert last["outputs"][0]["count"] == 20
    assert last["temperature"] == ([44.5, 44.5] if shows else None)
    assert last["clock_mhz"] == ([2400.0, 2400.0] if shows else None)


@pytest.mark.parametrize(
    "words",
    [
        ["--rounds", "0"],
        ["--runs", "-1"],
        ["--threads", "two"],
        ["--threads", "1x"],
        ["--warmup", "-1"],
        ["--settle", "x"],
        ["--cpus", "99999"],
        ["--cpus", "0,,1"],
        ["--cpus", ""],
        ["--unknown"],
    ],
)
def test_wrong_options_are_refused_in_one_line(runner: Runner, words: list[str]) -> None:
    line = refused(run(runner.bundle, *words, runner.small))
    assert words[0].removeprefix("--") in line


def test_no_file_is_refused(runner: Runner) -> None:
    assert "usage: runner" in refused(run(runner.bundle, "--rounds", 1))
