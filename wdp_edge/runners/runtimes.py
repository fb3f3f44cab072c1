"""The runtimes that runners link against, from the wheels on PyPI: the installed one, or one for another CPU."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import atomic_folder, cache_root
from wdp_edge.protocols.target import Bundling, target_class, target_names

ARCHITECTURES = ("x86_64", "aarch64")
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux2014")
_SECONDS = 900.0


@dataclass(frozen=True)
class Runtime:
    """part: what CMakeLists.txt calls it. package: on PyPI. folder: its Python package.

    needed: beginnings of the names in the folder that building takes.
    libraries: patterns of those that go with the runner.
    """

    part: str
    package: str
    folder: str
    needed: tuple[str, ...]
    libraries: tuple[str, ...]

    @property
    def version(self) -> str:
        """Version of the installed package, so that files are timed by the runtime that checked them.

        Raises SetupError when it is not installed.
        """
        if not is_installed(self):
            extra = next(target for target, runtime in RUNTIMES.items() if runtime == self)
            raise SetupError(f"The runner needs {self.package}.", f"Install it with: pip install 'wdp-edge[{extra}]'")
        return version(self.package)


RUNTIMES = {
    "executorch": Runtime(
        "executorch",
        "executorch",
        "executorch",
        ("include/", "lib/"),
        (
            "lib/libexecutorch.so",
            "lib/libexecutorch_kernels_optimized.so",
            "lib/libexecutorch_kernels_quantized.so",
            "lib/libexecutorch_backend_xnnpack.so",
            "lib/libexecutorch_threadpool.so",
        ),
    ),
    "tflite": Runtime("litert", "ai-edge-litert", "ai_edge_litert", ("libLiteRt.so",), ("libLiteRt.so",)),
    "onnx": Runtime("onnx", "onnxruntime", "onnxruntime", ("capi/libonnxruntime.so.",), ("capi/libonnxruntime.so.*",)),
}


def is_installed(runtime: Runtime) -> bool:
    return find_spec(runtime.folder) is not None


def runtime_of(target: str) -> Runtime:
    """Raises InputError for a target without a native runner."""
    if target not in RUNTIMES:
        raise InputError(
            f"There is no native runner for target '{target}'.", f"There is one for {', '.join(runner_targets())}."
        )
    return RUNTIMES[target]


def has_runner(target: str) -> bool:
    """Whether files of a target have a native runner: one of ours, or the target's own.

    Raises InputError for an unknown target, SetupError for one that cannot be imported.
    """
    return target in RUNTIMES or issubclass(target_class(target), Bundling)


def runner_targets() -> list[str]:
    """Targets that have one, of those that can be imported."""
    found = []
    for name in target_names():
        with contextlib.suppress(SetupError):
            found += [name] if has_runner(name) else []
    return found


def cache_folder() -> Path:
    """`runners` in $WDP_EDGE_CACHE, or ~/.cache/wdp-edge/runners."""
    return cache_root() / "runners"


def package_folder(runtime: Runtime, arch: str) -> Path:
    """The runtime's Python package for a CPU: the installed one, or of the same version from its wheel, once fetched.

    Raises SetupError when the package is not installed here or has no wheel for the CPU.
    """
    installed = runtime.version
    if arch == platform.machine():
        spec = find_spec(runtime.folder)
        assert spec is not None and spec.submodule_search_locations
        return Path(next(iter(spec.submodule_search_locations)))
    unpacked = fetched_folder(runtime, arch)
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(unpacked.parent / f".{unpacked.name}.lock"):
        if not unpacked.is_dir():
            with tempfile.TemporaryDirectory(prefix="wdp-edge-") as downloads:
                wheel = download(f"{runtime.package}=={installed}", arch, Path(downloads))
                with atomic_folder(unpacked) as folder:
                    unpack(wheel, runtime, folder)
    return unpacked / runtime.folder


def fetched_folder(runtime: Runtime, arch: str) -> Path:
    """Where the wheel for another CPU is unpacked, whether it has been or not."""
    return cache_folder() / "wheels" / f"{runtime.folder}-{runtime.version}-{arch}"


def pip_words(arch: str) -> list[str]:
    """What makes pip look for the wheel of another CPU."""
    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_{arch}")]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ["--no-deps", "--only-binary=:all:", "--python-version", python, *platforms]


def download(requirement: str, arch: str, folder: Path) -> Path:
    """The wheel for a CPU; pip checks it against its index. Raises SetupError when there is none or no network."""
    words = ["download", "--quiet", "--dest", str(folder), *pip_words(arch), requirement]
    run_pip(words, f"the {arch} wheel of {requirement}")
    return next(folder.glob("*.whl"))


def run_pip(words: list[str], what: str) -> str:
    """pip's stdout. what: it is to get, for the message. Raises SetupError when pip fails or hangs."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"pip took more than {_SECONDS:.0f} s for {what}.", "Check the network.") from error
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or done.stderr.splitlines()
        last = reasons[-1].removeprefix("ERROR: ").rstrip(".") if reasons else f"exit code {done.returncode}"
        raise SetupError(f"pip cannot get {what}: {last}.", "Check the network and pip's index.")
    return done.stdout


def unpack(wheel: Path, runtime: Runtime, folder: Path) -> None:
    """The part of a wheel that building takes, every file checked against the wheel's own list.

    Raises SetupError when a file is not as listed.
    """
    with zipfile.ZipFile(wheel) as archive:
        record = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
        rows = csv.reader(archive.read(record).decode().splitlines())
        listed = {row[0]: row[1] for row in rows if row}
        for name in archive.namelist():
            within = name.removeprefix(f"{runtime.folder}/")
            if name.endswith("/") or within == name or not within.startswith(runtime.needed):
                continue
            data = archive.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            path = folder / name
            if listed.get(name) != f"sha256={digest}" or not path.resolve().is_relative_to(folder.resolve()):
                raise SetupError(f"{wheel.name} is damaged: {name} is not as listed.", "Run it again to download it.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
