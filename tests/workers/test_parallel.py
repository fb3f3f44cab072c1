"""Two real processes learn as one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from class_folders import write_classes
from processes import run_together

from wdp_edge.errors import InputError
from wdp_edge.workers.parallel import World, average_gradients, broadcast, mean, world

SCRIPT = Path(__file__).parents[1] / "support" / "parallel_run.py"


def test_two_processes_learn_and_recover_as_one_does(tmp_path: Path) -> None:
    write_classes(tmp_path / "images", {"a": 6, "b": 5, "c": 6, "d": 7})
    for size in (1, 2):
        for code, _, errors in run_together(size, [SCRIPT, tmp_path / "images", tmp_path / f"of-{size}"]):
            assert code == 0, errors
    one, first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("of-1.0", "of-2.0", "of-2.1"))
    assert one["multipliers"].max() > 0 and 0 < one["distance"] < 1
    assert any(not m.all() for name, m in one.items() if name.startswith("kept."))
    for name, wanted in one.items():
        assert torch.equal(first[name], second[name]), name
        if name.startswith("recovered.") and name.endswith("qkv.bias"):
            # The same added to every key changes no attention: the gradient of a key's bias is rounding, of which
            # Adam makes steps.
            wanted, first[name] = (torch.cat([q, v]) for q, _, v in (x.chunk(3) for x in (wanted, first[name])))
        assert torch.allclose(first[name], wanted, rtol=0, atol=1e-5), name


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    average_gradients(torch.optim.AdamW([weight]))
    assert world() == World(0, 1) and world().leads
    assert weight.grad.tolist() == [1.0, 2.0]
    assert mean(weight.grad) is weight.grad
    assert broadcast({"a": (1, 2)}) == {"a": (1, 2)}
    assert not torch.distributed.is_initialized()


def test_batches_that_cannot_be_divided_are_refused() -> None:
    assert World(1, 4).share(64) == 16
    with pytest.raises(InputError, match=r"64 images .* 3 processes"):
        World(0, 3).share(64)
