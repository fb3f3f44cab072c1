"""Which part of a Vision Transformer an operator of an exported file belongs to, by its place in the order."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.target import OperatorRole

_MATMULS = 2


class Part(StrEnum):
    """Parts of a model that people think in. SCORES: all of attention between its linear layers."""

    PATCH_EMBED = "patch embedding"
    NORM = "norms, residuals"
    QKV = "attention qkv"
    SCORES = "attention scores"
    PROJ = "attention proj"
    MLP = "MLP"
    HEAD = "head"


def parts_of(roles: Sequence[OperatorRole], structure: Structure) -> list[tuple[Part, int | None]] | None:
    """The part and the block (from 0; None outside the blocks) of every operator; None for an order we do not know.

    Linear layers run in the order of the model. A norm that was rewritten for a delegate has a linear layer or two of
    its own, which shows in their number. Everything else belongs to what it stands between. A model without a head (for
    embeddings) ends with a norm as the runtime has it.
    """
    return _parts(roles, structure, has_head=True) or _parts(roles, structure, has_head=False)


def _parts(roles: Sequence[OperatorRole], structure: Structure, has_head: bool) -> list[tuple[Part, int | None]] | None:
    heavy = [i for i, role in enumerate(roles) if role in (OperatorRole.LINEAR, OperatorRole.MATMUL)]
    linears = [i for i in heavy if roles[i] is OperatorRole.LINEAR]
    attending = [i for i, block in enumerate(structure.blocks) if block.heads]
    norms = len(attending) + sum(b.hidden > 0 for b in structure.blocks) + has_head
    if not norms:
        return None
    in_norms, rest = divmod(len(linears) - len(linear_labels(structure, 0, has_head)), norms)
    if in_norms < 0 or rest or len(heavy) - len(linears) != _MATMULS * len(attending):
        return None
    labels: dict[int, tuple[Part, int | None]] = dict(
        zip(linears, linear_labels(structure, in_norms, has_head), strict=True)
    )
    products = [i for i in heavy if i not in labels]
    labels |= {i: (Part.SCORES, attending[number // _MATMULS]) for number, i in enumerate(products)}
    return [labels[i] if i in labels else between(i, roles[i], heavy, labels) for i in range(len(roles))]


def linear_labels(structure: Structure, in_norms: int, has_head: bool) -> list[tuple[Part, int | None]]:
    """Part and block of every linear layer, in the model's order. in_norms: linear layers in each norm.

    has_head: whether the last one is the head's, with a norm before it that is like the others.
    """
    norm = [Part.NORM] * in_norms
    found: list[tuple[Part, int | None]] = []
    for number, block in enumerate(structure.blocks):
        found += [(part, number) for part in linears_of(block, norm)]
    return found + [(part, None) for part in (*norm, Part.HEAD)] * has_head


def linears_of(block: BlockWidths, norm: list[Part]) -> list[Part]:
    """q, k, v and proj; fc1 and fc2."""
    attention = [*norm, *[Part.QKV] * 3, Part.PROJ] if block.heads else []
    return attention + ([*norm, Part.MLP, Part.MLP] if block.hidden else [])


def between(
    place: int, role: OperatorRole, heavy: Sequence[int], labels: dict[int, tuple[Part, int | None]]
) -> tuple[Part, int | None]:
    """An operator without weights, by the labelled ones before and after it."""
    before = next((labels[i] for i in reversed(heavy) if i < place), (Part.PATCH_EMBED, None))
    after = next((labels[i] for i in heavy if i > place), (Part.HEAD, None))
    if before[0] in (Part.QKV, Part.SCORES):
        return Part.SCORES, before[1]
    if before[0] is Part.PATCH_EMBED and role is not OperatorRole.NORM:
        return before
    if before[0] is Part.HEAD or before == after:
        return before
    return Part.NORM, after[1]
