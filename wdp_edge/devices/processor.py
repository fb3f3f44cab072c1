"""Which processor a machine has, and how it multiplies integers.

Kernels differ by it, and with them what an int8 file computes.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Collection
from pathlib import Path

# What decides which kernels a runtime picks.
_FEATURES = (
    *("avx", "avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)


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


def read_cpuinfo(path: Path) -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; {} where there is none."""
    if not path.is_file():
        return {}
    processors = parse_cpuinfo(path.read_text(encoding="utf-8", errors="replace"))
    return processors[0] if processors else {}


def parse_cpuinfo(text: str) -> list[dict[str, str]]:
    """The entries of each processor in the text of /proc/cpuinfo."""
    blocks = [[line.partition(":") for line in block.splitlines()] for block in text.strip().split("\n\n")]
    every = [{key.strip(): value.strip() for key, _, value in block} for block in blocks]
    return [entries for entries in every if "processor" in entries]


def cpu_features(facts: dict[str, str]) -> tuple[str, ...]:
    """Those of a processor's features that decide which kernels a runtime picks."""
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return tuple(f for f in _FEATURES if f in flags)


def cpu_name(facts: dict[str, str]) -> str:
    """A name that tells one kind of CPU from another; "" when the entries of /proc/cpuinfo hold none.

    Clouds hide the marketing name ("Intel(R) Xeon(R) Processor"), so family and model are part of it.
    """
    if name := facts.get("model name"):
        return f"{name} ({facts.get('cpu family', '?')}/{facts.get('model', '?')}/{facts.get('stepping', '?')})"
    if part := facts.get("CPU part"):
        return f"Arm {facts.get('CPU implementer', '?')} part {part} revision {facts.get('CPU revision', '?')}"
    return ""


def cpu_model(facts: dict[str, str]) -> str:
    """The name of this machine's CPU. facts: its entries of /proc/cpuinfo, {} where there are none."""
    if name := cpu_name(facts):
        return name
    if platform.system() == "Darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.stdout.strip() or platform.processor()
    return platform.processor() or platform.machine()
