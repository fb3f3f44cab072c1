"""qemu:CPU: real runners in the real emulator, and what is made of their counts."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_vit import TINY

from wdp_edge.devices.qemu import CPUS, EMULATOR, QemuHost, Translator, is_arm, marked, plugin_interface
from wdp_edge.devices.remote import RemoteDevice
from wdp_edge.errors import InputError, SetupError
from wdp_edge.models.spec import create
from wdp_edge.models.surgery import build
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.device import Kind, TimingPlan
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.runners.build import bundle, plugin

TOOLS = ("cmake", "gcc", EMULATOR, "aarch64-linux-gnu-g++")
MISSING = [name for name in TOOLS if shutil.which(name) is None]


def lacking() -> str:
    """Why nothing can be emulated here; "" when it can."""
    if MISSING:
        return f"{', '.join(MISSING)} not installed: see docs/guides/devices/qemu.md"
    options = subprocess.run([EMULATOR, "--help"], capture_output=True, text=True).stdout
    return "" if "-plugin" in options else "this qemu-user was built without plugins: see docs/guides/devices/qemu.md"


emulated = pytest.mark.skipif(bool(lacking()), reason=lacking())

# The bits of AT_HWCAP in the order of the names in /proc/cpuinfo, from Linux' arch/arm64.
HWCAPS = (
    *("fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp", "asimdhp", "cpuid"),
    *("asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4", "asimddp"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny ViT, dense and pruned by half, as .pte."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    dense = create(TINY).eval()
    whole = structure_of(dense)
    half = whole.with_widths([b.heads // 2 for b in whole.blocks], [b.hidden // 2 for b in whole.blocks])
    models = {"dense": dense, "pruned": build(TINY, half)}
    target = get_target("executorch")
    for name, model in models.items():
        target.export(model, torch.zeros(1, 3, 16, 16), folder / f"{name}.pte", ExportOptions(Precision.FP32))
    return {name: folder / f"{name}.pte" for name in models}


@pytest.fixture
def host(tmp_path: Path) -> QemuHost:
    return QemuHost("cortex-a76", tmp_path / "device")


def runner_words(host: QemuHost, target: str, *words: object) -> list[str]:
    """The command of a runner that lies in the host's folder."""
    made = bundle(target, "aarch64")
    folder = f"{host.workdir()}/{made.digest}"
    if not Path(folder).exists():
        host.push(made.folder, folder)
    return [*made.argv(folder), *map(str, words)]


def counted(host: QemuHost, target: str, *paths: Path, rounds: int = 2) -> list[list[list[float]]]:
    """Milliseconds of each round, file and run.

    ONNX Runtime's allocator takes two to four runs to settle, by nothing but the length of the file's path.
    """
    words = runner_words(host, target, "--rounds", rounds, "--runs", 2, "--warmup", 4, "--settle", 0, *paths)
    events = [json.loads(line) for line in host.stream(words, 120)]
    assert [e["event"] for e in events] == ["loaded", *["round"] * rounds, "done"]
    assert events[-1]["temperature"] is None
    return [e["ms"] for e in events if e["event"] == "round"]


@emulated
def test_counts_are_the_same_every_time(tmp_path: Path, files: dict[str, Path]) -> None:
    first, second = (QemuHost("cortex-a76", tmp_path / "device") for _ in range(2))
    one = counted(first, "executorch", files["dense"], files["pruned"])
    two = counted(second, "executorch", files["dense"], files["pruned"])
    assert one == two
    dense, pruned = ({t for r in one for t in r[i]} for i in (0, 1))
    assert len(dense) == len(pruned) == 1
    assert 0 < pruned.pop() < 0.8 * dense.pop()


@emulated
@pytest.mark.parametrize(("target", "spread"), [("tflite", 0.0), ("onnx", 0.01)])
def test_other_runtimes_count_alike(tmp_path: Path, target: str, spread: float) -> None:
    """LiteRT's runs are all the same. ONNX Runtime's differ by what its allocator finds, also from time to time.

    That is some hundred instructions however large the net is, so it has to be one of more than thirty thousand.
    """
    adapter = get_target(target)
    path = tmp_path / f"net{adapter.suffix}"
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3000), torch.nn.ReLU(), torch.nn.Linear(3000, 3))
    adapter.export(net.eval(), torch.zeros(1, 3, 4, 4), path, ExportOptions(Precision.FP32))
    every = [
        ms
        for _ in range(2)
        for times in counted(QemuHost("cortex-a55", tmp_path / "device"), target, path)
        for ms in times[0]
    ]
    assert len(every) == 8 and min(every) > 0
    assert max(every) - min(every) <= spread * min(every), "0 for LiteRT: equal to the instruction"


