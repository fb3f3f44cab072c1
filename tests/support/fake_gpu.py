"""A GPU that is not there: torch's meta device, whose tensors have shapes but no numbers, under a guard that refuses
operations over two devices, as a GPU does.

It shows that everything is put where it belongs. It shows nothing about numbers, autocast, speed or memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wdp_edge.learn import compute

GPU = torch.device("meta")
_aten = torch.ops.aten
_COPIES = {_aten._to_copy.default, _aten.copy_.default}


class _Guard(TorchDispatchMode):
    """Refuses two devices in one operation, and stands in for what needs numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _COPIES:
            devices = {t.device for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.ndim}
            assert len(devices) < 2, f"{func} has tensors on {' and '.join(map(str, devices))}"
        first: Any = args[0] if args else None
        on_gpu = isinstance(first, Tensor) and first.device == GPU
        if func is _aten._local_scalar_dense.default and on_gpu:  # .item()
            return 1.0
        if func is _aten._to_copy.default and on_gpu and kwargs.get("device", GPU) != GPU:
            return torch.zeros(first.shape, dtype=kwargs.get("dtype") or first.dtype)
        if func is _aten._fused_adamw_.default:
            return None
        return func(*args, **kwargs)


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, learning finds a GPU."""
    with monkeypatch.context() as patch, _Guard():  # type: ignore[no-untyped-call]
        patch.setattr(compute, "device_of", lambda wanted: GPU)
        patch.setattr(compute, "bf16_pays", lambda model, device: True)
        patch.setattr(compute, "autocast", lambda enabled, device: nullcontext())
        # By its module: `torch.optim` deletes the name.
        optimizer = sys.modules[torch.optim.Optimizer.__module__]
        patch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta", "cpu"])
        yield
