"""Commands made from functions: the options that set something in a recipe come from the setting itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from wdp_edge.cli._shared import parse_arguments, perform
from wdp_edge.config.setting import meaning_of
from wdp_edge.config.validation import setting_of
from wdp_edge.errors import InputError

_EXAMPLES = {"model.args": "img_size=56", "data.preprocess": "mean=0.5"}


def option(flag: str, help: str) -> Any:
    """flag: with what it takes, if anything: "--threads=N"."""
    name, _, metavar = flag.partition("=")
    return typer.Option(name, metavar=metavar or None, help=help)


def argument(metavar: str, help: str) -> Any:
    return typer.Argument(metavar=metavar, help=help, show_default=False)


Run = Annotated[Path | None, argument("[RUN]", "A run folder; default: the latest one.")]
Unit = Annotated[str | None, option("--unit=UNIT", "What computes it: cpu, gpu, or Apple's all, cpu+gpu, cpu+ne.")]
Json = Annotated[bool, option("--json", "Print one JSON object on standard output, nothing else.")]
Quiet = Annotated[bool, option("--quiet", "Show no progress: only the result, warnings and errors.")]


@dataclass(frozen=True)
class Given:
    """What the command line says of settings, by dotted key, and what messages call every one that it could set."""

    settings: dict[str, Any]
    names: dict[str, str]

    def arguments(self, table: str) -> dict[str, Any]:
        """Those of a table of free arguments, such as "model.args", by name."""
        return {key.removeprefix(f"{table}."): v for key, v in self.settings.items() if key.startswith(f"{table}.")}


def command(
    show: Callable[[Any], None], *settings: str, lists: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., int]]:
    """Makes a command of a function, with --quiet and --json: what it returns is shown, and an exit code comes out.

    settings: dotted keys of those that get an option each; the function takes what is given of them first, as `Given`.
    lists: whether settings that may name several may do so here.
    """

    def made(function: Callable[..., Any]) -> Callable[..., int]:
        function.__annotations__.pop("return", None)  # typer would look for its type, which is imported for types only
        own = list(inspect.signature(function, eval_str=True).parameters.values())[bool(settings) :]
        options = [_option(dotted, lists) for dotted in settings]
        manners = [_switch("quiet", Quiet), _switch("as_json", Json)]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*options, *own, *manners)]

        @functools.wraps(function)
        def run(quiet: bool, as_json: bool, **values: Any) -> int:
            said = {dotted: values.pop(_variable(dotted)) for dotted in settings}

            def call() -> Any:
                return function(*([_given(said, lists)] if settings else []), **values)

            return perform(call, show, as_json, quiet)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return made


def _switch(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _option(dotted: str, lists: bool) -> inspect.Parameter:
    """A setting as an option of a command."""
    facts, default = setting_of(dotted).metadata, setting_of(dotted).default
    kind: Any = Path if facts["path"] else type(default) if isinstance(default, int | float | str) else list[str]
    doc = (meaning_of(setting_of(dotted)) if lists else facts["doc"]) + ("; repeatable" if kind == list[str] else "")
    name, _, metavar = facts["flag"].partition("=")
    unset: Any = False if kind is bool else None
    taken = typer.Option(unset, name, metavar=metavar or None, help=f"{doc[0].upper()}{doc[1:]}.")
    annotation = kind if kind is bool else kind | None
    return inspect.Parameter(_variable(dotted), inspect.Parameter.KEYWORD_ONLY, default=taken, annotation=annotation)


def _variable(dotted: str) -> str:
    return dotted.replace(".", "_")


def _given(said: Mapping[str, Any], lists: bool) -> Given:
    """Raises InputError for an argument that is not KEY=VALUE, and for several where there can be one."""
    names = {dotted: setting_of(dotted).metadata["flag"].partition("=")[0] for dotted in said}
    given: dict[str, Any] = {}
    for dotted, value in said.items():
        if isinstance(value, list):
            read = parse_arguments(value, names[dotted], _EXAMPLES[dotted])
            given |= {f"{dotted}.{key}": argument for key, argument in read.items()}
        elif not lists and isinstance(value, str) and "," in value and setting_of(dotted).metadata["several"]:
            raise InputError(f"{names[dotted]} takes one here, not {value}.", "Give the command once for each.")
        elif value is not None and value is not False:
            given[dotted] = str(value) if isinstance(value, Path) else value
    return Given(given, names)