@emulated
def test_the_core_decides_the_kernels(tmp_path: Path, files: dict[str, Path]) -> None:
    counts = {
        cpu: counted(QemuHost(cpu, tmp_path / "device"), "executorch", files["dense"], rounds=1)[0][0][0]
        for cpu in ("cortex-a55", "cortex-a76")
    }
    assert counts["cortex-a55"] != counts["cortex-a76"]


@emulated
def test_a_remote_device_has_virtual_times(host: QemuHost, files: dict[str, Path]) -> None:
    device = RemoteDevice(host)
    info = device.probe()
    assert (info.name, info.cores, info.system) == ("qemu:cortex-a76", 1, "Linux aarch64")
    assert "0xd0b" in info.model and {"asimddp", "asimdhp"} <= set(info.features)
    dense, pruned = device.time("executorch", [files["dense"], files["pruned"]], TimingPlan(1, 1, 1))
    assert dense.latency.kind is pruned.latency.kind is Kind.VIRTUAL
    assert pruned.latency.p50 < dense.latency.p50


@emulated
def test_a_runner_that_refuses_is_one_sentence(host: QemuHost, tmp_path: Path) -> None:
    words = runner_words(host, "executorch", "--rounds", 1, tmp_path / "missing.pte")
    with pytest.raises(SetupError, match=r"there is no file .*missing\.pte that can be read"):
        list(host.stream(words, 60))
    done = host.run(words, 60)
    assert done.code == 3 and len(done.err.splitlines()) == 1


@emulated
def test_a_run_that_nobody_waits_for_is_ended(host: QemuHost, files: dict[str, Path]) -> None:
    words = runner_words(host, "executorch", "--rounds", 1_000_000, "--runs", 1, files["pruned"])
    with closing(host.stream(words, 60)) as lines:
        assert '"loaded"' in next(lines)
        assert '"round"' in next(lines)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(host.workdir()) not in listed


@emulated
def test_several_threads_are_refused(host: QemuHost, files: dict[str, Path]) -> None:
    words = runner_words(host, "executorch", "--threads", 2, files["pruned"])
    with pytest.raises(InputError, match="one thread"):
        list(host.stream(words, 60))


@emulated
@pytest.mark.parametrize("cpu", CPUS)
def test_cores_are_described_as_they_are(cpu: str, tmp_path: Path) -> None:
    """The emulated core says the same of itself as the /proc/cpuinfo that stands beside it."""
    source, program = tmp_path / "about.c", tmp_path / "about"
    source.write_text(
        "#include <stdio.h>\n#include <sys/auxv.h>\n"
        'int main(void) { unsigned long midr; __asm__("mrs %0, midr_el1" : "=r"(midr));\n'
        '  printf("%lx %lx\\n", midr, getauxval(AT_HWCAP)); }\n'
    )
    subprocess.run(["aarch64-linux-gnu-gcc", "-static", "-o", program, source], check=True)
    assert is_arm(str(program)) and not is_arm(str(source)) and not is_arm("about")
    host = QemuHost(cpu, tmp_path / "device")
    midr, hwcap = (int(word, 16) for word in host.run([str(program)], 60).out.split())
    core = CPUS[cpu]
    if core.emulated == cpu:
        assert midr == 0x41 << 24 | core.variant << 20 | 0xF << 16 | core.part << 4 | core.revision
    features = set(core.features.split())
    # Linux shows "evtstrm", a timer of its own; qemu does not.
    assert features - {"evtstrm"} <= {name for bit, name in enumerate(HWCAPS) if hwcap >> bit & 1}
    assert host.run(["cat", "/proc/cpuinfo"], 60).out == core.cpuinfo()


