"""The widths of all sub-layers at once: a multiple-choice knapsack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from wdp_edge.native_output import silent_stdout

# How far the loss may be from the least one, as a share of it. The rest takes ten times as long, more than the limit
# where other work runs, and then what is found depends on the machine's load.
GAP = 1e-3
_SECONDS = 120.0


@dataclass(frozen=True)
class Option:
    """One width a sub-layer may get: what it takes (ms) and what it loses (any unit, the same for all).

    width: or the place in a list, where one number does not say all.
    """

    width: int
    milliseconds: float
    loss: float


def choose(choices: Sequence[Sequence[Option]], limit_ms: float) -> list[int] | None:
    """One option's width per sub-layer with the least total loss within `limit_ms`, or one within GAP of it; None when
    nothing fits.

    Solved by branch and bound (HiGHS through scipy.optimize.milp).
    """
    choices = [frontier(options) for options in choices]
    if sum(min(o.milliseconds for o in options) for options in choices) > limit_ms:
        return None
    owner = np.repeat(np.arange(len(choices)), [len(options) for options in choices])
    flat = [option for options in choices for option in options]
    loss = np.array([option.loss for option in flat])
    time = np.array([option.milliseconds for option in flat])
    columns = np.arange(len(flat))
    one_each = csr_array((np.ones(len(flat)), (owner, columns)), shape=(len(choices), len(flat)))
    with silent_stdout():  # some builds of the solver print every solution that they polish
        solution = milp(
            # Scaled to one: HiGHS compares with absolute tolerances.
            loss / max(float(np.abs(loss).max()), 1e-30),
            integrality=np.ones(len(flat)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                LinearConstraint(csr_array(time[None, :] / limit_ms), -np.inf, 1.0),
            ],
            options={"mip_rel_gap": GAP, "time_limit": _SECONDS},
        )
    if solution.x is None:
        return None
    taken = np.flatnonzero(solution.x > 0.5)
    return [flat[i].width for i in taken]


def frontier(options: Sequence[Option]) -> list[Option]:
    """Those options that no other beats in both time and loss, from the fastest to the best."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.milliseconds, o.loss)):
        if not kept or option.loss < kept[-1].loss:
            kept.append(option)
    return kept
