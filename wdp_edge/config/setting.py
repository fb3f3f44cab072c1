"""A field of a recipe, with all that is said of it anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field
from typing import Any

LARGEST = 2**63 - 1  # the largest whole number of TOML


def setting(
    doc: str,
    default: Any,
    flag: str = "",
    path: bool = False,
    words: tuple[str, ...] = (),
    choices: Callable[[], Iterable[str]] | None = None,
    form: Callable[[Any], object] | None = None,
    several: str = "",
    **limits: float,
) -> Any:
    """A field of the recipe, and all that is said of it: in wdp-edge.toml, by --help, in docs/reference and in errors.

    flag: of the command line, with what it takes: "--threads=N". path: the text is one, unless it is one of `words`.
    choices: the texts that it may be. form: reads a text, or gives a table as it is kept, and raises InputError for
    what it cannot be; an empty one is not asked. several: an example of a list with commas, each of which gets a run of
    its own. limits: gt, ge, lt and le, in pydantic's words; otherwise from 0 on.
    """
    rules: dict[str, Any] = dict(limits)
    if type(default) in (int, float) and not limits.keys() & {"gt", "ge"}:
        rules["ge"] = 0
    if type(default) is int and not limits.keys() & {"lt", "le"}:
        rules["le"] = LARGEST
    if type(default) is float:
        rules["allow_inf_nan"] = False
    facts = {"doc": doc, "flag": flag, "path": path, "words": words, "choices": choices, "form": form}
    facts |= {"several": several}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=facts | rules)
    return field(default=default, metadata=facts | rules)


def meaning_of(setting: Field[Any]) -> str:
    """What the recipe says of a setting."""
    doc, several = setting.metadata["doc"], setting.metadata["several"]
    return f"{doc}; several get a run each: {several}" if several else f"{doc}"
