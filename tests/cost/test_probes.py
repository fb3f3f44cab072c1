"""Which models are timed: they cover the widths, of large and of tiny models, and stay within what there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.config.recipe import TableRecipe
from wdp_edge.cost.probes import narrowed, plan_probes, spaced, uniform
from wdp_edge.models.structure import BlockWidths, Structure

DENSE = Structure(384, (BlockWidths(6, 64, 1536),) * 12)
OPTIONS = TableRecipe()


def test_probes_cover_the_widths() -> None:
    probes = plan_probes(DENSE, OPTIONS, 16, narrow=True)
    assert probes.heads == (0.25, 1, 2, 3, 4, 5, 6)
    assert probes.hidden[:2] == (16, 192) and probes.hidden[-1] == 1536 and len(probes.hidden) == OPTIONS.points + 1
    assert {b.heads * b.head_dim / 64 for s in probes.chains for b in s.blocks} >= {0, *probes.heads}
    assert {b.hidden for s in probes.chains for b in s.blocks} == {0, *probes.hidden}
    assert {s.depth for s in probes.chains} == {1, OPTIONS.chain}
    assert [s.depth for s in probes.sizes] == [5, 8, 12, 12, 12, 12]
    assert all(s.blocks == DENSE.blocks[: s.depth] for s in probes.sizes[:2])
    uneven = probes.sizes[2:]
    assert all(len(set(s.blocks)) > 3 for s in uneven), "every block has widths of its own"
    shares = [sum(b.hidden for b in s.blocks) / (12 * 1536) for s in uneven]
    assert shares == sorted(shares) and shares[0] < 0.4 and shares[-1] > 0.7


def test_two_more_single_blocks_tell_what_the_last_one_costs() -> None:
    usual, more = plan_probes(DENSE, OPTIONS, 16), plan_probes(DENSE, OPTIONS, 16, last=True)
    added = [s.blocks for s in more.chains if s not in usual.chains]
    assert [len(blocks) for blocks in added] == [1, 1]
    (single,) = (s.blocks[0] for s in usual.chains if s.depth == 1)
    assert [(b.heads, b.hidden) for (b,) in added] == [(6, single.hidden), (single.heads, 1536)]
    shortest = plan_probes(DENSE, TableRecipe(chain=1), 16, last=True)
    assert {s.depth for s in shortest.chains} == {1, 2}, "blocks before the last one are seen, too"


def test_probes_of_large_and_of_tiny_models() -> None:
    large = plan_probes(Structure(1280, (BlockWidths(20, 64, 5120),) * 2), OPTIONS, 16)
    assert (large.heads[0], large.heads[-1], len(large.heads)) == (1, 20, 8)
    tiny = plan_probes(Structure(8, (BlockWidths(1, 8, 8),)), OPTIONS, 16)
    assert tiny.heads == (1,) and tiny.hidden == (8,)
    assert all(s.depth == 1 for s in tiny.chains) and not tiny.sizes, "a model of one width cannot be cut"


def test_probes_stay_within_a_model_that_was_cut_before() -> None:
    uneven = Structure(32, (BlockWidths(2, 8, 64), BlockWidths(4, 8, 128), BlockWidths(1, 8, 16)))
    probes = plan_probes(uneven, OPTIONS, 16)
    for structure in (*probes.chains, *probes.sizes):
        for block, most in zip(structure.blocks, uneven.blocks, strict=False):
            assert block.heads <= most.heads and block.hidden <= most.hidden


@given(st.integers(1, 64), st.integers(1, 4096), st.integers(1, 12), st.sampled_from([1, 8, 16, 32]))
def test_grids_rise_and_end_at_the_full_width(low: int, extra: int, count: int, multiple: int) -> None:
    high = low + extra
    grid = spaced(low, high, count, multiple)
    assert list(grid) == sorted(set(grid)) and grid[-1] == high and grid[0] >= 1
    assert len(grid) <= max(count, 1) + 1
    assert all(w % multiple == 0 for w in grid[:-1])


def test_blocks_of_later_stages_get_what_costs_as_much() -> None:
    stages = Structure(32, (BlockWidths(4, 8, 128), BlockWidths(8, 8, 256), BlockWidths(2, 8, 32)))
    found = uniform(stages, 2, 64, 3, ((1.0, 1.0), (0.5, 0.5), (1.0, 1.0)))
    assert [(b.heads, b.hidden) for b in found.blocks] == [(2, 64), (4, 128), (2, 32)]
    gone = uniform(stages, 0, 64, 2)
    assert [(b.heads, b.hidden) for b in gone.blocks] == [(0, 64), (0, 64)]


@given(st.floats(0.05, 1.0))
def test_narrowed_heads_keep_a_channel(share: float) -> None:
    heads = {b.head_dim for b in narrowed(DENSE, share).blocks}
    assert heads == {max(1, round(64 * share))}
