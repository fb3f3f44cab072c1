"""wdp_edge/devices/processor.py: what kinds of processors are called, here and by /proc/cpuinfo."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from wdp_edge.devices.processor import cpu_model, processor_kind, read_cpuinfo, this_processor


@pytest.mark.parametrize(
    ("machine", "features", "kind"),
    [
        ("x86_64", {"avx", "avx2", "fma"}, "x86-64 avx2"),
        ("AMD64", {"avx2", "avx512f", "avx512_vnni"}, "x86-64 avx512-vnni"),
        ("x86_64", {"avx2", "avx512f"}, "x86-64 avx512"),
        ("x86_64", set(), "x86-64 sse"),
        ("aarch64", {"asimd", "asimddp"}, "aarch64 dotprod"),
        ("arm64", {"asimd", "asimddp", "i8mm"}, "aarch64 i8mm"),
        ("aarch64", {"asimd"}, "aarch64 neon"),
        ("riscv64", {"v"}, "riscv64"),
    ],
)
def test_kinds(machine: str, features: set[str], kind: str) -> None:
    assert processor_kind(machine, features) == kind


def test_this_machine_has_a_kind() -> None:
    assert this_processor().split()[0] in ("x86-64", "aarch64", platform.machine())


def test_cpuinfo_of_other_machines(tmp_path: Path) -> None:
    arm = tmp_path / "cpuinfo"
    first = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
    arm.write_text(first + "\nprocessor\t: 1\n")
    assert cpu_model(read_cpuinfo(arm)) == "Arm 0x41 part 0xd0b revision ?"
    assert read_cpuinfo(tmp_path / "absent") == {}
    assert cpu_model({})
