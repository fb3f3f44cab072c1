"""Nothing that a file or a device says moves the cursor, colours, or breaks out of its line."""

from __future__ import annotations

import json

import pytest

from wdp_edge.cli._print import print_line, print_table
from wdp_edge.cli._shared import fail, perform
from wdp_edge.errors import InputError, printable
from wdp_edge.progress import Bars

HOSTILE = "cat\x1b[2J\x1b]0;title\x07\rdog\x00\x9b31m\u202egnp\u2028[bold]\ud800"
SHOWN = r"cat\x1b[2J\x1b]0;title\x07\rdog\x00\x9b31m\u202egnp\u2028[bold]\ud800"


def test_controls_are_shown_and_letters_stay() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable("a\nb") == r"a\nb" and printable("a\nb", lines=True) == "a\nb"
    for text in ("Zürich 東京 → 3 ms", "5\u00a0ms", "नी\u200d"):
        assert printable(text) == text


def test_whatever_is_printed_goes_through_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bars, "WAITED", 0.0)
    fail(HOSTILE, HOSTILE, as_json=False)
    print_line(HOSTILE)
    print_table(HOSTILE, ("name", ""), [(HOSTILE, HOSTILE)])
    bars = Bars()
    bars.say(HOSTILE)
    with bars.task(HOSTILE, 1) as advance:
        advance(1)
    out, err = capsys.readouterr()
    assert err.count(SHOWN) == 4, err
    assert "[bold]" in out and out.replace("\n", "").isprintable() and err.replace("\n", "").isprintable()


def test_json_escapes_by_itself_and_what_is_read_from_it_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    fail(HOSTILE, HOSTILE, as_json=True)
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert json.loads(out) == {"error": {"message": SHOWN, "hint": SHOWN}}


def test_an_error_of_ours_cannot_carry_controls() -> None:
    error = InputError(HOSTILE, HOSTILE, {"--out": HOSTILE})
    assert error.message == error.hint == error.hint_for(["--out"]) == SHOWN and str(error) == f"{SHOWN} {SHOWN}"


def test_nor_can_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def call() -> None:
        raise ZeroDivisionError(HOSTILE)

    assert perform(call, lambda result: None, as_json=False) == 70
    err = capsys.readouterr().err
    assert err.count(SHOWN) == 2 and err.replace("\n", "").isprintable()
