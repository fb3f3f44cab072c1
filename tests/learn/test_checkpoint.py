"""A training state on disk: read back exactly, never half written, and never code."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import small_files

from wdp_edge.errors import InputError, SetupError
from wdp_edge.learn.checkpoint import Checkpointer, load_state, save_state

STATE: dict[str, Any] = {"done": 3, "masks": {"w": torch.arange(6.0).reshape(2, 3)}, "curve": [[1, 8, {"loss": 0.5}]]}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "learn.checkpoint"
    assert load_state(path) is None
    save_state(path, STATE)
    found = load_state(path)
    assert found is not None and torch.equal(found.pop("masks")["w"], STATE["masks"]["w"])
    assert found == {"done": 3, "curve": [[1, 8, {"loss": 0.5}]]}
    assert list(tmp_path.iterdir()) == [path]


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("owned"),)


@pytest.mark.parametrize("damage", ["cut short", "text", "code"])
def test_a_damaged_state_is_named(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recover.checkpoint"
    if damage == "code":
        torch.save({"done": Evil()}, path)
    else:
        save_state(path, STATE)
        path.write_bytes(path.read_bytes()[:400] if damage == "cut short" else b"no state at all")
    with pytest.raises(InputError, match=r"recover\.checkpoint is corrupt.*Delete .*recover\.checkpoint"):
        load_state(path)
    assert not Path("owned").exists()


def test_a_state_is_saved_when_its_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    state = {"done": 0}
    save = Checkpointer(tmp_path / "state", 60, lambda: state)
    written = []
    for clock[0] in (130.0, 160.0, 190.0, 219.0, 220.0):
        state["done"] += 1
        save()
        written.append((load_state(save.path) or {}).get("done"))
    assert written == [None, 2, 2, 2, 5]


def test_a_training_state_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "learn.checkpoint"
    with small_files():
        save_state(path, {"step": 1})
        with pytest.raises(SetupError, match=r"Cannot write .*learn\.checkpoint"):
            save_state(path, {"step": 2, "w": torch.zeros(10_000)})
    assert load_state(path) == {"step": 1} and len(list(tmp_path.iterdir())) == 1
