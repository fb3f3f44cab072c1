"""What every host must do, as tests: a subclass gives a real `host`."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import pytest
from real_sshd import wait_until

from wdp_edge.devices.hosts.host import Host
from wdp_edge.errors import SetupError

SECONDS = 60.0


def runs_somewhere(words: str) -> bool:
    """Whether a process with `words` among its arguments runs on this machine, on which the test devices are too."""
    found = subprocess.run(["pgrep", "-f", "--", words], capture_output=True, text=True, check=False)
    return bool(found.stdout.split())


class HostContract:
    def test_commands_tell_code_and_both_streams(self, host: Host) -> None:
        done = host.run(["sh", "-c", "echo out; echo err >&2; exit 7"], SECONDS)
        assert (done.code, done.out, done.err) == (7, "out\n", "err\n")

    @pytest.mark.parametrize("code", [0, 1, 255])
    def test_codes_that_the_clients_use_themselves_are_told_apart(self, host: Host, code: int) -> None:
        assert host.run(["sh", "-c", f"exit {code}"], SECONDS).code == code

    def test_arguments_arrive_as_they_are(self, host: Host) -> None:
        arguments = [
            "",
            " ",
            "a b",
            "$HOME",
            "`id`",
            "'",
            '"',
            "\\",
            "\\n",
            "*",
            "!x",
            "ü",
            "-n",
            "a\nb",
            ";exit 3",
            "~",
        ]
        done = host.run(["sh", "-c", 'for a in "$@"; do printf "%s|" "$a"; done', "sh", *arguments], SECONDS)
        assert (done.code, done.out) == (0, "".join(f"{a}|" for a in arguments))

    def test_a_command_gets_no_input(self, host: Host) -> None:
        assert host.run(["cat"], SECONDS).out == ""

    def test_a_missing_command_has_the_code_of_a_shell(self, host: Host) -> None:
        assert host.run(["no-such-command"], SECONDS).code == 127

    def test_lines_come_while_the_command_runs(self, host: Host) -> None:
        # It ends only when it is told that its first line has arrived.
        flag = f"{host.workdir()}/{secrets.token_hex(8)}"
        script = 'echo first; while ! [ -e "$0" ]; do sleep 0.1; done; echo second; rm "$0"'
        lines = host.stream(["sh", "-c", script, flag], SECONDS)
        assert next(lines) == "first"
        host.run(["mkdir", "-p", host.workdir()], SECONDS)
        host.run(["sh", "-c", 'echo >"$0"', flag], SECONDS)
        assert list(lines) == ["second"]

    def test_a_stream_that_ends_badly_raises_after_its_last_line(self, host: Host) -> None:
        seen = []
        with pytest.raises(SetupError, match="exit code 3, last words: no good") as caught:
            for line in host.stream(["sh", "-c", "echo one; echo two; echo no good >&2; exit 3"], SECONDS):
                seen.append(line)
        assert seen == ["one", "two"]
        assert host.name in caught.value.message

    def test_the_last_line_needs_no_end(self, host: Host) -> None:
        assert list(host.stream(["printf", "a\\nb"], SECONDS)) == ["a", "b"]

    def test_a_line_that_a_killed_command_cut_short_is_none(self, host: Host) -> None:
        seen = []
        with pytest.raises(SetupError, match="signal 9"):
            for line in host.stream(["sh", "-c", "echo whole; printf '{\"half'; kill -9 $$"], SECONDS):
                seen.append(line)
        assert seen == ["whole"]

    def test_a_killed_command_is_told_from_a_lost_device(self, host: Host) -> None:
        with pytest.raises(SetupError, match="signal 9"):
            list(host.stream(["sh", "-c", "kill -9 $$"], SECONDS))
        assert host.run(["true"], SECONDS).code == 0

    def test_a_hung_command_is_ended_on_the_device_too(self, host: Host) -> None:
        words = f"sleep 8{secrets.randbelow(10**6):06}"
        with pytest.raises(SetupError, match=r"sleep on .* hung \(not done after 1 s\)"):
            host.run(words.split(), 1.0)
        wait_until(lambda: not runs_somewhere(words))
        with pytest.raises(SetupError, match=r"sleep on .* hung \(silent for 1 s\)"):
            list(host.stream(words.split(), 1.0))
        wait_until(lambda: not runs_somewhere(words))

    def test_a_stream_nobody_reads_on_is_ended(self, host: Host) -> None:
        number = f"7{secrets.randbelow(10**6):06}"
        lines = host.stream(["sh", "-c", f"echo up; exec sleep {number}"], SECONDS)
        assert next(lines) == "up"
        wait_until(lambda: runs_somewhere(f"sleep {number}"))
        lines.close()
        wait_until(lambda: not runs_somewhere(f"sleep {number}"))

    def test_the_work_folder_is_private_and_stays(self, host: Host) -> None:
        folder = host.workdir()
        assert host.run(["sh", "-c", 'ls -ld "$0"', folder], SECONDS).out.startswith("drwx------")
        assert host.workdir() == folder

    def test_files_and_folders_go_there_whole(self, host: Host, tmp_path: Path) -> None:
        source = tmp_path / "bundle"
        (source / "inner").mkdir(parents=True)
        (source / "run").write_text("#!/bin/sh\necho ran $1\n")
        (source / "run").chmod(0o755)
        (source / "inner" / "data").write_bytes(bytes(range(256)) * 300)
        place = f"{host.workdir()}/{secrets.token_hex(8)}"
        host.push(source, place)
        host.push(source / "inner" / "data", f"{place}.file")
        assert host.run([f"{place}/run", "well"], SECONDS).out == "ran well\n"
        sent = subprocess.run(["cksum", source / "inner" / "data"], capture_output=True, text=True, check=True).stdout
        for remote in (f"{place}/inner/data", f"{place}.file"):
            assert host.run(["cksum", remote], SECONDS).out.split()[:2] == sent.split()[:2]
        assert host.run(["rm", "-rf", place, f"{place}.file"], SECONDS).code == 0

    def test_what_cannot_be_copied_is_one_sentence(self, host: Host, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(SetupError):
            host.push(tmp_path / "file", "/proc/no/such/folder")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    @pytest.mark.parametrize("path", ["relative", "/a/../b", "/a b", "/a;b", "/$HOME", "/a\nb", ""])
    def test_paths_that_could_mean_more_are_refused(self, host: Host, path: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(SetupError, match="cannot be a folder or file"):
            host.push(tmp_path / "file", path)

    def test_the_architecture_has_runners(self, host: Host) -> None:
        assert host.arch() in ("x86_64", "aarch64")
