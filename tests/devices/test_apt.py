"""Debian's packages without root: what is asked, what is read, what is said where there is no apt-get."""

from __future__ import annotations

from pathlib import Path

import pytest

from wdp_edge.devices.apt import apt_get, named_files, run
from wdp_edge.errors import SetupError


def test_files_and_sizes_are_read() -> None:
    said = "'http://x/a_1%3a2.deb' a_1%3a2.deb 1200 SHA256:0\nReading …\n'u' b.deb 34 SHA256:1\n"
    assert named_files(said) == [("a_1%3a2.deb", 1200), ("b.deb", 34)]


def test_without_apt_get_the_caller_s_own_words_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="no apt-get"):
        apt_get(tmp_path, ["install", "x"], SetupError("There is no apt-get.", "Take another way."))


def test_the_last_line_of_a_program_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="sh failed while trying: no such package"):
        run(["sh", "-c", "echo 'E: no such package.' >&2; exit 100"], "trying", tmp_path)
