from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.split import balanced_counts, hold_out

SIZES = st.lists(st.integers(1, 60), min_size=2, max_size=12)


def folder_of(sizes: list[int]) -> ImageFolder:
    """A folder as scan() finds it; the split opens no files."""
    names = tuple(f"c{i:02d}" for i in range(len(sizes)))
    paths = tuple(f"{name}/{i}.png" for name, size in zip(names, sizes, strict=True) for i in range(size))
    labels = tuple(label for label, size in enumerate(sizes) for _ in range(size))
    return ImageFolder(Path("somewhere"), names, paths, labels)


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=12), total=st.integers(0, 400))
def test_counts_are_as_equal_as_the_groups_allow(sizes: list[int], total: int) -> None:
    counts = balanced_counts(sizes, total)
    assert sum(counts) == min(total, sum(sizes))
    assert all(0 <= c <= s for c, s in zip(counts, sizes, strict=True))
    unfilled = [c for c, s in zip(counts, sizes, strict=True) if c < s]
    if unfilled:
        assert max(counts) - min(unfilled) <= 1


@given(sizes=SIZES, count=st.integers(1, 300), seed=st.integers(0, 9))
def test_hold_out_splits_by_class(sizes: list[int], count: int, seed: int) -> None:
    folder = folder_of(sizes)
    train, held = hold_out(folder, count, seed)
    assert sorted(train + held) == list(range(len(folder)))
    assert train == sorted(train)
    assert held == sorted(held)
    taken = [len(group) for group in folder.by_class(held)]
    assert all(t <= max(s // 5, 1) and t < s for t, s in zip(taken, sizes, strict=True))
    assert all(t >= 1 for t, s in zip(taken, sizes, strict=True) if s > 1)
    assert len(held) <= max(count, len(sizes))


@given(sizes=st.lists(st.integers(5, 60), min_size=2, max_size=12), count=st.integers(1, 300))
def test_at_most_a_fifth_is_held_out(sizes: list[int], count: int) -> None:
    folder = folder_of(sizes)
    assert len(hold_out(folder, count, 0)[1]) <= len(folder) / 5


def test_the_seed_decides() -> None:
    folder = folder_of([50, 50])
    assert hold_out(folder, 10, 1) == hold_out(folder, 10, 1)
    assert hold_out(folder, 10, 1) != hold_out(folder, 10, 2)
    first, second = folder.by_class(hold_out(folder, 10, 1)[1])
    assert len(first) == len(second) == 5
    assert [i - 50 for i in second] != first, "classes must not share one order"


def test_nothing_is_held_out_when_nothing_is_asked() -> None:
    assert hold_out(folder_of([5, 5]), 0, 0) == (list(range(10)), [])


def test_images_without_classes_are_held_back_too() -> None:
    folder = ImageFolder(Path("x"), (), tuple(f"{i:03}.png" for i in range(100)), (0,) * 100)
    trained, held = hold_out(folder, 10, seed=3)
    assert len(held) == 10 and sorted(trained + held) == list(range(100))
    assert hold_out(folder, 90, seed=3)[1] != held and len(hold_out(folder, 90, seed=3)[1]) == 20


def test_pairs_are_held_back_where_a_metric_needs_them() -> None:
    folder = folder_of([1, 2, 3, 4, 6, 30])
    _, held = hold_out(folder, 1, 0, least=2)
    assert [len(group) for group in folder.by_class(held)] == [0, 1, 1, 2, 2, 6]
    _, single = hold_out(folder, 1, 0)
    assert [len(group) for group in folder.by_class(single)] == [0, 1, 1, 1, 1, 2]
