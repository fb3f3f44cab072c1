"""Texts that list whole numbers."""

from __future__ import annotations

from wdp_edge.errors import InputError


def parse_numbers(text: str, things: str, example: str) -> tuple[int, ...]:
    """Parses "4,5"; "" is none. things, example: for the message. Raises InputError for anything else."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise InputError(f"'{text}' are no numbers of {things}.", f"Write them like {example}.") from error


def parse_cpus(text: str) -> tuple[int, ...]:
    """Cores; () is none in particular."""
    return parse_numbers(text, "cores", "4,5")


def parse_blocks(text: str) -> tuple[int, ...]:
    """Blocks that a head reads; () is the last one."""
    return parse_numbers(text, "blocks", "9,10,11,12")
