"""wdp_edge/cost/counted.py: sums of a counted table against exact counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.config.values import CountBudget, Quantity
from wdp_edge.cost.counted import Counter
from wdp_edge.models import vit
from wdp_edge.models.structure import BlockWidths, Structure, count

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}


def counter(name: str = "vit_tiny_patch16_224", quantity: Quantity = Quantity.MACS, **args: object) -> Counter:
    model = timm.create_model(name, num_classes=3, **(args or SMALL))
    return Counter(vit.structure_of(model), vit.geometry_of(model), CountBudget(quantity, share=0.5))


WIDTHS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 8), st.integers(0, 128)), min_size=1, max_size=3)


@pytest.mark.parametrize("quantity", Quantity)
@given(widths=WIDTHS)
def test_sums_are_what_is_counted(quantity: Quantity, widths: list[tuple[int, int, int]]) -> None:
    """MACs exactly. Of parameters each attention's biases of proj and its norm hang on no width, and a head of fewer
    channels is taken as a part of a whole one: less than half a per cent of this model."""
    own = counter(quantity=quantity)
    cut = Structure(own.structure.embed_dim, tuple(BlockWidths(h, d if h else 0, n) for h, d, n in widths))
    exact = 100.0 * own.count(cut) / own.dense
    assert own.table().predict(cut) == pytest.approx(exact, abs=1e-9 if quantity is Quantity.MACS else 0.5)
    assert own.used(cut) == own.count(cut) / own.budget.limit(own.dense)


@pytest.mark.parametrize("quantity", Quantity)
def test_the_dense_model_is_all_of_it(quantity: Quantity) -> None:
    own = counter(quantity=quantity)
    table = own.table()
    assert own.dense == getattr(count(own.structure, own.geometry), quantity.value)
    assert table.predict(own.structure) == pytest.approx(100.0) and table.dense_ms == 100.0
    assert own.limit == pytest.approx(50.0, abs=0.01) and table.amount(own.limit) == f"50% of {quantity.words}"


@pytest.mark.parametrize("quantity", Quantity)
def test_blocks_of_several_stages_count_in_proportion(quantity: Quantity) -> None:
    own = counter(
        "swin_tiny_patch4_window7_224", quantity, img_size=56, window_size=7, embed_dim=24, depths=(1, 1, 2, 1)
    )
    table = own.table()
    assert len(table.scales) == own.structure.depth
    assert table.predict(own.structure) == pytest.approx(100.0)
    halved = replace(own.structure, blocks=tuple(replace(b, hidden=b.hidden // 2) for b in own.structure.blocks))
    assert table.predict(halved) == pytest.approx(100.0 * own.count(halved) / own.dense, abs=1.0)
