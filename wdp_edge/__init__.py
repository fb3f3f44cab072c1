"""Prunes a trained Vision Transformer until it meets a latency budget measured on a device, and proves it.

Every command of `wdp-edge` has a twin here that takes plain values and returns a typed result:

    import wdp_edge

    recipe = wdp_edge.load_recipe("wdp-edge.toml")
    result = wdp_edge.prune(recipe)                    # -> PruneResult
    model = wdp_edge.load(result.run / "model")        # -> a plain timm module

Importing this module imports neither torch nor any target's runtime; the first use of a function does.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wdp_edge.models.files import load
    from wdp_edge.pipeline.check import check
    from wdp_edge.pipeline.doctor import doctor
    from wdp_edge.pipeline.evaluate import evaluate
    from wdp_edge.pipeline.export import export
    from wdp_edge.pipeline.import_dataset import import_dataset
    from wdp_edge.pipeline.inspect import inspect
    from wdp_edge.pipeline.models import describe_model, known_models
    from wdp_edge.pipeline.profile import profile
    from wdp_edge.pipeline.prune import prune
    from wdp_edge.pipeline.set_up import set_up
    from wdp_edge.pipeline.source import dense_run
    from wdp_edge.pipeline.table import table
    from wdp_edge.pipeline.verify import verify
    from wdp_edge.project import init
    from wdp_edge.recipe import Recipe
    from wdp_edge.recipe_file import load_recipe
    from wdp_edge.report import report

    __version__: str

_HOMES = {
    "Recipe": "wdp_edge.recipe",
    "check": "wdp_edge.pipeline.check",
    "describe_model": "wdp_edge.pipeline.models",
    "doctor": "wdp_edge.pipeline.doctor",
    "dense_run": "wdp_edge.pipeline.source",
    "evaluate": "wdp_edge.pipeline.evaluate",
    "export": "wdp_edge.pipeline.export",
    "inspect": "wdp_edge.pipeline.inspect",
    "import_dataset": "wdp_edge.pipeline.import_dataset",
    "init": "wdp_edge.project",
    "known_models": "wdp_edge.pipeline.models",
    "load": "wdp_edge.models.files",
    "load_recipe": "wdp_edge.recipe_file",
    "profile": "wdp_edge.pipeline.profile",
    "prune": "wdp_edge.pipeline.prune",
    "set_up": "wdp_edge.pipeline.set_up",
    "table": "wdp_edge.pipeline.table",
    "verify": "wdp_edge.pipeline.verify",
}

__all__ = [
    "Recipe",
    "__version__",
    "check",
    "dense_run",
    "describe_model",
    "doctor",
    "evaluate",
    "export",
    "import_dataset",
    "init",
    "inspect",
    "known_models",
    "load",
    "load_recipe",
    "profile",
    "prune",
    "report",
    "set_up",
    "table",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("wdp-edge")
    if name not in _HOMES:
        raise AttributeError(f"module 'wdp_edge' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Module(ModuleType):
    """`wdp_edge.report` is the function; importing the package of that name must not take its place."""

    @property
    def report(self) -> Any:
        return import_module("wdp_edge.report").report

    @report.setter
    def report(self, package: ModuleType) -> None:
        """The import system binds the package here; it stays reachable as `from wdp_edge.report import …`."""


sys.modules[__name__].__class__ = _Module
