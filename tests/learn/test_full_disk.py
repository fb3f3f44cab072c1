"""What libraries serialise ends on a full disk in our own sentence, not in theirs."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wdp_edge.errors import SetupError
from wdp_edge.learn.checkpoint import load_state, save_state
from wdp_edge.models.files import save
from wdp_edge.models.spec import ModelSpec


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files may hold 20,000 bytes: writing more fails as on a full disk, only with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_training_state_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "learn.checkpoint"
    save_state(path, {"step": 1})
    with pytest.raises(SetupError, match=r"Cannot write .*learn\.checkpoint"):
        save_state(path, {"step": 2, "w": torch.zeros(10_000)})
    assert load_state(path) == {"step": 1} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("small_files")
def test_a_model_that_cannot_be_written(tmp_path: Path, tiny_model: Any, tiny_spec: ModelSpec) -> None:
    with pytest.raises(SetupError, match=r"Cannot write .*model\.safetensors"):
        save(tiny_model, tiny_spec, tmp_path)
    assert not list(tmp_path.iterdir())
