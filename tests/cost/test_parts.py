"""cost/parts.py: operators told apart by their order, for orders that runtimes really have."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.cost.parts import Part, parts_of
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.target import OperatorRole as Role

LINEAR, MATMUL, SOFTMAX, NORM, OTHER = Role.LINEAR, Role.MATMUL, Role.SOFTMAX, Role.NORM, Role.OTHER


def model(
    structure: Structure, in_norms: int, late_value: bool, between: list[int], head: bool = True
) -> tuple[list[Role], list[Part | None]]:
    """Roles and expected parts of a model's operators. late_value: v runs after the softmax, as ONNX Runtime has it.

    between: how many operators of no weight follow each one that has some; nothing is expected of them.
    """
    qkv = [(LINEAR, Part.QKV)]
    scores = [(MATMUL, Part.SCORES), (SOFTMAX, Part.SCORES)]
    attention = qkv * 2 + scores + qkv if late_value else qkv * 3 + scores
    attention += [(MATMUL, Part.SCORES), (LINEAR, Part.PROJ)]
    norm = [(LINEAR, Part.NORM)] * in_norms or [(NORM, Part.NORM)]
    mlp = [(LINEAR, Part.MLP), (OTHER, Part.MLP), (LINEAR, Part.MLP)]
    whole = [(Role.CONV, Part.PATCH_EMBED)]
    for block in structure.blocks:
        whole += (norm + attention) * (block.heads > 0) + (norm + mlp) * (block.hidden > 0)
    whole += [*norm, (LINEAR, Part.HEAD)] if head else [(NORM, Part.NORM)]
    roles: list[Role] = []
    parts: list[Part | None] = []
    for number, (role, part) in enumerate(whole):
        extra = between[number % len(between)]
        roles += [role] + [OTHER] * extra
        parts += [part] + [None] * extra
    return roles, parts


structures = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=5).map(
    lambda blocks: Structure(8, tuple(BlockWidths(heads, 4, hidden) for heads, hidden in blocks))
)


@given(structures, st.integers(0, 2), st.booleans(), st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_every_operator_with_weights_is_found(
    structure: Structure, in_norms: int, late: bool, between: list[int]
) -> None:
    roles, expected = model(structure, in_norms, late, between)
    found = parts_of(roles, structure)
    assert found is not None
    assert [f[0] for f, e in zip(found, expected, strict=True) if e is not None] == [
        e for e in expected if e is not None
    ]
    blocks = Counter(block for part, block in found if part is Part.QKV)
    assert set(blocks) == {i for i, block in enumerate(structure.blocks) if block.heads}
    assert {block for part, block in found if part in (Part.PATCH_EMBED, Part.HEAD)} == {None}


@pytest.mark.parametrize("in_norms", [0, 1, 2])
def test_a_model_without_a_head_ends_with_its_norm(in_norms: int) -> None:
    structure = Structure(8, (BlockWidths(2, 4, 8), BlockWidths(1, 4, 0), BlockWidths(1, 4, 8)))
    roles, expected = model(structure, in_norms, False, [0], head=False)
    assert [part for part, _ in parts_of(roles, structure) or []] == expected


@pytest.mark.parametrize("roles", [[], [LINEAR], [LINEAR] * 7 + [MATMUL], [LINEAR] * 9 + [MATMUL] * 2, [OTHER] * 20])
def test_an_unknown_order_is_not_guessed_at(roles: list[Role]) -> None:
    assert parts_of(roles, Structure(8, (BlockWidths(1, 4, 8),))) is None
