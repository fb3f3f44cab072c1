"""wdp_edge/io/native_output.py: what the C library prints, kept off standard output and given back in time."""

from __future__ import annotations

import ctypes
import os

import pytest

from wdp_edge.io.native_output import silent_stdout, stdout_to


def say(text: bytes) -> None:
    """Into the C library's own buffer."""
    ctypes.CDLL(None).puts(text)


def test_native_prints_are_lost_only_meanwhile(capfd: pytest.CaptureFixture[str]) -> None:
    say(b"before")
    ctypes.CDLL(None).fflush(None)
    with silent_stdout():
        say(b"unwanted")
        os.write(1, b"unwanted too\n")
    say(b"after")
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().out == "before\nafter\n"


def test_an_error_gives_standard_output_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), stdout_to(2):
        say(b"to the other")
        raise ValueError
    os.write(1, b"here again\n")
    assert capfd.readouterr() == ("here again\n", "to the other\n")
