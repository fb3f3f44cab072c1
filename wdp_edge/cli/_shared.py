"""What every command does around its call: progress, one JSON object or a table, errors, exit codes."""

from __future__ import annotations

import ast
import contextlib
import contextvars
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from wdp_edge import progress
from wdp_edge.errors import InputError, WdpError, printable
from wdp_edge.io.files import to_plain
from wdp_edge.io.native_output import stdout_to
from wdp_edge.workers.failures import mendable
from wdp_edge.workers.parallel import world

MET, MISSED, WRONG_INPUT, DEFECT, INTERRUPTED = 0, 1, 2, 70, 130

Result = TypeVar("Result")
_own_options: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("own_options", default=frozenset())


def perform(call: Callable[[], Result], show: Callable[[Result], None], as_json: bool, quiet: bool = False) -> int:
    """Calls the library, prints what it returns, and gives the exit code.

    as_json: standard output carries one JSON object, the result or the error, and nothing else.
    Of several processes the first one speaks; the others say what went wrong with them, on standard error.
    Progress is shown until it returns, unless quiet: whoever called it is as silent afterwards as before.
    """
    return contextvars.copy_context().run(_perform, call, show, as_json, quiet)


def _perform(call: Callable[[], Result], show: Callable[[Result], None], as_json: bool, quiet: bool) -> int:
    if world().leads and not quiet:
        progress.use(progress.Bars())
    try:
        with clean_stdout() if as_json else contextlib.nullcontext():
            result = call()
    except WdpError as error:
        return fail(error.message, error.hint_for(own_options()), as_json)
    except KeyboardInterrupt:
        return fail("Interrupted.", "The same command goes on where this one stopped.", as_json, INTERRUPTED)
    except Exception as error:
        return _unexpected(error, as_json)
    if world().leads:
        print_json(result) if as_json else show(result)
        for warning in getattr(result, "warnings", ()):
            print(printable(f"warning: {warning}"), file=sys.stderr)
    return code_of(result)


def code_of(result: Any) -> int:
    """0, or 1 where a budget is missed or a file is too far from its model, or 2 where one only could not be judged."""
    judged = [file.verified for file in getattr(result, "artifacts", ())]
    judged += [budget.met for budget in getattr(result, "budgets", ())]
    budget = getattr(result, "budget", None)
    kept = (budget is None or budget.met) and getattr(result, "verified", True) and getattr(result, "met", True)
    if getattr(result, "unjudged", None) and all(judged):
        return WRONG_INPUT
    return MET if kept else MISSED


def fail(message: str, hint: str, as_json: bool, code: int = WRONG_INPUT) -> int:
    """Says what is wrong and what to do about it."""
    message, hint = printable(message), printable(hint)
    if as_json and world().leads:
        print_json({"error": {"message": message, "hint": hint}})
    else:
        print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return code


def own_options() -> frozenset[str]:
    """The options of the command that is being run; none outside of one."""
    return _own_options.get()


def begin(command: Any) -> None:
    """Says which command is run, for hints that name its options."""
    _own_options.set(frozenset(option for parameter in command.params for option in parameter.opts))


def print_json(data: Any) -> None:
    """One object; its version, if it has one, comes first."""
    plain = to_plain(data)
    head = {key: plain[key] for key in ("version",) if key in plain}
    print(json.dumps(head | plain, indent=2), flush=True)


def _unexpected(error: Exception, as_json: bool) -> int:
    """What the user can mend, such as a full disk, is said; anything else is a defect, with its traceback."""
    if isinstance(error, BrokenPipeError):
        raise error
    if (known := mendable(error)) is not None:
        return fail(known.message, known.hint_for(own_options()), as_json)
    print(printable("".join(traceback.format_exception(error)), lines=True), end="", file=sys.stderr)
    return fail(
        f"wdp-edge failed: {type(error).__name__}: {error}.",
        "This is a defect: please report it with the traceback above.",
        as_json,
        DEFECT,
    )


@contextlib.contextmanager
def clean_stdout() -> Iterator[None]:
    """Whatever is printed meanwhile, by Python or by native code, goes to standard error."""
    with stdout_to(2), contextlib.redirect_stdout(sys.stderr):
        yield


def parse_arguments(pairs: Sequence[str], option: str, example: str) -> dict[str, Any]:
    """KEY=VALUE texts as keyword arguments: numbers, true/false, lists in brackets, else texts.

    Raises InputError for a text without a key.
    """
    return dict(_argument(pair, option, example) for pair in pairs)


def _argument(pair: str, option: str, example: str) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    if not equals or not key.isidentifier():
        raise InputError(f"{option} {pair} is not KEY=VALUE.", f"Write it like {option} {example}.")
    return key, _literal(text)


def _literal(text: str) -> Any:
    """A number, a truth value or a list as JSON or Python writes it; anything else stays a text."""
    if text in ("True", "False"):
        return text == "True"
    if text.startswith("("):
        with contextlib.suppress(ValueError, SyntaxError):
            return list(ast.literal_eval(text))
    try:
        value = json.loads(text, parse_constant=lambda name: name)
    except ValueError:
        return text
    return value if isinstance(value, int | float | list) else text
