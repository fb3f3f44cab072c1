"""Builds runners and the counting plugin with CMake, once, into a cache; bundles them with their libraries."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from wdp_edge.errors import SetupError
from wdp_edge.io.files import atomic_folder, sha256
from wdp_edge.protocols.target import Bundling, get_target, target_class
from wdp_edge.runners.runtimes import ARCHITECTURES, Runtime, cache_folder, package_folder, runtime_of

SOURCES = Path(__file__).parent
RUNNER = "runner"
PLUGIN = "icount.so"
_LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
# The runner and every runtime's libraries need no others.
_SYSTEM = (
    *("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0"),
    *("libstdc++.so.6", "libgcc_s.so.1"),
)
_FLAGS = ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")
_SECONDS = 600.0


@dataclass(frozen=True)
class Bundle:
    """A runner with all its libraries, which needs nothing on the device but a Linux kernel.

    command: what to run inside the folder. digest: SHA-256 over all files. runtime: name and version.
    """

    folder: Path
    command: tuple[str, ...]
    digest: str
    runtime: str

    def argv(self, folder: str) -> list[str]:
        """The command from anywhere. folder: where the bundle lies on the device, absolute."""
        return [re.sub(r"^\.(?=/|$)", lambda _: folder, word) for word in self.command]


@dataclass(frozen=True)
class Compiler:
    """For one CPU. prefix: of the tools' names, such as aarch64-linux-gnu-."""

    arch: str
    prefix: str

    @property
    def cc(self) -> str:
        return tool(f"{self.prefix}gcc")

    @property
    def cxx(self) -> str:
        return tool(f"{self.prefix}g++")

    def version(self) -> str:
        return run([self.cxx, "--version"], "asking for the compiler's version").splitlines()[0]

    def library(self, name: str) -> Path:
        """A library of the system that the compiler builds for. Raises SetupError when it is not installed."""
        path = Path(run([self.cxx, f"-print-file-name={name}"], f"looking for {name}").strip())
        if not path.is_absolute() or not path.exists():
            raise SetupError(f"{self.cxx} has no {name}.", f"Install it with: {install_command(self.prefix + 'g++')}")
        return path


def bundle(target: str, arch: str) -> Bundle:
    """The runner for files of a target, for a CPU: the target's own, or ours, built when there is none in the cache.

    arch: x86_64 or aarch64.
    Raises InputError for a target without a native runner, SetupError when a tool, the runtime or the network is
    missing.
    """
    if issubclass(target_class(target), Bundling):
        own: Any = get_target(target)
        made: Bundle = own.bundle(arch)
        return made
    return _built(runtime_of(target), compiler_for(arch))


def bundle_of(files: Mapping[str, Path], command: Sequence[str], runtime: str) -> Bundle:
    """A bundle of files that are here, copied into the cache once: for the runner that a target brings.

    files: by their names in the bundle. command: as `Bundle` has it. runtime: name and version.
    Raises SetupError when the cache cannot be written.
    """
    told = "".join(f"{name} {sha256(path)}\n" for name, path in sorted(files.items()))
    folder = cache_folder() / "bundles" / f"own-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.is_dir():
            with atomic_folder(folder) as made:
                made.mkdir()
                for name, path in files.items():
                    shutil.copyfile(path, made / name)
                    (made / name).chmod(0o755)
    return Bundle(folder, tuple(command), sha256(folder), runtime)


def _built(runtime: Runtime, compiler: Compiler) -> Bundle:
    """The runner that links against a wheel's libraries."""
    label = f"{runtime.package} {runtime.version}"
    folder = cache_folder() / "bundles" / key(runtime.part, label, compiler)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.is_dir():
            package = package_folder(runtime, compiler.arch)
            with build(runtime.part, compiler, {"WDP_RUNTIME": str(package)}) as built, atomic_folder(folder) as made:
                made.mkdir()
                collect(made, Path(built) / RUNNER, runtime, package, compiler)
    command = (f"./{_LOADERS[compiler.arch]}", "--library-path", ".", f"./{RUNNER}")
    return Bundle(folder, command, sha256(folder), label)


def plugin(api: int) -> Path:
    """The counting plugin for a qemu that runs here. api: the version of its plugin interface.

    Raises SetupError when a tool is missing.
    """
    compiler = compiler_for(platform.machine())
    folder = cache_folder() / "plugins" / key("icount", str(api), compiler)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.is_dir():
            with build("icount", compiler, {"WDP_PLUGIN_API": str(api)}) as built, atomic_folder(folder) as made:
                made.mkdir()
                shutil.copyfile(Path(built) / PLUGIN, made / PLUGIN)
    return folder / PLUGIN


