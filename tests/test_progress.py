"""wdp_edge/progress.py: silence until somebody asks, a bar on a terminal, few lines in a log."""

from __future__ import annotations

import contextvars
import io

import pytest

from wdp_edge import progress


def in_own_context(reporter: progress.Reporter) -> None:
    progress.use(reporter)
    progress.say("Working")
    with progress.task("Work", 3) as advance:
        advance(1)
        advance(2)


def test_nothing_is_said_until_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    progress.say("Working")
    with progress.task("Work", 1) as advance:
        advance(1)
    contextvars.copy_context().run(in_own_context, progress.Bars())
    err = capsys.readouterr().err
    assert err.count("Working\n") == 1 and "done in" not in err, "nobody had to wait for it"
    with progress.task("Work", 1):
        pass
    assert capsys.readouterr() == ("", ""), "it was another context's"


def test_a_log_has_a_line_now_and_then_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 30.0, 31.0, 90.0, 100.0])
    monkeypatch.setattr("wdp_edge.progress.time.monotonic", lambda: next(clock))
    with progress.Bars().task("Work", 12) as advance:
        for _ in range(4):
            advance(2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Work: 4/12, 60 s left",  # after 30 s; at 10 s and 31 s a line is too early
        "Work: 8/12, 45 s left",
        "Work: done in 100.0 s",
    ]


class Halfway:
    """FAKE: a course that knows everything."""

    def at(self, stage: str, inside: float) -> progress.Position:
        return progress.Position(2, 5, 0.5, 300.0 - inside, 0.0 if stage == "short" else 100.0)

    def done(self, stage: str, seconds: float) -> None:
        self.last = stage, seconds


def test_a_stage_says_how_far_the_whole_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 1000, 15))
    monkeypatch.setattr("wdp_edge.progress.time.monotonic", lambda: float(next(seconds)))
    course = Halfway()

    def work() -> None:
        progress.use(progress.Bars())
        with progress.follow(course), progress.stage("table"):
            for _ in range(3):
                with progress.task("Work", 4) as advance:
                    advance(1)
                    advance(1)

    contextvars.copy_context().run(work)
    assert capsys.readouterr().err.splitlines() == [
        "[2/5] table: 50% of the run, 5 min left",
        "Work: 2/4, 30 s left (50% of the run, 4 min left)",
        "Work: done in 60.0 s",
        "Work: 2/4, 30 s left (50% of the run, 3 min left)",
        "Work: 2/4, 30 s left (50% of the run, 90 s left)",
    ]
    assert course.last[0] == "table"


def test_a_stage_that_nobody_waits_for_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        progress.use(progress.Bars())
        with progress.follow(Halfway()), progress.stage("short"):
            pass

    contextvars.copy_context().run(work)
    assert capsys.readouterr() == ("", "")


def test_a_stage_of_nothing_that_is_followed_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stage("table"):
        progress.passed("table", 1.0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99.0, "99 s"), (110.0, "2 min"), (5900.0, "98 min"), (7260.0, "2 h 1 min")]
)
def test_times_for_people(seconds: float, words: str) -> None:
    assert progress.span(seconds) == words


def test_a_terminal_has_a_bar_for_the_whole_too() -> None:
    from rich.console import Console

    bars, screen = progress.Bars(), io.StringIO()
    bars.console = Console(file=screen, force_terminal=True, width=100)

    def work() -> None:
        progress.use(bars)
        with progress.follow(Halfway()), progress.stage("table"), progress.task("Work", 4) as advance:
            advance(1)

    contextvars.copy_context().run(work)
    shown = screen.getvalue()
    assert "whole run" in shown and "50%" in shown and "5 min left" in shown and "1/4" in shown


def test_a_task_that_fails_is_not_called_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), progress.Bars().task("Work", 1):
        raise ZeroDivisionError
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar() -> None:
    from rich.console import Console

    bars, screen = progress.Bars(), io.StringIO()
    bars.console = Console(file=screen, force_terminal=True, width=100)
    with bars.task("Work [b]", 4) as advance:
        advance(3)
    shown = screen.getvalue()
    assert "Work [b]" in shown and "3/4" in shown and "done in" not in shown
