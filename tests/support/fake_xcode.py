"""Xcode's xcrun, devicectl and xcodebuild, and the app on a phone, as one fake program: there is no Mac here.

`install_xcode(folder)` puts it there under these names. It answers as coremltools 9.0 reads them, and as the source of
coremltools' app (modelrunner) writes; no answer was recorded from a device. What it was asked is in `calls`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

UDID = "00008120-00AA11BB22CC33DD"
IDENTIFIER = "0AAAAAAA-1111-4222-8333-BBBBBBBBBBB1"
LISTED = Path(__file__).with_name("devicectl.json")
CLASSES = 4
# Nanoseconds of a prediction by compute units.
NANOSECONDS = {"ALL": 2_000_000, "CPU_AND_NE": 3_000_000, "CPU_AND_GPU": 4_000_000, "CPU_ONLY": 5_000_000}


def install_xcode(folder: Path) -> Path:
    """Makes the three programs. Returns the folder to put first in PATH."""
    bin = folder / "bin"
    bin.mkdir()
    for name in ("xcrun", "devicectl", "xcodebuild"):
        program = bin / name
        program.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n")
        with program.open("a") as file:
            file.write(f"from fake_xcode import main\nmain({name!r}, {str(folder)!r}, sys.argv[1:])\n")
        program.chmod(0o755)
    shutil.copy(LISTED, folder / "devices.json")
    return bin


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def end_apps(folder: Path) -> None:
    """Ends what a worker would take along, where there was no worker process."""
    for number in (folder / "apps").read_text().split() if (folder / "apps").exists() else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(number), signal.SIGKILL)


def main(name: str, folder: str, words: list[str]) -> None:
    place = Path(folder)
    with (place / "calls").open("a") as file:
        file.write(json.dumps([name, *words]) + "\n")
    if name == "xcrun":
        words = words[1:]
    if name == "xcodebuild":
        root = next(word.removeprefix("SYMROOT=") for word in words if word.startswith("SYMROOT="))
        Path(root, "Release-iphoneos/modelrunner.app").mkdir(parents=True)
    elif words[:2] == ["list", "devices"]:
        shutil.copy(place / "devices.json", option(words, "--json-output", "-j"))
    elif words[:3] == ["device", "install", "app"]:
        app = {"bundleID": "the.app", "databaseUUID": "0"}
        answer(words, {"installedApplications": [app]})
    elif words[:3] == ["device", "process", "launch"]:
        with (place / "apps").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(600)
    elif words[:2] == ["device", "copy"]:
        copy(place / "phone", words)


def option(words: list[str], *names: str) -> str:
    return next(words[i + 1] for i, word in enumerate(words) if word in names)


def answer(words: list[str], result: dict[str, Any]) -> None:
    Path(option(words, "-j")).write_text(json.dumps({"result": result}))


def copy(phone: Path, words: list[str]) -> None:
    """Between the Mac and the app's folder. A message that arrives is answered by a message to be fetched."""
    source, destination = option(words, "--source"), option(words, "--destination")
    if words[2] == "from":
        shutil.copy(phone / source, destination)
    elif destination.endswith("/message.json"):
        reply(phone / "Documents/modelrunnerd/responses", json.loads(Path(source).read_text()))
    answer(words, {"source": source, "destination": destination})


def reply(responses: Path, request: dict[str, Any]) -> None:
    folder = responses / request["id"]
    folder.mkdir(parents=True)
    result = {"modelID": request["params"]["modelID"], "duration": 7}
    message = {"jsonrpc": "2.0", "id": request["id"], "result": result}
    if request["method"] == "MLModelService.Prediction":
        storage = {"offset": 0, "size": 4 * CLASSES}
        logits = {"shape": [1, CLASSES], "strides": [CLASSES, 1], "dataType": "Float32", "storage": storage}
        result |= {"outputs": {"logits": logits}, "duration": NANOSECONDS[request["params"]["computeUnits"]]}
        (folder / "out.bin").write_bytes(struct.pack(f"{CLASSES}f", *range(CLASSES)))
        message["resource"] = "out.bin"
    (folder / "message.json").write_text(json.dumps(message))
