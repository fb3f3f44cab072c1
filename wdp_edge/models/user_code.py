"""A model made by the user's own Python function: the one place that runs code which is not wdp-edge's."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from wdp_edge.errors import InputError

_HERE = Path(__file__).parents[1]
_FORM = "Write it as module:function, such as my_model:make or ./my_model.py:make."
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def made_by(reference: str) -> nn.Module:
    """What the function returns: on the CPU, in float32 and eval mode, without what torch wraps around a model.

    reference: "module:function", of the current folder or installed, or "path/to/file.py:function".
    Raises InputError where there is no such function, where it fails, and where it returns no model.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"--from-python {reference} names no function.", _FORM)
    with _surroundings(place):
        module = _imported(place)
        made = _called(_function(module, place, name), reference)
        return _plain(made, reference)


@contextlib.contextmanager
def _surroundings(place: str) -> Iterator[None]:
    """The folder of the code can be imported from; what code changes for the whole process is taken back afterwards."""
    folder, paths, kind = Path.cwd(), list(sys.path), torch.get_default_dtype()
    device = torch.get_default_device()
    importlib.invalidate_caches()
    sys.path[:0] = [str(Path(place).absolute().parent)] if _is_path(place) else [str(folder)]
    try:
        yield
    finally:
        sys.path[:] = paths
        os.chdir(folder)
        torch.set_default_dtype(kind)
        torch.set_default_device(None if device.type == "cpu" else device)


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place or os.sep in place


def _imported(place: str) -> ModuleType:
    path = Path(place)
    if _is_path(place):
        if not path.is_file():
            raise InputError(f"There is no file {place}.", _FORM)
        if path.suffix != ".py":
            raise InputError(f"{place} is no Python file.", _FORM)
    else:
        _find(place)
    try:
        return _from_file(path) if _is_path(place) else importlib.import_module(place)
    except (Exception, SystemExit) as error:  # whatever the user's code does
        raise _failed(f"Importing {place}", error, _traceback(f"import {path.stem}")) from error


def _find(name: str) -> None:
    """Raises InputError for a module that does not exist; what it imports itself is another matter."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        found = None
    except (Exception, SystemExit) as error:  # of a package above it, which this runs
        raise _failed(f"Importing {name}", error, _traceback(f"import {name}")) from error
    if found is None:
        raise InputError(f"There is no module '{name}', neither in this folder nor installed.", _FORM)


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    # As for any module: dataclasses, for one, look it up. One that is loaded already is left alone.
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _function(module: ModuleType, place: str, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        has = f"It has {', '.join(sorted(own)[:6])}." if own else _FORM
        raise InputError(f"{place} has no function '{name}'.", has)
    return found


def _called(function: Any, reference: str) -> Any:
    if isinstance(function, nn.Module):
        return function
    if not callable(function):
        raise InputError(f"{reference} is no function, but an object of {type(function).__name__}.", _FORM)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if needs := [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]:
        raise InputError(
            f"{reference} needs arguments ({', '.join(needs)}), and is called without any.",
            "Name a function without arguments that calls it with those of your model.",
        )
    return ran(function, reference, _traceback(_code(reference)))


def _traceback(code: str) -> str:
    return f"For the whole traceback: python -c '{code}'"


def _code(reference: str) -> str:
    """The same in Python's words."""
    place, _, name = reference.rpartition(":")
    return f"from {Path(place).stem if _is_path(place) else place} import {name.split('.')[0]}; {name}()"


def ran(call: Callable[[], Any], what: str, hint: str) -> Any:
    """What a call of the user's code returns. what, hint: the beginning of the sentence where it fails, and the next.

    Raises InputError with the last line of the traceback, and the last place in it that is the user's own code.
    """
    try:
        return call()
    except (Exception, SystemExit) as error:  # whatever the user's code does
        raise _failed(what, error, hint) from error


def _failed(what: str, error: BaseException, hint: str) -> InputError:
    if isinstance(error, SystemExit):
        said = "it ended the program (SystemExit), as scripts do that read a command line"
    else:
        said = traceback.format_exception_only(error)[-1].strip().rstrip(".")
    own = [f for f in traceback.extract_tb(error.__traceback__) if _is_own(Path(f.filename))]
    at = f" ({_near(own[-1].filename)}, line {own[-1].lineno})" if own else ""
    if isinstance(error, SyntaxError) and error.filename:
        at = f" ({_near(error.filename)}, line {error.lineno})"
    return InputError(f"{what} failed: {said}{at}.", hint)


def _is_own(path: Path) -> bool:
    """Whether it is the user's, not of a library or of wdp-edge."""
    installed = "site-packages" in path.parts or path.is_relative_to(sys.base_prefix) or path.is_relative_to(_HERE)
    return path.is_file() and not installed


def _near(path: str) -> str:
    found = Path(path)
    return str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)


def _plain(made: Any, reference: str) -> nn.Module:
    if isinstance(made, tuple | list | dict):
        kinds = [type(part).__name__ for part in (made.values() if isinstance(made, dict) else made)]
        raise InputError(
            f"{reference} returns a {type(made).__name__} ({', '.join(kinds[:4])}), not a model.",
            "Return the model alone.",
        )
    if isinstance(made, torch.jit.ScriptModule):
        raise InputError(
            f"{reference} returns TorchScript, whose parts cannot be cut.", "Return the model before that."
        )
    if not isinstance(made, nn.Module):
        what = "nothing: a return is missing" if made is None else f"an object of {type(made).__name__}, not a model"
        raise InputError(f"{reference} returns {what}.", "Return a timm model.")
    while isinstance(made, _WRAPPERS) or hasattr(made, "_orig_mod"):
        made = made.module if isinstance(made, _WRAPPERS) else made._orig_mod  # of torch.compile
    if any(p.is_meta for p in made.parameters()):
        raise InputError(
            f"{reference} returns a model on the device 'meta': it has no weights.", "Return the trained model."
        )
    return made.cpu().float().eval()
