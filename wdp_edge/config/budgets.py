"""Which of its budgets a recipe asks for: in measured time, in multiply-accumulates, or in parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.config.values import CountBudget, LatencyBudget, parse_budget, parse_keep, parse_macs, split_list
from wdp_edge.errors import InputError

Budget = LatencyBudget | CountBudget

BUDGETS: Final[Mapping[str, Callable[[str], Budget]]] = {
    "latency_budget": parse_budget,
    "macs_budget": parse_macs,
    "keep": parse_keep,
}
"""Settings of [prune] of which one is given, and how each is read."""
_LABELS: Final = {"latency_budget": "{}", "macs_budget": "{} of MACs", "keep": "{} of parameters"}
_FOLDERS: Final = {"latency_budget": "{}", "macs_budget": "macs-{}", "keep": "keep-{}"}


def budget_setting(prune: PruneRecipe) -> str:
    """The setting that holds the budget; "latency_budget" where there is none. Raises InputError for several."""
    given = [name for name in BUDGETS if getattr(prune, name)]
    if len(given) > 1:
        both = " and ".join(f'{name} = "{getattr(prune, name)}"' for name in given)
        raise InputError(f"A run has one budget, not {both}.", "Leave one of them in [prune] of wdp-edge.toml.")
    return given[0] if given else "latency_budget"


def budget_of(prune: PruneRecipe) -> Budget:
    """Raises InputError for none, for several, and for a text that is none."""
    name = budget_setting(prune)
    return BUDGETS[name](getattr(prune, name))


def budget_texts(prune: PruneRecipe) -> list[str]:
    """The text of each budget in the recipe's list."""
    return split_list(getattr(prune, budget_setting(prune)))


def with_budget(prune: PruneRecipe, text: str) -> PruneRecipe:
    """With this one of its budgets alone; "" is none of any kind."""
    own = budget_setting(prune)
    texts: dict[str, Any] = {name: text if name == own else "" for name in BUDGETS}
    return replace(prune, **texts)


def budget_label(prune: PruneRecipe) -> str:
    """In words: "20ms", "50%", "50% of MACs", "0.7 of parameters"."""
    name = budget_setting(prune)
    return _LABELS[name].format(getattr(prune, name))


def budget_word(prune: PruneRecipe) -> str:
    """For the name of a folder: "20ms", "50pct", "macs-50pct", "keep-0.7"."""
    name = budget_setting(prune)
    return _FOLDERS[name].format(re.sub(r"\s+", "", getattr(prune, name).replace("%", "pct")))
