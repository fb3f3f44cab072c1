"""Texts of files and devices on the terminal: shown, never obeyed."""

from __future__ import annotations

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
