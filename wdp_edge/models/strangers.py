"""Weights that are no Vision Transformer's of a known kind: what they look like, by their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from wdp_edge.errors import InputError

QUANTIZED = "quantized weights"
UNQUANTIZED = "Give the weights from before they were quantized."
WHOLE = "Give the whole model: all parts of a sharded checkpoint, by its index or its folder."
_MERGE = "Merge them into the model that they were trained on (peft: model.merge_and_unload()), and save that one."
_KNOWN = (
    "Known are Vision Transformers and Swins with the names of timm, Hugging Face transformers, torchvision, OpenAI's "
    "CLIP and Meta's releases."
)
_WHOLE = f"{WHOLE} {_KNOWN}"
_Looks = tuple[tuple[str, str], ...]

# In every table the first pattern that is found in a key says what the file is.
# What changes or stores a model's weights: no model can be read from them, whatever stands beside them.
_CHANGED: _Looks = (
    (r"\.base_layer\.|^base_model\..*\.modules_to_save\.", "a model with adapters (LoRA) that are not merged into it"),
    (
        r"\.lora_[AB]\b|\.lora_(?:up|down)\.|\.lora_magnitude|\.hada_w\d_|\.lokr_w|\.ia3_l$|(?:^|\.)prompt_embeddings$",
        "adapters (LoRA or the like) without the model that they change",
    ),
    (
        r"\.(?:qweight|qzeros|g_idx|weight_packed|weight_scale(?:_inv)?|SCB|absmax|quant_map|zero_point)$"
        r"|\.quant_state\.|_packed_params|activation_post_process|\.weight_fake_quant\.",
        QUANTIZED,
    ),
)
# Marks that no model has which can be read.
_OTHERS: _Looks = (
    (r"stages\.\d+\.(?:blocks\.)?\d+\.(?:conv_dw|dwconv)\.|stages\.\d+\.layers\.\d+\.dwconv\.", "a ConvNeXt"),
    (r"^(?:.*\.)?features\.\d+\.\d+\.layer_scale$", "a ConvNeXt"),
    (r"mobilevit\.|stages\.\d+\.\d+\.transformer\.\d+\.", "a MobileViT"),
    (r"^(?:.*\.)?patch_embed\.backbone\.", "a hybrid: what stands before its blocks is a convolutional network"),
    (r"\.(?:mlp_tokens|linear_tokens|mlp_channels)\.", "an MLP-Mixer, which has no attention"),
    (
        r"\.attn_(?:block|grid)\.|\.rel_pos\.relative_position_bias_table$|\.layers\.(?:window|grid)_attention\.",
        "a MaxViT",
    ),
    (r"blocks_token_only\.|\.attn\.proj_l\.", "a CaiT"),
    (r"\.attn\.temperature$|cls_attn_blocks\.", "an XCiT"),
    (r"\.attn\.gating_param$", "a ConViT"),
    (r"\.attention_biases$", "a LeViT, TinyViT or EfficientFormer"),
    (r"(?:^|\.)(?:post_)?network\.\d+\.\d+\.attn\.", "a VOLO"),
    (r"levels\.\d+\.transformer_encoder\.", "a NesT"),
    (r"\.attn\.(?:pool_q|norm_q)\.", "an MViT"),
    (r"\.attn\.meta_mlp\.", "timm's Swin V2 CR"),
    (r"(?:^|\.)blocks\.\d+\.(?:norm_in|attn_in)\.", "a TNT"),
    (r"(?:^|\.)blocks\.\d+\.proj\.weight$", "a Hiera"),
    (r"\.rel_pos_[hw]$", "an image encoder of SAM or ViTDet, with windows and relative positions"),
    (r"\.attn\.rel_pos\.", "a Vision Transformer with relative positions"),
    (r"(?:^|\.)rope\.freqs$", "a Vision Transformer whose rotary embeddings are learned for every head"),
    (r"\.attn(?:ention)?\.(?:self\.)?sr\.|(?:segformer|glpn|pvt)\.", "a PVT or SegFormer"),
    (r"^blocks\.\d+\.attn\.relative_position_bias_table$|(?:^|\.)rel_pos_bias\.|\.lambda_1$", "a BEiT or InternViT"),
    (r"\.detection_tokens$|(?:^|\.)pre_layernorm\.", "a detection model with a ViT of its own (YOLOS, OWL-ViT)"),
    (r"(?:^|\.)time_embeddings$|\.temporal_", "a video model"),
    (r"(?:^|\.)embeds\.(?:proj|pos_embed|reg_token)", "timm's NaFlexVit"),
    (
        r"(?:^|\.)(?:layers\.\d+\.ffn\.layers\.|stages\.\d+\.blocks\.\d+\.attn\.w_msa\.)",
        "a Vision Transformer with the names of OpenMMLab",
    ),
    (r"adaLN_modulation|^(?:transformer\.)?transformer_blocks\.\d+\.|double_blocks\.\d+\.", "a diffusion transformer"),
)
# What may stand beside a tower, or around it: said where there is none.
_AROUND: _Looks = (
    (r"diffusion_model\.|down_blocks|up_blocks|input_blocks\.|decoder\.up\.|quant_conv\.", "a U-Net or VAE"),
    (
        r"(?:bbox_head|roi_heads?|rpn(?:_head)?|class_embed|bbox_embed|query_embed|bbox_predictor|dfl)\.",
        "a detection model",
    ),
    (r"masked_spec_embed|feature_extractor\.conv_layers\.", "a speech model"),
    (r"(?:^|\.)(?:word_embeddings|token_embedding|wte|embed_tokens)\.weight$", "a text encoder"),
    (r"encoder\.block\.\d+\.layer\.", "a text encoder"),
    (
        r"(?:conv_stem|_conv_stem)\.(?:first_conv\.)?(?:convolution\.)?weight$|efficientnet\.",
        "an EfficientNet or MobileNet",
    ),
    (r"features\.\d+\.\d+\.block\.|features\.\d+\.(?:conv|block)\.", "an EfficientNet or MobileNet"),
    (r"layer[1-4]\.\d+\.conv\d\.weight$|stages\.\d+\.layers\.\d+\.layer\.\d+\.convolution\.", "a ResNet"),
    (r"(?:^|\.)(?:exp_avg|exp_avg_sq|momentum_buffer)$", "the state of an optimizer"),
    (r"\.running_mean$", "a convolutional network"),
    (r"relative_position_bias_table|cls_token", "a Vision Transformer with names of no library that is known"),
)
# Of blocks whose names are known, which leave only the patch embedding to be looked for.
_BLOCKS = r"^(?:.*\.)?(?:(?<!\d\.)blocks\.\d+\.attn|encoder\.layers?\.\d+|encoder_layer_\d+|resblocks\.\d+)\."
_TEXT = r"(?:^|\.)(?:text_embeddings|token_type_embeddings)\."


def looks_like(keys: Iterable[str]) -> str:
    """In words: "a ConvNeXt"; "" for what nobody here knows."""
    return _found(keys, _CHANGED + _OTHERS + _AROUND)


def _found(keys: Iterable[str], looks: _Looks) -> str:
    names = "\n".join(map(_shown, keys))
    return next((what for pattern, what in looks if re.search(pattern, names, re.MULTILINE)), "")


def _shown(key: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", key)


def no_tower(path: Path, keys: list[str]) -> InputError:
    """For a file whose keys hold no patch embedding of a Vision Transformer."""
    what = looks_like(keys)
    if not what and any(re.match(_BLOCKS, key) for key in keys):
        return InputError(
            f"Checkpoint {path} has blocks of a transformer, but no patch embedding that is known.", _WHOLE
        )
    shown = ", ".join(_shown(key)[:60] for key in keys[:3])
    said = f"looks like {what}" if what else f"has keys of no known Vision Transformer ({shown} …)"
    return InputError(f"Checkpoint {path} {said}.", _hint(what))


def check_names(path: Path, keys: Iterable[str]) -> None:
    """keys: of a tower, without its prefix. Raises InputError where some are of no model that is known."""
    keys = list(keys)
    what = _found(keys, ((_TEXT, "a model that reads images and text together"), *_CHANGED, *_OTHERS))
    if what:
        raise InputError(f"Checkpoint {path} looks like {what}.", _hint(what))


def _hint(what: str) -> str:
    if "adapters" in what:
        return _MERGE
    if what == QUANTIZED:
        return UNQUANTIZED
    if "optimizer" in what:
        return "Give the file with the model's weights, which training saved beside it."
    return _KNOWN
