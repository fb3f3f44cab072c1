"""Prunes a trained Vision Transformer until it meets a latency budget measured on a device, and proves it.

Every command of `wdp-edge` has a twin here that takes plain values and returns a typed result:

    import wdp_edge

    recipe = wdp_edge.load_recipe("wdp-edge.toml")
    result = wdp_edge.prune(recipe)                    # -> PruneResult
    model = wdp_edge.load(result.run / "model")        # -> a plain timm module

Importing this module imports neither torch nor any target's runtime; the first use of a function does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazy: the import system would bind the package of this name in the function's place when it is first needed.
from wdp_edge.report import report

if TYPE_CHECKING:
    from wdp_edge.commands.check import check
    from wdp_edge.commands.doctor import doctor
    from wdp_edge.commands.evaluate import evaluate
    from wdp_edge.commands.export import export
    from wdp_edge.commands.fit_head import fit_head
    from wdp_edge.commands.import_dataset import import_dataset
    from wdp_edge.commands.init import init
    from wdp_edge.commands.inspect import inspect
    from wdp_edge.commands.models import describe_model, known_models
    from wdp_edge.commands.profile import profile
    from wdp_edge.commands.set_up import set_up
    from wdp_edge.commands.source import dense_run
    from wdp_edge.commands.table import table
    from wdp_edge.commands.verify import verify
    from wdp_edge.config.file import load_recipe
    from wdp_edge.config.recipe import Recipe
    from wdp_edge.models.files import load
    from wdp_edge.pruning.prune import prune
    from wdp_edge.pruning.sweep import sweep

    __version__: str

_HOMES = {
    "Recipe": "wdp_edge.config.recipe",
    "check": "wdp_edge.commands.check",
    "describe_model": "wdp_edge.commands.models",
    "doctor": "wdp_edge.commands.doctor",
    "dense_run": "wdp_edge.commands.source",
    "evaluate": "wdp_edge.commands.evaluate",
    "export": "wdp_edge.commands.export",
    "fit_head": "wdp_edge.commands.fit_head",
    "inspect": "wdp_edge.commands.inspect",
    "import_dataset": "wdp_edge.commands.import_dataset",
    "init": "wdp_edge.commands.init",
    "known_models": "wdp_edge.commands.models",
    "load": "wdp_edge.models.files",
    "load_recipe": "wdp_edge.config.file",
    "profile": "wdp_edge.commands.profile",
    "prune": "wdp_edge.pruning.prune",
    "set_up": "wdp_edge.commands.set_up",
    "sweep": "wdp_edge.pruning.sweep",
    "table": "wdp_edge.commands.table",
    "verify": "wdp_edge.commands.verify",
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
    "fit_head",
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
    "sweep",
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
