"""What a user is told while something runs."""

from __future__ import annotations

from wdp_edge import progress


class Heard(progress.Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)
