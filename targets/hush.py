"""Keeping toolkits quiet, and their bookkeeping off."""

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

    Every pass copies the whole history of every node: a quarter of an export's time, for a record that nobody
    reads.
    """
    from torch.fx.traceback import NodeSource

    own: Any = NodeSource
    own.__deepcopy__ = lambda source, memo: source
    try:
        yield
    finally:
        del own.__deepcopy__


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
