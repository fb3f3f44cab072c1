"""Files that Meta and Microsoft released, which no package of today writes.

Their key names and shapes are listed here as the public files have them, filled with random weights; the arithmetic is
that of transformers' models of the same name, which its authors checked against the releases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import transformers as hf
from originals import BOTH, OUR_SWIN, OURS, SIZE, SWIN, Original, difference, drawn, images
from torch import Tensor, nn

from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.files import load_dense

Keys = dict[str, tuple[int, ...]]
hf.logging.set_verbosity_error()
D, HIDDEN, GATED = 32, 128, 88


def _norm(name: str) -> Keys:
    return {f"{name}.weight": (D,), f"{name}.bias": (D,)}


def _linear(name: str, rows: int, columns: int) -> Keys:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def block(number: int, mlp: Keys, prefix: str = "blocks.") -> Keys:
    """Of dinov2_vits14_pretrain.pth and of its successors."""
    at = f"{prefix}{number}."
    inside = {**_norm("norm1"), **_linear("attn.qkv", 3 * D, D), **_linear("attn.proj", D, D), "ls1.gamma": (D,)}
    inside |= {**_norm("norm2"), **mlp, "ls2.gamma": (D,)}
    return {at + key: shape for key, shape in inside.items()}


PLAIN = {**_linear("mlp.fc1", HIDDEN, D), **_linear("mlp.fc2", D, HIDDEN)}
STEM: Keys = {"patch_embed.proj.weight": (D, 3, 8, 8), "patch_embed.proj.bias": (D,), **_norm("norm")}
DINOV2: Keys = {"cls_token": (1, 1, D), "pos_embed": (1, 17, D), "mask_token": (1, D), **STEM}

# dinov2_vits14_pretrain.pth
SMALL = {**DINOV2, **block(0, PLAIN), **block(1, PLAIN)}
# dinov2_vits14_reg4_pretrain.pth
REGISTERS = {**SMALL, "register_tokens": (1, 4, D)}
# dinov2_vitg14_pretrain.pth
GIANT_MLP = {**_linear("mlp.w12", 2 * GATED, D), **_linear("mlp.w3", D, GATED)}
GIANT = {**DINOV2, **block(0, GIANT_MLP), **block(1, GIANT_MLP)}
# What DINOv2's training writes: its blocks stand in chunks.
CHUNKS = {**DINOV2, **block(0, PLAIN, "blocks.0."), **block(1, PLAIN, "blocks.1.")}
# dinov3_vits16_pretrain_lvd1689m.pth
DINOV3: Keys = {
    "cls_token": (1, 1, D),
    "storage_tokens": (1, 4, D),
    "mask_token": (1, D),
    "rope_embed.periods": (2,),
    **STEM,
    **{k: s for n in (0, 1) for k, s in {**block(n, PLAIN), f"blocks.{n}.attn.qkv.bias_mask": (3 * D,)}.items()},
}


def filled(keys: Keys) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    made = {}
    for key, shape in keys.items():
        scale = 1.0 if "token" in key or "pos_embed" in key else 0.1 if len(shape) == 1 else shape[-1] ** -0.5
        made[key] = torch.randn(shape, generator=generator) * scale
        if re.search(r"norm\d?\.weight|gamma", key):
            made[key] = 1 + made[key]
    return made


def to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As transformers' conversion scripts do it, in the names of version 4."""
    out: dict[str, Tensor] = {}
    names = (
        (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
        (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
        (r"^storage_tokens$", "embeddings.register_tokens"),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^norm\.", "layernorm."),
        (r"\.ls([12])\.gamma", r".layer_scale\1.lambda1"),
        (r"\.mlp\.w12\.", ".mlp.weights_in."),
        (r"\.mlp\.w3\.", ".mlp.weights_out."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^blocks\.", "encoder.layer."),
    )
    for key, value in weights.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        if ".attn.qkv." in key:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                out[key.replace("attn.qkv", f"attention.attention.{part}")] = third
        else:
            out[key] = value
    return out


def dinov3_to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out = {}
    for key, value in to_transformers(weights).items():
        key = key.replace("encoder.layer.", "layer.").replace("attention.output.dense", "attention.o_proj")
        for old, new in (("query", "q"), ("key", "k"), ("value", "v")):
            key = key.replace(f"attention.attention.{old}", f"attention.{new}_proj")
        key = key.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj")
        out[key.replace("layernorm.", "norm.").replace("patch_embeddings.projection", "patch_embeddings")] = value
    dropped = re.compile(r".*(?:k_proj\.bias|bias_mask|periods)")
    out["embeddings.mask_token"] = out["embeddings.mask_token"].reshape(1, 1, -1)
    return {key: value for key, value in out.items() if not dropped.fullmatch(key)}


def original(model: type[nn.Module], config: object, weights: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """transformers' model with these weights, from a file of its own: they must have all of its names and shapes."""
    made = model(config)
    made.save_pretrained(folder)  # type: ignore[operator]
    from safetensors.torch import load_file, save_file

    kept = load_file(folder / "model.safetensors")
    assert kept.keys() == weights.keys() and all(kept[k].shape == weights[k].shape for k in kept)
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    return model.from_pretrained(folder).eval()  # type: ignore[attr-defined,no-any-return]


RELEASES: dict[str, tuple[Keys, type[nn.Module], object, str, dict[str, object], Callable[..., dict[str, Tensor]]]] = {
    "dinov2": (SMALL, hf.Dinov2Model, hf.Dinov2Config(**SIZE), "vit_small_patch14_dinov2", OURS, to_transformers),
    "dinov2-registers": (
        REGISTERS,
        hf.Dinov2WithRegistersModel,
        hf.Dinov2WithRegistersConfig(**SIZE),
        "vit_small_patch14_reg4_dinov2",
        OURS,
        to_transformers,
    ),
    "dinov2-giant": (
        GIANT,
        hf.Dinov2Model,
        hf.Dinov2Config(**SIZE, use_swiglu_ffn=True),
        "vit_giant_patch14_dinov2",
        {**OURS, "mlp_ratio": 2 * GATED / D},
        to_transformers,
    ),
    "dinov2-in-chunks": (
        CHUNKS,
        hf.Dinov2Model,
        hf.Dinov2Config(**SIZE),
        "vit_small_patch14_dinov2",
        OURS,
        to_transformers,
    ),
    "dinov3": (
        DINOV3,
        hf.DINOv3ViTModel,
        hf.DINOv3ViTConfig(**BOTH, num_register_tokens=4),
        "vit_small_patch16_dinov3_qkvb",
        {**OURS, "global_pool": "token"},
        dinov3_to_transformers,
    ),
}


@pytest.mark.parametrize("release", RELEASES)
@torch.no_grad()
def test_a_release_computes_what_the_original_does(release: str, tmp_path: Path) -> None:
    keys, model, config, name, args, rename = RELEASES[release]
    weights = filled(keys)
    torch.save(weights, tmp_path / "release.pth")
    ours = load_dense(Original(lambda: None, lambda m, x: m(x), name, args=args).spec, tmp_path / "release.pth")
    theirs = original(model, config, rename(weights), tmp_path / "theirs")
    assert difference(ours(images()), theirs(images()).pooler_output) < 1e-5
    unused = read_checkpoint(tmp_path / "release.pth").unused
    assert not [key for key in unused if not key.endswith(("mask_token", "periods", "bias_mask"))]


@torch.no_grad()
def test_microsofts_swin(tmp_path: Path) -> None:
    """Its patch mergings stand at the end of a stage, and it saved buffers that are worked out today."""
    theirs = drawn(hf.SwinForImageClassification(hf.SwinConfig(**SWIN, num_labels=5)))
    theirs.save_pretrained(tmp_path / "theirs")  # type: ignore[operator]
    from safetensors.torch import load_file

    names = (
        (r"^swin\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^swin\.embeddings\.norm\.", "patch_embed.norm."),
        (r"^swin\.encoder\.", ""),
        (r"^swin\.layernorm\.", "norm."),
        (r"^classifier\.", "head."),
        (r"attention\.self\.relative", "attn.relative"),
        (r"attention\.output\.dense", "attn.proj"),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"intermediate\.dense", "mlp.fc1"),
        (r"output\.dense", "mlp.fc2"),
    )
    release: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(tmp_path / "theirs" / "model.safetensors").items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        if match := re.match(r"(.*)\.attention\.self\.(query|key|value)\.(weight|bias)", key):
            parts.setdefault(f"{match[1]}.attn.qkv.{match[3]}", {})[match[2]] = value
        else:
            release[key] = value
    release |= {key: torch.cat([found[p] for p in ("query", "key", "value")]) for key, found in parts.items()}
    release["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 16, 16)
    release["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    torch.save({"model": release}, tmp_path / "release.pth")
    spec = Original(lambda: None, lambda m, x: m(x), "swin_tiny_patch4_window7_224", 5, OUR_SWIN).spec
    ours = load_dense(spec, tmp_path / "release.pth")
    assert difference(ours(images()), theirs(images()).logits) < 1e-5
