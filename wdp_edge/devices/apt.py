"""Debian's packages without root: looked for, downloaded and unpacked; the system's own stay as they are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from wdp_edge.errors import SetupError

_SECONDS = 1800.0
_URI = re.compile(r"'(?P<uri>[^']+)' (?P<name>\S+) (?P<size>\d+) ")


def apt_get(folder: Path, words: Sequence[str], lacking: SetupError) -> str:
    """apt-get's stdout for something that changes nothing but `folder`, where its files and downloads go.

    lacking: what to raise where there is no apt-get. Raises SetupError when it fails.
    """
    if shutil.which("apt-get") is None:
        raise lacking
    (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    own = ["-o", f"Dir::Cache={folder / 'cache'}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]
    command = ["apt-get", "-qq", "-y", "--no-install-recommends", *own]
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        command += ["-o", f"Dir::State::lists={lists}"]
        if not any(lists.glob("*_Packages*")):
            run([*command, "update"], "reading the package index", folder)
    return run([*command, *words], f"looking for {shlex.join(words[1:])}", folder)


def named_files(said: str) -> list[tuple[str, int]]:
    """Names and bytes of the packages in what apt-get says with --print-uris."""
    return [(found["name"], int(found["size"])) for found in map(_URI.match, said.splitlines()) if found]


def unpack(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    run(["dpkg-deb", "-x", str(archive), str(folder)], f"unpacking {archive.name}", folder)


def run(command: list[str], what: str, folder: Path) -> str:
    """A program's stdout. folder: where it works. Raises SetupError when it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{command[0]} hung while {what}.", "Check the network, then run it again.") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1].removeprefix("E: ").rstrip(".") if lines else f"exit code {done.returncode}"
        raise SetupError(f"{command[0]} failed while {what}: {reason}.", "Check the network and the free space.")
    return done.stdout
