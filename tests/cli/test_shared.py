"""What every command does around its call: errors, exit codes, one JSON object.

The library's functions are fakes here: every outcome can be had.
"""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
from fake_verbs import MISSED, PRUNED, Fake
from hypothesis import given
from hypothesis import strategies as st
from tiny_project import Cli

from wdp_edge.cli._shared import code_of, parse_arguments, perform
from wdp_edge.errors import InputError, SetupError
from wdp_edge.progress import say, task


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("It is wrong.", "Mend it."), 2),
        (SetupError("It is not here.", "Fetch it."), 2),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2),
        (ZeroDivisionError("oh"), 70),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_say_what_to_do(cli: Cli, fake: Fake, error: BaseException, code: int, as_json: bool) -> None:
    fake("prune", error)
    said = cli("prune", "--latency-budget", "50%", *["--json"] * as_json)
    assert said.code == code
    if as_json:
        assert said.json.keys() == {"error"}
        assert all(said.json["error"][key] for key in ("message", "hint"))
    else:
        assert said.out == ""
        assert "error: " in said.err
        assert "\nhint: " in said.err
    assert ("Traceback" in said.err) == (code == 70)


def test_no_space_left_names_the_file(cli: Cli, fake: Fake) -> None:
    fake("prune", OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    said = cli("prune", "--latency-budget", "50%", "--json")
    assert "No space left" in said.json["error"]["message"]
    assert "/x/y" in said.json["error"]["message"]


def test_a_pattern_that_the_shell_filled_in(cli: Cli) -> None:
    said = cli("init", "--data", "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    assert (said.code, said.out) == (2, "")
    assert "2.jpg and 2 more" in said.err and "in quotes" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prune", "--thread", "2"), "--thread"),
        (("prune", "--threads"), "--threads"),
        (("prune", "--threads", "two"), "--threads"),
        (("prun",), "prun"),
        (("evaluate",), "FILE"),
        (("init",), "--data"),
    ],
)
def test_usage_errors(cli: Cli, words: tuple[str, ...], message: str) -> None:
    said = cli(*words)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert "--help`" in said.err
    said = cli(*words[:1], "--json", *words[1:])
    assert said.code == 2
    assert message in said.json["error"]["message"]
    assert "Traceback" not in said.err


def test_progress_stays_silent_after_the_command(cli: Cli, fake: Fake, capfd: pytest.CaptureFixture[str]) -> None:
    fake("prune", PRUNED)
    cli("prune", "--latency-budget", "50%")
    perform(lambda: PRUNED, lambda result: None, as_json=False)
    with task("Work", 1):
        pass
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_shows_the_result_and_no_progress(capfd: pytest.CaptureFixture[str], quiet: bool) -> None:
    def work() -> str:
        say("Working")
        return "the result"

    perform(work, print, as_json=False, quiet=quiet)
    out, err = capfd.readouterr()
    assert out == "the result\n" and ("Working" in err) != quiet


def test_every_command_can_be_quiet(cli: Cli, fake: Fake) -> None:
    fake("prune", PRUNED)
    assert cli("prune", "--latency-budget", "50%", "--quiet").code == 0


def test_a_file_that_could_not_be_judged_is_no_miss_and_hides_none() -> None:
    good, bad, lost = SimpleNamespace(verified=True), SimpleNamespace(verified=False), object()
    for files, unjudged, code in (([good], [], 0), ([good, bad], [], 1), ([good], [lost], 2), ([bad], [lost], 1)):
        assert code_of(SimpleNamespace(artifacts=files, verified=files == [good], unjudged=unjudged)) == code
    assert code_of(PRUNED) == 0 and code_of(MISSED) == 1


@given(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
def test_a_pair_is_a_key_and_a_value_of_its_type_or_refused(key: str, value: object) -> None:
    try:
        assert parse_arguments([f"{key}={value}"], "--model-arg", "img_size=56") == {key: value}
    except InputError as error:
        assert not key.isidentifier() and "--model-arg" in error.hint
    else:
        assert key.isidentifier()


@pytest.mark.parametrize(("text", "value"), [("(2, 3)", [2, 3]), ("[2, 3]", [2, 3]), ("(2, ", "(2, "), ("{}", "{}")])
def test_lists_are_written_as_python_or_json_does(text: str, value: object) -> None:
    assert parse_arguments([f"key={text}"], "--option", "size=1") == {"key": value}
