"""wdp_edge/devices/hosts/host.py: paths, machines, and processes that end in time."""

from __future__ import annotations

import os
import secrets
import shlex
import signal

import pytest
from host_contract import runs_somewhere
from hypothesis import example, given
from hypothesis import strategies as st
from real_sshd import wait_until

from wdp_edge.devices.hosts.host import Completed, arch_of, check_path, demand, run_process, stream_process
from wdp_edge.errors import SetupError


@given(st.text(max_size=60))
@example("/")
@example("//x")
@example("/..")
@example("/a/./b")
@example("/a/")
@example("/-rf")
def test_a_path_is_absolute_plain_and_goes_down_only(text: str) -> None:
    try:
        path = check_path(text)
    except SetupError:
        return
    assert path == text == os.path.normpath(path) and path.startswith("/")
    assert shlex.quote(path) == path or "=" in path
    assert not any(part.startswith("-") for part in path.split("/"))


@given(st.lists(st.from_regex(r"\.?[A-Za-z0-9_][A-Za-z0-9_.+@=-]*", fullmatch=True), min_size=1, max_size=4))
def test_ordinary_paths_are_taken(parts: list[str]) -> None:
    assert check_path("/" + "/".join(parts)) == "/" + "/".join(parts)


def test_machines_by_their_names() -> None:
    assert (arch_of("arm64", "x"), arch_of("amd64", "x"), arch_of("aarch64", "x")) == ("aarch64", "x86_64", "aarch64")
    with pytest.raises(SetupError, match="ssh:pi is a armv7l machine"):
        arch_of("armv7l", "ssh:pi")


def test_reasons_of_failures() -> None:
    assert demand(Completed(0, "x", ""), "ssh:pi", "mv").out == "x"
    with pytest.raises(SetupError, match=r"mv failed on ssh:pi \(exit code 2\)"):
        demand(Completed(2, "", " \n"), "ssh:pi", "mv")
    with pytest.raises(SetupError, match="No space is left on ssh:pi"):
        demand(Completed(1, "", "mkdir: x: No space left on device"), "ssh:pi", "mkdir")


def test_a_missing_program_is_named_with_the_way_to_install_it() -> None:
    with pytest.raises(SetupError, match=r"Cannot start no-such-program: No such file.*doctor"):
        run_process(["no-such-program"], "it", 1.0)


def test_a_timeout_ends_the_whole_group() -> None:
    number = f"9{secrets.randbelow(10**6):06}"
    with pytest.raises(SetupError, match="both hung"):
        run_process(["sh", "-c", f"sleep {number} & sleep {number}"], "both", 0.5)
    wait_until(lambda: not runs_somewhere(f"sleep {number}"))


def test_a_process_that_never_stops_talking_times_out_too() -> None:
    with pytest.raises(SetupError, match=r"yes hung|does not stop writing"):
        run_process(["yes"], "yes", 0.5)
    with pytest.raises(SetupError, match="line without end"):
        list(stream_process(["cat", "/dev/zero"], "cat", 5.0))


def test_a_child_that_keeps_the_pipes_is_not_waited_for() -> None:
    done = run_process(["sh", "-c", "sleep 500 & echo $!"], "server", 50.0)
    os.kill(int(done.out), signal.SIGKILL)  # it was left running
    assert (done.code, done.err) == (0, "")


def test_closed_pipes_do_not_mean_the_end() -> None:
    with pytest.raises(SetupError, match="quiet hung"):
        run_process(["sh", "-c", "exec >&- 2>&-; sleep 50"], "quiet", 0.5)


def test_signals_count_as_a_shell_counts_them() -> None:
    assert run_process(["sh", "-c", "kill -15 $$"], "it", 9.0).code == 128 + 15


def test_a_last_line_without_an_end_is_apart() -> None:
    lines = stream_process(["printf", "a\nb"], "it", 9.0)
    assert next(lines) == "a"
    with pytest.raises(StopIteration) as ended:
        next(lines)
    assert ended.value.value.out == "b"
