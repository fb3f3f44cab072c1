"""How many images a statistic needs."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_families import made

from wdp_edge.shrink.enough import Need


@pytest.mark.parametrize(("samples", "images"), [(1, 128), (100, 753), (0, 128), (1000, 2000)])
def test_images_with_enough_tokens(tiny_model: Any, samples: float, images: int) -> None:
    """17 tokens, and 128 inputs of the widest layer."""
    assert Need(2000, samples, 128).images(tiny_model) == images


def test_of_stages_the_one_with_the_fewest_tokens_counts() -> None:
    """A tiny Swin ends with one token of each image."""
    model = made("swin")
    assert Need(10**6, 2, 1).images(model) >= 2 * model.layers[-1].blocks[0].mlp.fc2.in_features / 4
