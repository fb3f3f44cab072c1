"""What kind of processor multiplies integers: kernels differ by it, and with them what an int8 file computes."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from wdp_edge.devices.local import cpu_features, read_cpuinfo

_X86 = ("x86_64", "amd64")
_ARM = ("aarch64", "arm64")
# The best of these that a processor has names its kind.
_X86_KINDS: tuple[tuple[str, str], ...] = (
    ("amx_int8", "amx-int8"),
    ("avx512_vnni", "avx512-vnni"),
    ("avx_vnni", "avx-vnni"),
    ("avx512f", "avx512"),
    ("avx2", "avx2"),
    ("avx", "avx"),
)
_ARM_KINDS = (("i8mm", "i8mm"), ("asimddp", "dotprod"), ("asimd", "neon"))


def processor_kind(machine: str, features: Collection[str]) -> str:
    """Architecture and the instructions for integer products, such as "x86-64 avx2" or "aarch64 dotprod".

    machine: as `platform.machine` says it. features: as Linux calls them in /proc/cpuinfo.
    """
    name, kinds = machine.lower(), _X86_KINDS
    if name in _X86:
        architecture, least = "x86-64", "sse"
    elif name in _ARM:
        architecture, kinds, least = "aarch64", _ARM_KINDS, "neon"
    else:
        return machine
    return f"{architecture} {next((kind for feature, kind in kinds if feature in features), least)}"


def this_processor() -> str:
    """The kind of this machine's processor."""
    features = set(cpu_features(read_cpuinfo(Path("/proc/cpuinfo"))))
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        features.add("asimddp")  # every Mac with an Arm processor has dot products
    return processor_kind(platform.machine(), features)
