"""Progress on stderr with time left, for whoever wants to see it; the library itself is silent by default."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Protocol

from wdp_edge.errors import printable

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Shows work in progress."""

    def task(self, title: str, total: int) -> contextlib.AbstractContextManager[Advance]: ...

    def say(self, text: str) -> None: ...


class Silent:
    """Shows nothing: what a library should do until asked."""

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        yield lambda done: None

    def say(self, text: str) -> None:
        return


class Bars:
    """Progress bars with time left on a terminal; in a log, one line when a task ends and one every 20 s."""

    LOG_SECONDS = 20.0

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(printable(text), highlight=False, markup=False, emoji=False)

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        title = printable(title)
        with self._bar(title, total) if self.console.is_terminal else self._lines(title, total) as advance:
            yield advance

    @contextlib.contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Advance]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Left

        columns = (
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            Left(),
        )
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task(title, total=total)
            yield lambda done: progress.update(bar, advance=done)

    @contextlib.contextmanager
    def _lines(self, title: str, total: int) -> Iterator[Advance]:
        start = last = time.monotonic()
        finished = 0

        def advance(done: int) -> None:
            nonlocal finished, last
            finished += done
            now = time.monotonic()
            if now - last >= self.LOG_SECONDS and finished:
                last = now
                left = (now - start) / finished * (total - finished)
                print(f"{title}: {finished}/{total}, {left:.0f} s left", file=sys.stderr, flush=True)

        yield advance
        print(f"{title}: done in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


_SILENT: Reporter = Silent()
_reporter: ContextVar[Reporter] = ContextVar("reporter", default=_SILENT)


def use(reporter: Reporter) -> None:
    """Shows the progress of everything that follows in this context."""
    _reporter.set(reporter)


def task(title: str, total: int) -> contextlib.AbstractContextManager[Advance]:
    """A piece of work of `total` steps: `with task("table", 10) as advance: ...; advance(1)`."""
    return _reporter.get().task(title, total)


def say(text: str) -> None:
    """One line about what happens now."""
    _reporter.get().say(text)
