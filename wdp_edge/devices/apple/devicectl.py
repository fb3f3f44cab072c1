"""iPhones and iPads as Xcode's devicectl lists them."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wdp_edge.devices.hosts.host import last_words, run_process
from wdp_edge.errors import SetupError

_SECONDS = 60.0
_LIST = ("xcrun", "devicectl", "list", "devices", "--json-output")
# coremltools puts them into commands of a shell.
_IDENTIFIER = re.compile(r"[0-9A-Za-z-]{1,64}")
_CONNECTED, _OFF = "connected", "disabled"


@dataclass(frozen=True)
class ListedDevice:
    """One device. udid: of the hardware. identifier: what devicectl calls it. system: such as "iOS 18.4.1 (22E252)".

    state: of the connection, such as "connected". developer_mode: such as "enabled"; "" if unknown.
    """

    udid: str
    identifier: str
    model: str
    system: str
    state: str
    developer_mode: str


def find_device(udid: str) -> ListedDevice:
    """The connected device with this UDID or identifier, ready for our app.

    Raises SetupError when it is not there or not ready, or Xcode's tools are not installed.
    """
    device = next((d for d in list_devices() if udid.lower() in (d.udid.lower(), d.identifier.lower())), None)
    if device is None:
        raise SetupError(f"There is no device {udid} here.", "`xcrun devicectl list devices` lists what there is.")
    if device.state != _CONNECTED:
        raise SetupError(
            f"{device.model} {udid} is not connected (devicectl says: {device.state or 'nothing'}).",
            "Plug it in, unlock it and let it trust this Mac.",
        )
    if device.developer_mode == _OFF:
        raise SetupError(
            f"{device.model} {udid} does not accept apps from Xcode.",
            "Turn on its Developer Mode: Settings, Privacy & Security.",
        )
    return device


def list_devices() -> list[ListedDevice]:
    """All devices that this Mac knows, connected or not. Raises SetupError when Xcode's tools are not installed."""
    with tempfile.TemporaryDirectory(prefix="wdp-edge-") as folder:
        said = Path(folder) / "devices.json"
        done = run_process([*_LIST, str(said)], "devicectl", _SECONDS)
        if done.code != 0 or not said.is_file():
            raise SetupError(
                f"Xcode's devicectl does not work here (exit code {done.code}{last_words(done.err)}).",
                "Install Xcode 15 or newer and choose it: sudo xcode-select -s /Applications/Xcode.app",
            )
        text = said.read_text(encoding="utf-8", errors="replace")
    if shutil.which("devicectl") is None:
        raise SetupError(
            "coremltools looks for devicectl in PATH, and it is not there.",
            'Run: export PATH="$(dirname "$(xcrun --find devicectl)"):$PATH"',
        )
    return parse_devices(text)


def parse_devices(text: str) -> list[ListedDevice]:
    """The devices in what `devicectl list devices --json-output` wrote, without those that have no UDID.

    Raises SetupError for a text of another form.
    """
    try:
        devices = json.loads(text)["result"]["devices"]
        found = [_parse(device) for device in devices]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SetupError("Could not parse what Xcode's devicectl wrote.", "Install Xcode 15 or newer.") from error
    return [d for d in found if _IDENTIFIER.fullmatch(d.udid) and _IDENTIFIER.fullmatch(d.identifier)]


def _parse(device: Mapping[str, Any]) -> ListedDevice:
    def tell(group: str, name: str) -> str:
        return str(device.get(group, {}).get(name, ""))

    hardware, about = "hardwareProperties", "deviceProperties"
    system = [tell(hardware, "platform"), tell(about, "osVersionNumber"), f"({tell(about, 'osBuildUpdate')})"]
    return ListedDevice(
        udid=tell(hardware, "udid"),
        identifier=str(device.get("identifier", "")),
        model=tell(hardware, "marketingName") or tell(hardware, "productType"),
        system=" ".join(system),
        state=tell("connectionProperties", "tunnelState"),
        developer_mode=tell(about, "developerModeStatus"),
    )