@emulated
@pytest.mark.parametrize("loops", [1, 1000, 70_000])
def test_every_instruction_is_counted_once(loops: int, tmp_path: Path) -> None:
    """Between the two system calls: 3 instructions to set up, 2 in every loop, and the second call itself."""
    source, program, counts = tmp_path / "loop.S", tmp_path / "loop", tmp_path / "counts"
    source.write_text(
        ".globl _start\n_start: mov x8, 9999\n mov x0, 1\n svc 0\n"
        f" ldr x1, ={loops}\n1: subs x1, x1, 1\n b.ne 1b\n"
        " mov x8, 9999\n mov x0, 2\n svc 0\n mov x8, 93\n mov x0, 0\n svc 0\n"
    )
    subprocess.run(["aarch64-linux-gnu-gcc", "-nostdlib", "-static", "-o", program, source], check=True)
    emulator = shutil.which(EMULATOR)
    assert emulator is not None
    counter = plugin(plugin_interface(emulator))
    subprocess.run([emulator, "-plugin", f"{counter},out={counts}", program], check=True)
    assert counts.read_text() == f"{3 + 2 * loops + 1}\n"


def test_the_machine_around_is_not_seen(host: QemuHost) -> None:
    assert host.arch() == "aarch64" and host.run(["uname", "-m"], 60).out == "aarch64\n"
    assert host.run(["nproc"], 60).out == "1\n"
    for path in ("/proc/version", "/proc/../etc/passwd", "/sys/class/dmi/id/product_name"):
        done = host.run(["cat", path], 60)
        assert done.code != 0 and done.out == ""
    assert host.run(["getprop", "ro.product.model"], 60).code != 0
    assert host.run(["test", "-d", host.workdir()], 60).code == 0


def test_an_unknown_core_is_refused() -> None:
    with pytest.raises(InputError, match=r"no device 'qemu:cortex-x9'.*cortex-a55, cortex-a72, cortex-a76"):
        QemuHost("cortex-x9")


@pytest.mark.parametrize(
    ("version", "interface"), [("6.2.0", 1), ("7.2.22", 1), ("8.2.1", 1), ("9.0.0", 2), ("10.1", 2)]
)
def test_the_plugin_interface_follows_the_version(version: str, interface: int, tmp_path: Path) -> None:
    assert plugin_interface(str(pretended(tmp_path, f"qemu-aarch64 version {version} (Debian 1)"))) == interface


@pytest.mark.parametrize("said", ["qemu-aarch64 version 5.2.0", "something else", ""])
def test_an_old_emulator_is_refused(said: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="too old"):
        plugin_interface(str(pretended(tmp_path, said)))


def test_an_emulator_without_plugins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="built without plugins: qemu-aarch64 version 10"):
        plugin_interface(str(pretended(tmp_path, "qemu-aarch64 version 10.0.13", options="-cpu model")))


def pretended(folder: Path, said: str, options: str = "-plugin file") -> Path:
    path = folder / "qemu"
    path.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo '{said}' || echo '{options}'\n")
    path.chmod(0o755)
    return path


def test_a_missing_emulator_is_said(host: QemuHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    with pytest.raises(SetupError, match="qemu-aarch64 is not installed"):
        list(host.stream(["/x/runner"], 60))


rounds = st.integers(1, 4).flatmap(
    lambda files: st.lists(st.lists(st.integers(1, 5), min_size=files, max_size=files), min_size=1, max_size=5)
)


@given(rounds)
def test_every_count_finds_its_run(tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]]) -> None:
    """The counts come in the order of the runs, which goes backwards in odd rounds."""
    counts = tmp_path_factory.mktemp("counts") / "counts"
    translator, given_out, number = Translator(counts), [], 0
    for index, runs in enumerate(shapes):
        expected: dict[int, list[float]] = {}
        for file in range(len(runs)) if index % 2 == 0 else reversed(range(len(runs))):
            mine = list(range(number + 1, number + 1 + runs[file]))
            expected[file], number = [n / 1e6 for n in mine], number + runs[file]
            given_out += mine
        counts.write_text("".join(f"{n}\n" for n in given_out))
        line = json.dumps({"event": "round", "number": index, "ms": [[1.0] * n for n in runs]})
        told = json.loads(translator.translate(line))
        assert told["ms"] == [expected[file] for file in range(len(runs))]


def test_a_run_that_was_not_counted_is_said(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    counts.write_text("12\n13\n")
    line = json.dumps({"event": "round", "number": 0, "ms": [[1.0, 1.0], [1.0]]})
    with pytest.raises(SetupError, match="did not count every run"):
        Translator(counts).translate(line)
    assert Translator(counts).translate("warning: hello") == "warning: hello"


def test_the_mark_stands_before_the_options() -> None:
    argv = ["/d/ld.so", "--library-path", "/d", "/d/runner", "--rounds", "1", "a.pte"]
    assert marked(argv) == [*argv[:4], "--mark", *argv[4:]]
