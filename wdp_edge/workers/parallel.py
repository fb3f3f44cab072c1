"""Several processes, one run: who they are, and the few things they say to each other.

Started by torchrun; without it there is one process, and every function here hands back what it was given. Tensors on
the CPU pass through gloo, those on a GPU through nccl.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import to_plain

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

# How long the others wait while the first one measures, selects and exports. That one has ended is noticed at once.
LONGEST_STAGE = datetime.timedelta(days=7)


@dataclass(frozen=True)
class World:
    """This process among all of the run. rank: in [0, size)."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process measures, selects, exports, writes and prints."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Images of a batch that fall to each process. Raises InputError when they cannot be divided evenly."""
        if batch_size % self.size:
            raise InputError(
                f"Batches of {batch_size} images cannot be divided evenly among {self.size} processes.",
                "Set batch_size in [prune.learn] and [prune.recover] to multiples of their number.",
            )
        return batch_size // self.size


def world() -> World:
    """As torchrun's environment says."""
    return World(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def average_gradients(optimiser: Optimizer) -> None:
    """Every gradient becomes its mean over the processes: what one process has with all images of the batch.

    Not DistributedDataParallel: that wraps one module's forward, and the search runs a model in pieces, under hooks,
    with masks and exits that are modules of their own. All gradients of one processor go in one piece, after the
    backward pass.
    """
    if world().size == 1:
        return
    import torch

    parameters = (p for group in optimiser.param_groups for p in group["params"])
    everywhere: dict[torch.device, list[Tensor]] = {}
    for p in parameters:
        if p.grad is not None:
            everywhere.setdefault(p.device, []).append(p.grad)
    for gradients in everywhere.values():
        flat = _sum(torch.cat([g.flatten() for g in gradients])).div_(world().size)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def mean(tensor: Tensor) -> Tensor:
    """The mean over the processes of a tensor of the same shape in each, the same bits in all; no gradient passes."""
    size = world().size
    return tensor if size == 1 else _sum(tensor.detach().clone()) / size


def broadcast(value: Any) -> Any:
    """The first process's value, as JSON, in all of them. What the others pass is ignored."""
    me = world()
    if me.size == 1:
        return value
    import torch

    text = json.dumps(to_plain(value)).encode() if me.leads else b""
    length = torch.tensor([len(text)])
    _together(lambda group: group.broadcast(length, src=0))
    told = (
        torch.frombuffer(bytearray(text), dtype=torch.uint8)
        if me.leads
        else torch.empty(int(length), dtype=torch.uint8)
    )
    _together(lambda group: group.broadcast(told, src=0))
    return value if me.leads else json.loads(told.numpy().tobytes())


def wait() -> None:
    """Until all processes are here."""
    if world().size > 1:
        import torch

        _sum(torch.zeros(1))  # on the CPU, where waiting for days is allowed; a barrier would take the GPUs


def _sum(tensor: Tensor) -> Tensor:
    """The tensor itself, which becomes the sum over the processes."""
    _together(lambda group: group.all_reduce(tensor))
    return tensor


def _together(act: Callable[[Any], object]) -> None:
    """One collective operation. Raises SetupError when another process is gone."""
    group = _group()
    try:
        act(group)
    except RuntimeError as error:
        raise SetupError(
            "Another process of this run has ended.", "Run the same command again; the run continues."
        ) from error


def _group() -> Any:
    """torch.distributed; the first call makes the processes known to each other."""
    import torch
    import torch.distributed as group

    if not group.is_initialized():
        try:
            backend = "cpu:gloo,cuda:nccl" if group.is_nccl_available() and torch.cuda.is_available() else "gloo"
            group.init_process_group(backend, timeout=LONGEST_STAGE)
        except (ValueError, RuntimeError) as error:
            raise SetupError(
                f"The processes of this run cannot find each other: {str(error).splitlines()[0]}.",
                "Start them with: torchrun --nproc-per-node N -m wdp_edge prune …",
            ) from error
    return group
