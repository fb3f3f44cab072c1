"""Vision Transformers of other libraries at a small geometry, with weights drawn at the scale of trained ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.task import Output

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
BOTH = {**SIZE, "intermediate_size": 128}
OURS = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
OUR_SWIN = {"img_size": 32, **{key: value for key, value in SWIN.items() if key != "image_size"}}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50}


def images() -> Tensor:
    """[3, 3, 32, 32] float32."""
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def drawn(model: nn.Module) -> nn.Module:
    """With random weights that give every part a say: matrices keep the scale of what they are given."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim == 0:
                continue  # a scale of logits
            if (name.endswith("weight") and weights.ndim == 1) or "lambda1" in name:
                weights.uniform_(0.5, 1.5, generator=generator)
            elif weights.ndim == 1 and "class_embedding" not in name:
                weights.normal_(0, 0.1, generator=generator)
            elif "token" in name or ("embedding" in name and "patch" not in name):
                weights.normal_(0, 1, generator=generator)
            else:
                weights.normal_(0, weights[0].numel() ** -0.5, generator=generator)
    return model.eval()


@dataclass(frozen=True)
class Original:
    """make: the model of the other library. output: of it for images. ours: the same one in timm's words.

    unused: beginnings of the keys that ours has no use for.
    """

    make: Callable[[], Any]
    output: Callable[[Any, Tensor], Tensor]
    name: str
    classes: int = 0
    args: dict[str, Any] = field(default_factory=lambda: OURS)
    unused: tuple[str, ...] = ()

    @property
    def spec(self) -> ModelSpec:
        output = Output.LOGITS if self.classes else Output.EMBEDDING
        return ModelSpec(self.name, self.classes, self.args, output)


def difference(got: Tensor, expected: Tensor) -> float:
    """The largest, as a share of the largest value."""
    return float((got - expected).abs().max() / expected.abs().max())


def save(model: Any, path: Path, how: str) -> Path:
    """how: "folder" as the library writes it, "shards" in several files, "dict" for a state dict by torch.save."""
    if how in ("folder", "shards"):
        model.save_pretrained(path, **({"max_shard_size": "50KB"} if how == "shards" else {}))
        return path
    torch.save(model.state_dict(), path.with_suffix(".pth"))
    return path.with_suffix(".pth")
