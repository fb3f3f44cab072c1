"""wdp_edge/devices/hosts/shell.py: what a shell is given, and how the end of a command is known."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wdp_edge.devices.hosts.host import Completed
from wdp_edge.devices.hosts.shell import ShellHost, outcome, remote_command
from wdp_edge.errors import InputError, SetupError

ARGUMENTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5)


@settings(max_examples=60, deadline=None)
@given(ARGUMENTS)
@example(["'", "$(exit 3)", "`id`", "\\", "a\nb", "!", "-n", ""])
def test_a_real_shell_gives_a_command_its_arguments_unchanged(arguments: list[str]) -> None:
    argv = ["sh", "-c", 'for a in "$@"; do printf "%s\\0" "$a"; done; exit 9', "sh", *arguments]
    command = remote_command(argv)
    with subprocess.Popen(
        ["sh", "-c", command.line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None and shell.stderr is not None
        out, err = shell.stdout.read(), shell.stderr.read()
    assert out.decode() == "".join(f"{a}\0" for a in arguments)
    assert outcome(Completed(0, "", err.decode()), command.mark) == Completed(9, "", "")


def test_a_zero_byte_is_refused() -> None:
    with pytest.raises(InputError, match="zero byte"):
        remote_command(["cat", "a\0b"])


@given(st.text(max_size=40), st.text(max_size=10))
def test_without_its_mark_a_command_has_not_ended(said: str, end: str) -> None:
    mark = remote_command(["true"]).mark
    assert outcome(Completed(0, "", said), mark) is None
    assert outcome(Completed(0, "", f"{said}{mark}"), mark) is None
    assert outcome(Completed(255, "o", f"{said}{mark}12\n"), mark) == Completed(12, "o", said)


class Cut(ShellHost):
    """FAKE: a client whose connection breaks before the command ends, after `said` on its standard error."""

    def __init__(self, said: str) -> None:
        super().__init__("cut:off")
        self.said = said

    def _client(self, line: str) -> list[str]:
        return ["sh", "-c", 'echo "$0" >&2', self.said]

    def _copy(self, local: Path, remote: str, timeout: float) -> Completed:
        return Completed(1, "", self.said)

    def _lost(self, said: str) -> SetupError:
        return SetupError(f"{self.name} is gone: {said.strip()}.", "Plug it in.")


def ask(host: ShellHost, words: Sequence[str]) -> None:
    host.run(words, 9.0)


def test_a_connection_that_breaks_is_told_by_the_clients_words(tmp_path: Path) -> None:
    host = Cut("the cable fell out")
    with pytest.raises(SetupError, match=r"cut:off is gone: the cable fell out"):
        ask(host, ["true"])
    with pytest.raises(SetupError, match=r"cut:off is gone"):
        list(host.stream(["true"], 9.0))
    (tmp_path / "file").write_text("x")
    with pytest.raises(SetupError, match=r"cut:off is gone"):
        host.push(tmp_path / "file", "/data/file")
