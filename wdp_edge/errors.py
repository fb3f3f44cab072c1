"""The one exception family: what is wrong, where, and what to do about it."""

from __future__ import annotations


class WdpError(Exception):
    """An error the user can mend.

    message: one sentence that says what is wrong and where.
    hint: one sentence that says what to do.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


class InputError(WdpError):
    """A file, a value or a combination of them that the user gave is wrong."""


class SetupError(WdpError):
    """The machine lacks something: a package, space, a permission, a device."""
