"""timm's attentions seen alike: their q, k and v, and how heads and channels are cut out of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.models.eva import EvaAttention
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from torch import Tensor, nn
from torch.nn import functional as F

from wdp_edge.models.layers import keep_inputs, keep_outputs, kept

Projection = tuple[Tensor, Tensor | None]


def unsupported(attn: Any, kinds: tuple[type, ...]) -> str | None:
    """Why its heads cannot be cut, or None. kinds: the classes that the family knows."""
    if attn is None:
        return None
    if type(attn) not in kinds or getattr(attn, "gate", None) is not None:
        return "its attention is not the standard one"
    if not isinstance(getattr(attn, "norm", nn.Identity()), nn.Identity):
        return "its attention output is normalised across heads"
    return "its heads share keys and values" if getattr(attn, "num_kv_groups", 1) > 1 else None


def head_dim(attn: Any) -> int:
    """Channels of each head."""
    return int(attn.proj.in_features) // int(attn.num_heads)


def readers(attn: Any) -> tuple[nn.Linear, ...]:
    """The layers that read the stream: q, k and v in one, or three."""
    return (attn.q_proj, attn.k_proj, attn.v_proj) if _separate(attn) else (attn.qkv,)


def _separate(attn: Any) -> bool:
    return getattr(attn, "q_proj", None) is not None


def projections(attn: Any) -> list[Projection]:
    """Weight [inner, D] and bias [inner], or None, of q, k and v: parts of the parameters themselves."""
    if _separate(attn):
        return [(layer.weight, layer.bias) for layer in readers(attn)]
    biases: tuple[Tensor | None, ...] = (None,) * 3
    if attn.qkv.bias is not None:
        biases = attn.qkv.bias.chunk(3)
    elif getattr(attn, "q_bias", None) is not None:
        biases = (attn.q_bias, None, attn.v_bias)
    return list(zip(attn.qkv.weight.chunk(3), biases, strict=True))


def inner_rows(attn: Any, heads: Tensor, channels: Tensor) -> Tensor:
    """Places of these heads' channels among all of them: [heads · channels] int64."""
    return (heads[:, None] * head_dim(attn) + channels).flatten()


def cut_heads(attn: Any, heads: Tensor, channels: Tensor) -> Any:
    """The attention with these heads, [n] int64, and of each these channels, [m] int64; changed in place.

    `EvaAttention` only runs with all heads: it becomes timm's `AttentionRope`, which computes the same.
    """
    full = head_dim(attn)
    if len(heads) == attn.num_heads and len(channels) == full:
        return attn
    if isinstance(attn, EvaAttention):
        attn = as_rope_attention(attn)
    inner = inner_rows(attn, heads, channels)
    if _separate(attn):
        for layer in readers(attn):
            keep_outputs(layer, inner)
    else:
        keep_outputs(attn.qkv, torch.cat([part * attn.proj.in_features + inner for part in range(3)]))
        attn = _cut_apart(attn, heads, inner)
    keep_inputs(attn.proj, inner)
    attn.num_heads = len(heads)
    for name in ("attn_dim", "kv_dim"):
        if hasattr(attn, name):
            setattr(attn, name, len(inner))
    if hasattr(attn, "num_kv_heads"):
        attn.num_kv_heads = len(heads)
    if len(channels) != full:
        _set_head_dim(attn, len(channels))
    return attn


def _cut_apart(attn: Any, heads: Tensor, inner: Tensor) -> Any:
    """Cuts what stands beside qkv: separate biases, and relative positions."""
    if getattr(attn, "q_bias", None) is not None:
        attn.q_bias, attn.v_bias = kept(attn.q_bias, inner), kept(attn.v_bias, inner)
        attn.k_bias = attn.k_bias[inner].clone()
    if hasattr(attn, "relative_position_bias_table"):
        attn.relative_position_bias_table = kept(attn.relative_position_bias_table, heads)
    if not hasattr(attn, "cpb_mlp"):
        return attn
    attn.logit_scale = nn.Parameter(attn.logit_scale.detach()[heads].clone())
    keep_outputs(attn.cpb_mlp[-1], heads)
    return CutWindowAttention(attn)


class CutWindowAttention(CosineWindowAttention):
    """The attention of Swin V2 with any number of heads: timm's own takes heads as wide as the stream together only."""

    def __init__(self, attn: Any) -> None:
        """Takes over all of `attn`; saved weights keep their names."""
        nn.Module.__init__(self)
        self.__dict__.update(attn.__dict__)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: [B · windows, N, C], mask: [windows, N, N] -> [B · windows, N, C]."""
        tokens = x.shape[1]
        bias = None if self.q_bias is None else torch.cat((self.q_bias, self.k_bias, self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        scores = scores * cosine_scale(self) + window_bias(self)
        if mask is not None:
            per_window = scores.unflatten(0, (-1, len(mask))) + mask[:, None]
            scores = per_window.flatten(0, 1)
        out = self.attn_drop(scores.softmax(-1)) @ v
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(len(x), tokens, -1))
        return self.proj_drop(projected)


def cosine_scale(attn: Any) -> Tensor:
    """What cosines of q and k are multiplied by in Swin V2, at most 100: [heads, 1, 1]."""
    scale: Tensor = attn.logit_scale.clamp(max=math.log(100.0)).exp()
    return scale


def window_bias(attn: Any) -> Tensor:
    """What is added to the scores of a window's tokens by their places: [heads, N, N]."""
    area = attn.window_size[0] * attn.window_size[1]
    if hasattr(attn, "cpb_mlp"):
        table = attn.cpb_mlp(attn.relative_coords_table).reshape(-1, attn.num_heads)
    else:
        table = attn.relative_position_bias_table
    bias: Tensor = table[attn.relative_position_index.flatten()].reshape(area, area, -1).permute(2, 0, 1)
    return 16 * bias.sigmoid() if hasattr(attn, "cpb_mlp") else bias


@torch.no_grad()
def _set_head_dim(attn: Any, width: int) -> None:
    """timm scales q·k by head_dim^-0.5: what changes with it goes into q."""
    attn.head_dim, scale = width, attn.scale
    attn.scale = width**-0.5
    for part in projections(attn)[0]:
        if part is not None:
            part *= scale / attn.scale


def as_rope_attention(attn: Any) -> AttentionRope:
    """An `EvaAttention` as timm's `AttentionRope` with separate q, k and v, which takes any number of heads."""
    made: Any = AttentionRope(
        attn.proj.out_features,
        num_heads=attn.num_heads,
        attn_head_dim=head_dim(attn),
        qkv_bias=False,
        qkv_fused=False,
        num_prefix_tokens=attn.num_prefix_tokens,
        rotate_half=attn.rotate_half,
        device="meta",
    )
    parts = zip(("q_proj", "k_proj", "v_proj"), projections(attn), strict=True)
    for name, (weight, bias) in parts:
        setattr(made, name, _linear(weight, bias))
    for name in ("proj", "q_norm", "k_norm", "attn_drop", "proj_drop"):
        setattr(made, name, getattr(attn, name))
    made.fused_attn = attn.fused_attn
    return made.train(attn.training)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """weight: [out, in], bias: [out] or None -> a layer of its own."""
    every = torch.arange(len(weight))
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = kept(bias, every)
    return layer


def plain(attn: Any) -> bool:
    """Whether nothing but q, k and v decides what is attended to: no positions, no norms of q and k."""
    return type(attn) is Attention and isinstance(attn.q_norm, nn.Identity)
