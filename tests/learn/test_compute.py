"""Micro-batches and recomputed blocks change nothing but memory; with a GPU everything is put there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fake_gpu import GPU, fake_gpu
from learning import batch, recovery_of, search_of
from tiny_families import FORMS, SMALL, made
from tiny_vit import lively
from torch import Tensor

from wdp_edge.config.recipe import ComputeRecipe, RecoverRecipe
from wdp_edge.errors import InputError
from wdp_edge.learn.compute import device_of
from wdp_edge.models import vit
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.protocols.task import Labels, Output, facts_of, task_names


def two_steps(model: Any, compute: ComputeRecipe, options: RecoverRecipe) -> list[Tensor]:
    """What two steps of search and of recovery leave of everything that learns."""
    searching, recovery = search_of(model, compute), recovery_of(model, compute, options)
    values = [step(*batch(number)) for number in range(2) for step in (searching.step, recovery.step)]
    assert all(v["loss"] > 0 for v in values)
    left = [*searching.masks.parameters(), *searching.exits.parameters(), *searching.student.parameters()]
    return [p.detach() for p in (*left, *recovery.student.parameters())]


@pytest.mark.parametrize("form", FORMS)
def test_blocks_run_again_instead_of_keeping_activations(form: str) -> None:
    model, options = made(form), RecoverRecipe()
    runs: list[list[Tensor]] = []
    for again in (False, True):
        torch.manual_seed(0)  # Swin drops whole paths at random
        runs.append(two_steps(model, ComputeRecipe(mixed_precision="off", grad_checkpointing=again), options))
    for wanted, got in zip(*runs, strict=True):
        assert torch.allclose(got, wanted, rtol=0, atol=1e-6)
    assert all("forward" not in block.__dict__ for block in vit.blocks_of(model))


def test_blocks_that_run_again_keep_less(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    for again in (False, True):
        searching = search_of(made("plain"), ComputeRecipe(mixed_precision="off", grad_checkpointing=again))
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            monkeypatch.setattr(Tensor, "backward", lambda loss: None)
            searching._backward(*batch(0), 1.0)
            monkeypatch.undo()
        kept.append(sum(sizes))
    assert kept[1] < 0.4 * kept[0]


def test_micro_batches_add_up_to_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of recovery without block outputs, which are compared as shares of their spread over the micro-batch."""
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    monkeypatch.setattr(torch.optim.AdamW, "zero_grad", lambda self, set_to_none: None)
    model, runs = made("plain"), []
    for size in (0, 3):
        compute = ComputeRecipe(mixed_precision="off", micro_batch_size=size)
        learning = (search_of(model, compute), recovery_of(model, compute, RecoverRecipe(features=0.0)))
        for part in learning:
            part.step(*batch(0))
        groups = [group for part in learning for group in part.optimiser.param_groups]
        runs.append([p.grad for group in groups for p in group["params"] if p.grad is not None])
    assert len(runs[0]) > 40
    for wanted, got in zip(*runs, strict=True):
        assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_micro_batches_report_the_whole_batch() -> None:
    options = RecoverRecipe(features=0.0)
    whole, parts = (
        recovery_of(made("plain"), ComputeRecipe(micro_batch_size=size), options).step(*batch(0)) for size in (0, 3)
    )
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-4)
    assert parts["distillation"] == pytest.approx(whole["distillation"], rel=1e-3)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert device_of("auto").type == device_of("cpu").type == "cpu"
    with pytest.raises(InputError, match="finds no GPU"):
        device_of("cuda")


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake: torch is made to say that there is one GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    assert device_of("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(InputError, match="no GPU of its own"):
        device_of("cuda")


@pytest.mark.parametrize("form", FORMS)
def test_with_a_gpu_every_part_of_a_step_is_there(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake GPU."""
    steps_on_a_gpu(made(form), "classify", batch(0), monkeypatch)


@pytest.mark.parametrize("task", task_names())
def test_with_a_gpu_every_tasks_loss_is_there(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake GPU."""
    facts = facts_of(task)
    args = {**SMALL, "global_pool": ""} if facts.output is Output.MAP else SMALL
    spec = ModelSpec("vit_tiny_patch16_224", 4 if facts.output.of_classes else 0, args, facts.output)
    images, labels = batch(0)
    if facts.labels is Labels.MANY:
        labels = torch.zeros(len(images), 4).scatter_(1, labels[:, None], 1.0)
    elif facts.labels is Labels.MASK:
        labels = torch.randint(0, 4, (len(images), 16, 16)).to(torch.uint8)
    steps_on_a_gpu(lively(create(spec)), task, (images, labels), monkeypatch)


def steps_on_a_gpu(dense: Any, task: str, data: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    for again in (False, True):
        options = ComputeRecipe(micro_batch_size=4, grad_checkpointing=again)
        with fake_gpu(monkeypatch):
            searching = search_of(dense, options, task)
            recovery = recovery_of(dense, options, RecoverRecipe(), task)
            searching.step(*data)
            recovery.step(*data)
        moved = [*searching.student.parameters(), *searching.exits.parameters(), *recovery.student.parameters()]
        moved += [*recovery.average.parameters(), *searching.teacher.model.parameters()]
        assert {p.device for p in moved} == {GPU}
        assert searching.teacher.dtype == torch.bfloat16
    assert {p.device.type for p in dense.parameters()} == {"cpu"}, "the dense model stays"
