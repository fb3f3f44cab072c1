"""Small .pte files of a ViT of one block, and what inspect tells of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_vit import lively
from torch import Tensor, nn

from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Contents, ExportOptions, OperatorCount, get_target

# One block: half the time of three.
SPEC = ModelSpec(
    "vit_tiny_patch16_224", 4, {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 4}
)
DEEP = ModelSpec(
    "vit_small_patch14_dinov2",
    4,
    {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4, "init_values": 0.5},
)
# Other heads and widths in every block, and one block less.
KEPT = Kept(heads=((0, 2, 3), (1,)), hidden=(tuple(range(0, 128, 2)), tuple(range(40))))
LINEAR = 6 + 1  # q, k, v, proj, fc1, fc2; the head
NORMS = 2 + 1  # each has a product with a constant row, too


def vit() -> Any:
    torch.manual_seed(0)
    return lively(create(SPEC))


def dense_model() -> nn.Module:
    torch.manual_seed(0)
    model = create(DEEP)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def some_images(count: int) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def exported(
    folder: Path, options: ExportOptions, model: nn.Module | None = None, example: Tensor | None = None
) -> Path:
    path, given = folder / f"{options.precision}.pte", some_images(1) if example is None else example
    get_target("executorch").export(model or vit(), given, path, options)
    return path


def tiny_file(folder: Path, metadata: dict[str, str]) -> Path:
    options = ExportOptions(Precision.FP32, metadata=metadata)
    return exported(folder, options, nn.Linear(4, 2).eval(), torch.ones(1, 4))


def inspected(path: Path) -> Contents:
    return get_target("executorch").inspect(path)


def stored(contents: Contents) -> dict[str, int]:
    return {w.dtype: w.tensors for w in contents.weights}


def counted(contents: Contents, kind: str) -> OperatorCount:
    return next(o for o in contents.operators if o.kind == kind)


def logits(path: Path, images: Tensor) -> Tensor:
    program = get_target("executorch").load(path, 1)
    return torch.cat([program(x) for x in images.split(1)])


def damaged(whole: bytes) -> bytes:
    """The delegate's graph overwritten, the program around it intact."""
    at = whole.index(b"XN01")
    return whole[: at + 4] + b"\xff" * 64 + whole[at + 68 :]
