"""A tiny real ViT for every test that needs a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_vit import TINY, lively

from wdp_edge.models.spec import ModelSpec, create


@pytest.fixture
def tiny_spec() -> ModelSpec:
    return TINY


@pytest.fixture
def tiny_model() -> Any:
    torch.manual_seed(0)
    return lively(create(TINY))
