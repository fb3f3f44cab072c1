"""Keeps toolkits quiet, and turns their bookkeeping off."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps warnings, log lines below ERROR and prints of the toolkits off stdout and stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def silent_stderr() -> Iterator[Any]:
    """Catches what C++ writes to stderr; gives a function that returns it as text."""
    with tempfile.TemporaryFile() as caught:
        saved = os.dup(2)
        os.dup2(caught.fileno(), 2)

        def said() -> str:
            caught.seek(0)
            return caught.read().decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextlib.contextmanager
def cheap_provenance() -> Iterator[None]:
    """Shares the record of where a graph node came from instead of copying it.

    Every pass copies the whole history of every node: a quarter of an export's time, for a record that is
    never read.
    """
    from torch.fx.traceback import NodeSource

    own: Any = NodeSource
    own.__deepcopy__ = lambda source, memo: source
    try:
        yield
    finally:
        del own.__deepcopy__


@contextlib.contextmanager
def deferred_code() -> Iterator[None]:
    """Writes a graph's Python code only when it is called or read.

    Every pass writes and compiles the code of the whole graph, and of tens of thousands of lines only a handful ever
    run: a fifth of an export's time. A module made inside still writes its code when it is called outside. After
    `torch.fx._lazy_graph_module`, which only serves modules of its own class.
    """
    from torch.fx import GraphModule
    from torch.fx.graph import _PyTreeCodeGen

    own: Any = GraphModule
    before = {name: vars(own)[name] for name in ("recompile", "code", "__str__")}
    write: Any = before["recompile"]

    def put_off(module: Any) -> None:
        codegen = module.graph._codegen
        if isinstance(codegen, _PyTreeCodeGen):
            module._in_spec, module._out_spec = codegen.pytree_info.in_spec, codegen.pytree_info.out_spec

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            write(self)
            return self(*args, **kwargs)

        forward.unwritten = True  # type: ignore[attr-defined]
        type(module).forward = forward

    def code(module: Any) -> str:
        if getattr(type(module).forward, "unwritten", False):
            write(module)
        return before["code"].fget(module)

    own.recompile, own.code = put_off, property(code)
    # Debug messages hold whole graphs as text, whether anybody reads them or not.
    own.__str__ = lambda module: type(module).__name__
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(own, name, value)


@contextlib.contextmanager
def paused_collection() -> Iterator[None]:
    """Puts off the search for reference cycles.

    Graphs of many small objects trigger it all the time: a sixth of an export, for 100 MB more at its peak.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
