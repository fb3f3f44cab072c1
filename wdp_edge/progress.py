"""Progress on stderr with time left, for whoever wants to see it; the library itself is silent by default."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from wdp_edge.errors import printable

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Position:
    """Where a whole of several stages is: the stage's place from 1, how many there are, the share of the time that has
    passed, and seconds that are left, of the whole and of the stage."""

    number: int
    count: int
    share: float
    left: float
    stage_left: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the run, {span(self.left)} left"


class Course(Protocol):
    """What is known of the time that a whole will take."""

    def at(self, stage: str, inside: float) -> Position:
        """inside: seconds that the stage has run."""
        ...

    def done(self, stage: str, seconds: float) -> None: ...


def span(seconds: float) -> str:
    """A time for people: 40 s, 4 min, 1 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Reporter(Protocol):
    """Shows work in progress."""

    def stage(self, title: str, place: Position) -> None: ...

    def task(self, title: str, total: int) -> contextlib.AbstractContextManager[Advance]: ...

    def say(self, text: str) -> None: ...


class Silent:
    """Shows nothing: what a library should do until asked."""

    def stage(self, title: str, place: Position) -> None:
        return

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        yield lambda done: None

    def say(self, text: str) -> None:
        return


class Bars:
    """Progress bars with time left on a terminal, of the whole and of the task at hand; in a log, a line when a stage
    begins, one when a task ends that people had to wait for, and one every 20 s.

    In a stage a task that was there before gets no further lines at its ends.
    """

    LOG_SECONDS = 20.0
    WAITED = 2.0

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, soft_wrap=True)
        self._ended: set[str] = set()

    def say(self, text: str) -> None:
        self.console.print(printable(text), highlight=False, markup=False, emoji=False)

    def stage(self, title: str, place: Position) -> None:
        self._ended.clear()
        if place.stage_left >= self.WAITED:
            self.say(f"[{place.number}/{place.count}] {title}: {place}")

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        title, where = printable(title), _place.get()
        shown = self._bar if self.console.is_terminal else self._lines
        with shown(title, total, where) as advance:
            yield advance

    @contextlib.contextmanager
    def _bar(self, title: str, total: int, where: Where | None) -> Iterator[Advance]:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[steps]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        with Progress(*columns, console=self.console) as progress:
            whole = progress.add_task("whole run", total=1.0, steps="", left="") if where else None
            bar = progress.add_task(title, total=total, steps=f"0/{total}", left="")

            def show(done: int) -> None:
                progress.update(bar, advance=done)
                task = next(t for t in progress.tasks if t.id == bar)
                left = "" if task.time_remaining is None else f"{span(task.time_remaining)} left"
                progress.update(bar, steps=f"{task.completed:.0f}/{total}", left=left)
                if whole is not None and where is not None:
                    place = where()
                    progress.update(
                        whole, completed=place.share, steps=f"{place.share:.0%}", left=f"{span(place.left)} left"
                    )

            show(0)
            yield show

    @contextlib.contextmanager
    def _lines(self, title: str, total: int, where: Where | None) -> Iterator[Advance]:
        start = last = time.monotonic()
        finished = 0

        def advance(done: int) -> None:
            nonlocal finished, last
            finished += done
            now = time.monotonic()
            if now - last >= self.LOG_SECONDS and finished:
                last = now
                left = (now - start) / finished * (total - finished)
                whole = f" ({where()})" if where else ""
                print(f"{title}: {finished}/{total}, {span(left)} left{whole}", file=sys.stderr, flush=True)

        yield advance
        taken = time.monotonic() - start
        if taken >= self.WAITED and title not in self._ended:
            print(f"{title}: done in {taken:.1f} s", file=sys.stderr, flush=True)
            if where:
                self._ended.add(title)


Where = Callable[[], Position]
_SILENT: Reporter = Silent()
_reporter: ContextVar[Reporter] = ContextVar("reporter", default=_SILENT)
_course: ContextVar[Course | None] = ContextVar("course", default=None)
_place: ContextVar[Where | None] = ContextVar("place", default=None)


def use(reporter: Reporter) -> None:
    """Shows the progress of everything that follows in this context."""
    _reporter.set(reporter)


def task(title: str, total: int) -> contextlib.AbstractContextManager[Advance]:
    """A piece of work of `total` steps: `with task("table", 10) as advance: ...; advance(1)`."""
    return _reporter.get().task(title, total)


def say(text: str) -> None:
    """One line about what happens now."""
    _reporter.get().say(text)


@contextlib.contextmanager
def follow(course: Course) -> Iterator[None]:
    """Shows every `stage` inside as part of a whole."""
    token = _course.set(course)
    try:
        yield
    finally:
        _course.reset(token)


def passed(name: str, seconds: float) -> None:
    """A stage of the whole that is done already, and took so long."""
    if (course := _course.get()) is not None:
        course.done(name, seconds)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """A stage of the whole that is followed; nothing where none is."""
    course, began = _course.get(), time.monotonic()
    if course is None:
        yield
        return
    token = _place.set(lambda: course.at(name, time.monotonic() - began))
    try:
        _reporter.get().stage(name, course.at(name, 0.0))
        yield
    finally:
        _place.reset(token)
    course.done(name, time.monotonic() - began)
