"""wdp_edge/devices/apple/devicectl.py: connected devices as Xcode's devicectl lists them.

The program is a fake (fake_xcode.py); its list was written after public projects' and recorded from no device.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_xcode import IDENTIFIER, LISTED, UDID
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.devices.apple.devicectl import find_device, list_devices, parse_devices
from wdp_edge.errors import SetupError


@pytest.mark.parametrize("name", [UDID, UDID.lower(), IDENTIFIER, IDENTIFIER.lower()])
def test_a_device_is_found_by_either_of_its_names(mac: Path, name: str) -> None:
    found = find_device(name)
    assert (found.udid, found.identifier, found.model) == (UDID, IDENTIFIER, "iPhone 14 Pro")


@pytest.mark.parametrize(
    ("udid", "why"),
    [
        ("00008120-0000000000000000", r"There is no device 00008120-0000000000000000 here.*devicectl list devices"),
        ("00008027-0011223344556677", r"iPad Pro \(11-inch\) .* is not connected \(devicectl says: disconnected\)"),
        ("00008110-0099887766554433", r"iPhone14,3 .* apps from Xcode.*Developer Mode"),
    ],
)
def test_devices_that_are_not_ready(mac: Path, udid: str, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        find_device(udid)


def test_xcode_is_missing(mac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mac / "bin/devicectl").unlink()
    with pytest.raises(SetupError, match=r"looks for devicectl in PATH.*xcrun --find devicectl"):
        list_devices()
    (mac / "bin/xcrun").write_text(
        "#!/bin/sh\necho 'xcrun: error: unable to find utility \"devicectl\"' >&2\nexit 72\n"
    )
    with pytest.raises(SetupError, match=r"devicectl does not work here \(exit code 72, last words: xcrun.*Xcode 15"):
        list_devices()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match="Cannot start xcrun"):
        list_devices()


def test_devices_without_a_udid_or_with_a_strange_one_are_left_out() -> None:
    text = LISTED.read_text()
    assert [d.udid[:8] for d in parse_devices(text)] == ["00008120", "00008027", "00008110"]
    assert [d.udid[:8] for d in parse_devices(text.replace(UDID, "00008120; reboot"))] == ["00008027", "00008110"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["result", "devices", "hardwareProperties", "udid", "identifier", "deviceProperties"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_output_is_understood_or_refused(value: Any) -> None:
    for text in (json.dumps(value), json.dumps({"result": {"devices": value}}), str(value)):
        try:
            found = parse_devices(text)
        except SetupError:
            continue
        assert all(device.udid and device.identifier for device in found)
