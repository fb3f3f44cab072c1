"""The one exception family: what is wrong, where, and what to do about it. What it quotes is shown, never obeyed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

# What a person reads as a space or joins letters with; Python calls some of it not printable.
_HARMLESS = {"\u00a0", "\u202f", "\u2009", "\u3000", "\u200c", "\u200d"}


def printable(text: str, lines: bool = False) -> str:
    """`text` without characters that move the cursor, colour, clear, or turn the direction: they become \\x1b and such.

    lines: line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS or (lines and c in "\n\t") else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class WdpError(Exception):
    """An error that the user can fix.

    message: one sentence that says what is wrong and where.
    hint: one sentence that says what to do, by any command or none.
    options: for options of the command line, such as "--out", the hint that a command which has the option gives
    instead; the first one that it has counts.
    All of them quote files and devices, so control characters in them are escaped, as `printable` does it.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str, options: Mapping[str, str] | None = None) -> None:
        self.message = printable(message)
        self.hint = printable(hint)
        self.options = {option: printable(other) for option, other in (options or {}).items()}
        super().__init__(f"{self.message} {self.hint}")

    def hint_for(self, available: Collection[str]) -> str:
        """The hint of a command that has these options."""
        return next((hint for option, hint in self.options.items() if option in available), self.hint)


class InputError(WdpError):
    """A file, a value or a combination of them that the user gave is wrong."""


class UnreachableBudget(InputError):
    """No structure of the model is as fast as the budget asks."""


class SetupError(WdpError):
    """The machine lacks something: a package, space, a permission, a device."""
