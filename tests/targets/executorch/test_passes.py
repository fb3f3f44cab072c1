"""Which of ExecuTorch's passes have something to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wdp_edge.targets.executorch.passes import facts_of, has_work


def test_a_pass_is_left_out_only_where_nothing_needs_it() -> None:
    plain = {"aten.linear.default", "aten.softmax.int"}
    assert has_work("AnyOtherPass", plain)
    assert not has_work("FuseBatchNormPass", plain)
    assert has_work("FuseBatchNormPass", {*plain, "aten._native_batch_norm_legit.default"})


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [1, 3, 8] -> [1, 4, 48]."""
        x = self.conv(x).view(1, 4, 8) * torch.arange(8)
        return torch.cat([x + 1.0] * 6, -1)


@pytest.mark.parametrize(
    "fact", ["conv1d", "view of another", "mixed types", "cat of many", "constant", "number for a tensor", "aten.view"]
)
def test_what_a_graph_has_is_found(fact: str) -> None:
    odd = torch.export.export(Odd().eval(), (torch.zeros(1, 3, 8),)).graph
    plain = torch.export.export(nn.Linear(4, 3), (torch.zeros(1, 4),)).graph
    assert any(fact in found for found in facts_of(odd))
    assert not any(fact in found for found in facts_of(plain))


class Quotient(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: int64, divided by itself."""
        return torch.div(x, x)


def test_a_quotient_of_whole_numbers_changes_its_type() -> None:
    graphs = [
        torch.export.export(Quotient(), (torch.ones(2, dtype=kind),)).graph for kind in (torch.int64, torch.float32)
    ]
    assert ["mixed types" in facts_of(graph) for graph in graphs] == [True, False]


def test_a_norm_that_becomes_a_convolution_of_sequences_gets_its_pass() -> None:
    assert has_work("Conv1dUnsqueezePass", {"aten._native_batch_norm_legit_no_training.default"})


def test_sizes_that_are_not_known_are_found() -> None:
    program = torch.export.export(
        nn.Linear(4, 3), (torch.zeros(2, 4),), dynamic_shapes={"input": {0: torch.export.Dim("batch")}}
    )
    assert "symbolic" in facts_of(program.graph)
