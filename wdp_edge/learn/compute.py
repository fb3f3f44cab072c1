"""How a training step runs: on which processor, in which number format, in how many pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from wdp_edge.config.recipe import ComputeRecipe
from wdp_edge.errors import InputError
from wdp_edge.models import vit

CPU = torch.device("cpu")
_PLAIN = nullcontext()


def device_of(wanted: str) -> torch.device:
    """This process's processor. wanted: auto, cpu or cuda. Raises InputError when no GPU is available."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        raise InputError(
            "prune.compute.device is 'cuda', but PyTorch finds no GPU.",
            "Install a CUDA build of torch, or set it to 'auto' or 'cpu'.",
        )
    number, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= count:
        raise InputError(
            f"Process {number} of this machine has no GPU of its own: there are {count}.",
            f"Start {count} of them at most (torchrun --nproc-per-node {count}), or set prune.compute.device to 'cpu'.",
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def bf16_pays(model: Any, device: torch.device = CPU) -> bool:
    """Whether bfloat16 matrix products are faster there: native support, and on a CPU matrices that are not tiny.

    Measured on AVX-512 with AMX: 1.3 to 2 times for 384 channels, a loss for the smallest models.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    native = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return bool(native) and model.embed_dim >= 192


def autocast(enabled: bool, device: torch.device = CPU) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


class Compute:
    """[prune.compute] for one model on this process's processor."""

    def __init__(self, options: ComputeRecipe, model: Any) -> None:
        self.options = options
        self.device = device_of(options.device)
        self.bf16 = options.mixed_precision == "auto" and bf16_pays(model, self.device)

    def autocast(self) -> torch.autocast:
        return autocast(self.bf16, self.device)

    def fused_attention_pays(self, model: Any) -> bool:
        """Whether attention is faster as one operation, in training."""
        return self.device.type != "cpu" or vit.fused_attention_pays(vit.tokens_of(model))

    def parts(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, float]]:
        """The batch in pieces of at most micro_batch_size images, on the processor, and what share of it each is."""
        size = self.options.micro_batch_size or len(images)
        for some, of_them in zip(images.split(size), labels.split(size), strict=True):
            yield some.to(self.device), of_them.to(self.device), len(some) / len(images)

    @contextmanager
    def forward(self, model: Any, again: AbstractContextManager[Any] = _PLAIN) -> Iterator[None]:
        """A forward pass of training. With grad_checkpointing, blocks keep only what enters them, and run again in the
        backward pass: hooks inside blocks must be there until then. again: the context that they run in then."""
        blocks = vit.blocks_of(model) if self.options.grad_checkpointing else []

        def both() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
            return _PLAIN, again

        for block in blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=both)
        try:
            with self.autocast():
                yield
        finally:
            for block in blocks:
                del block.forward


def add_shares(totals: dict[str, Tensor], values: dict[str, Tensor], share: float) -> None:
    """Adds a piece's values to those of the batch."""
    for name, value in values.items():
        part = share * value.detach()
        totals[name] = totals[name] + part if name in totals else part
