from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from wdp_edge.select.candidates import GAP, Option, choose, frontier

options = st.lists(
    st.builds(Option, st.integers(1, 99), st.floats(0.01, 5), st.floats(0, 10)),
    min_size=1,
    max_size=4,
    unique_by=lambda o: o.width,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(options, min_size=1, max_size=4), st.floats(0.05, 15))
def test_as_good_as_trying_everything(choices: list[list[Option]], limit: float) -> None:
    found = choose(choices, limit)
    fitting = [c for c in itertools.product(*choices) if sum(o.milliseconds for o in c) <= limit]
    if found is None:
        assert not fitting
        return
    taken = [next(o for o in group if o.width == w) for group, w in zip(choices, found, strict=True)]
    assert sum(o.milliseconds for o in taken) <= limit * (1 + 1e-6)
    best = min((sum(o.loss for o in c) for c in fitting), default=float("inf"))
    worst = max(o.loss for group in choices for o in group)
    assert sum(o.loss for o in taken) <= best * (1 + GAP) + 1e-4 * worst + 1e-9


@given(options)
def test_the_frontier_loses_no_answer(every: list[Option]) -> None:
    kept = frontier(every)
    assert kept and all(o in every for o in kept)
    for option in every:
        assert any(k.milliseconds <= option.milliseconds and k.loss <= option.loss for k in kept)
    times, losses = [o.milliseconds for o in kept], [o.loss for o in kept]
    assert times == sorted(times) and losses == sorted(losses, reverse=True) and len(set(losses)) == len(losses)


def test_nothing_fits() -> None:
    assert choose([[Option(1, 2.0, 0.0)], [Option(1, 2.0, 0.0)]], 3.9) is None