def compiler_for(arch: str) -> Compiler:
    """Raises SetupError when nothing here compiles for the CPU."""
    here = platform.machine()
    if platform.system() != "Linux" or here not in ARCHITECTURES:
        raise SetupError(
            f"Runners cannot be built on {platform.system()} {here}.", "Build on Linux, on x86_64 or aarch64."
        )
    if arch not in ARCHITECTURES:
        raise SetupError(f"There is no runner for {arch}.", f"There is one for {' and '.join(ARCHITECTURES)}.")
    return Compiler(arch, "" if arch == here else f"{arch}-linux-gnu-")


def key(part: str, version: str, compiler: Compiler) -> str:
    """What a build depends on, as the name of its folder."""
    sources = sorted(p for p in SOURCES.iterdir() if p.suffix in (".c", ".cpp", ".h", ".txt"))
    told = "".join(f"{p.name} {sha256(p)}\n" for p in sources)
    whole = f"{told}{part}\n{version}\n{compiler.arch}\n{compiler.version()}\n"
    return f"{part}-{compiler.arch}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def build(part: str, compiler: Compiler, settings: Mapping[str, str]) -> tempfile.TemporaryDirectory[str]:
    """Compiles a part in a folder that the caller removes. settings: of CMakeLists.txt."""
    folder = tempfile.TemporaryDirectory(prefix="wdp-edge-build-")
    defined = {
        "WDP_PART": part,
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_COMPILER": compiler.cc,
        "CMAKE_CXX_COMPILER": compiler.cxx,
        **({"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": compiler.arch} if compiler.prefix else {}),
        **settings,
    }
    cmake = tool("cmake")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    words = [f"-D{name}={value}" for name, value in defined.items()]
    run([cmake, *generator, "-S", str(SOURCES), "-B", folder.name, *words], f"configuring the {part} runner")
    run([cmake, "--build", folder.name], f"building the {part} runner")
    return folder


def collect(folder: Path, runner: Path, runtime: Runtime, package: Path, compiler: Compiler) -> None:
    """Puts the runner, its runtime and the system's libraries side by side."""
    loader = _LOADERS[compiler.arch]
    files = {RUNNER: runner} | {name: compiler.library(name) for name in (loader, *_SYSTEM)}
    for pattern in runtime.libraries:
        found = sorted(package.glob(pattern))
        if len(found) != 1:
            raise SetupError(
                f"{runtime.package} {runtime.version} has no {pattern}.",
                "Install the version that pyproject.toml asks for.",
            )
        files[soname(found[0].name)] = found[0]
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
        (folder / name).chmod(0o755 if name in (RUNNER, loader) else 0o644)


def soname(name: str) -> str:
    """What programs call a library: libonnxruntime.so.1 for libonnxruntime.so.1.32.0."""
    return re.sub(r"(\.so\.\d+)\..*", r"\1", name)


def tool(name: str) -> str:
    """The program's path. Raises SetupError when it is not installed."""
    if found := find_tool(name):
        return found
    raise SetupError(f"{name} is not installed.", f"Install it with: {install_command(name)}")


def find_tool(name: str) -> str | None:
    """The program's path: an installed one, or one that `wdp_edge.devices.setup` unpacked; None when there is none."""
    return shutil.which(name) or shutil.which(name, path=str(tools_folder() / "bin"))


def tools_folder() -> Path:
    """Where tools are unpacked that the system lacks."""
    return cache_folder() / "tools"


def install_command(name: str) -> str:
    """What installs a tool on Debian and Ubuntu."""
    packages = {"gcc": "gcc", "g++": "g++", "cmake": "cmake ninja-build"}
    packages |= {"qemu-aarch64": "qemu-user", "qemu-x86_64": "qemu-user"}
    cross = re.fullmatch(r"(\w+)-linux-gnu-(gcc|g\+\+)", name)
    package = f"g++-{cross[1].replace('_', '-')}-linux-gnu" if cross else packages[name]
    without_root = " (or without root: wdp-edge devices setup qemu)" if cross or name == "qemu-aarch64" else ""
    return f"sudo apt-get install {package}{without_root}"


def run(command: list[str], what: str) -> str:
    """stdout of a build tool. what: it does, for the message. Raises SetupError when it fails or hangs."""
    # The user's flags would make other programs of the same sources.
    env = {name: value for name, value in os.environ.items() if name not in _FLAGS}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False, env=env
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{Path(command[0]).name} hung while {what}.", "Run it again.") from error
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower()]
        reason = said[0] if said else f"exit code {done.returncode}"
        raise SetupError(f"{Path(command[0]).name} failed while {what}: {reason}.", "Check the compiler and CMake.")
    return done.stdout
