"""Every layout of transformers: the original against what is made of its files, with the names of versions 4 and 5.

`save_pretrained` of version 5 writes the names of version 4; its state dicts in memory have those of version 5.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import transformers as hf
from heard import Heard
from originals import BOTH, OUR_SWIN, OURS, SIZE, SWIN, TEXT, Original, difference, drawn, images, save

from wdp_edge import progress
from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.files import load_dense
from wdp_edge.models.originals import compare, load_original

hf.logging.set_verbosity_error()
DINOV2 = {**SIZE, "mlp_ratio": 4}
DINOV3 = {**OURS, "global_pool": "token"}
MEAN = {**OURS, "act_layer": "gelu_tanh"}

ORIGINALS = {
    # Its norms add 1e-12 to the variance and timm's 1e-6, which is most of what sets the two apart.
    "vit-classifier": Original(
        lambda: hf.ViTForImageClassification(hf.ViTConfig(**BOTH, num_labels=5)),
        lambda m, x: m(x).logits,
        "vit_base_patch16_224",
        5,
    ),
    "vit": Original(
        lambda: hf.ViTModel(hf.ViTConfig(**BOTH)),
        lambda m, x: m(x).last_hidden_state[:, 0],
        "vit_base_patch16_224",
        unused=("pooler.",),
    ),
    "deit": Original(
        lambda: hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**BOTH, num_labels=5)),
        lambda m, x: m(x).logits,
        "deit_tiny_distilled_patch16_224",
        5,
    ),
    "dinov2": Original(
        lambda: hf.Dinov2Model(hf.Dinov2Config(**DINOV2)),
        lambda m, x: m(x).pooler_output,
        "vit_small_patch14_dinov2",
        unused=("embeddings.mask_token",),
    ),
    "dinov2-swiglu": Original(
        lambda: hf.Dinov2Model(hf.Dinov2Config(**DINOV2, use_swiglu_ffn=True)),
        lambda m, x: m(x).pooler_output,
        "vit_giant_patch14_dinov2",
        args={**OURS, "mlp_ratio": 88 * 2 / 32},
        unused=("embeddings.mask_token",),
    ),
    "dinov2-registers": Original(
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**DINOV2)),
        lambda m, x: m(x).pooler_output,
        "vit_small_patch14_reg4_dinov2",
        unused=("embeddings.mask_token",),
    ),
    "dinov3": Original(
        lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**BOTH, num_register_tokens=4)),
        lambda m, x: m(x).pooler_output,
        "vit_small_patch16_dinov3_qkvb",
        args=DINOV3,
        unused=("embeddings.mask_token",),
    ),
    "dinov3-gated": Original(
        lambda: hf.DINOv3ViTModel(
            hf.DINOv3ViTConfig(**BOTH, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu")
        ),
        lambda m, x: m(x).pooler_output,
        "vit_small_plus_patch16_dinov3_qkvb",
        args={**DINOV3, "mlp_ratio": 4},
        unused=("embeddings.mask_token",),
    ),
    # Pooled by the mean of the patches: timm's models for that leave the pooling by attention out.
    "siglip": Original(
        lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**BOTH)),
        lambda m, x: m(x).last_hidden_state.mean(1),
        "vit_base_patch16_siglip_gap_224",
        args=MEAN,
    ),
    "siglip-two-towers": Original(
        lambda: hf.SiglipModel(hf.SiglipConfig(vision_config=BOTH, text_config=TEXT)),
        lambda m, x: m.vision_model(x).last_hidden_state.mean(1),
        "vit_base_patch16_siglip_gap_224",
        args=MEAN,
        unused=("text_model.", "logit_"),
    ),
    "clip": Original(
        lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**BOTH)),
        lambda m, x: m(x).pooler_output,
        "vit_base_patch16_clip_quickgelu_224",
    ),
    "clip-projection": Original(
        lambda: hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**BOTH, projection_dim=16)),
        lambda m, x: m(x).image_embeds,
        "vit_base_patch16_clip_quickgelu_224",
        16,
    ),
    "clip-two-towers": Original(
        lambda: hf.CLIPModel(hf.CLIPConfig(vision_config=BOTH, text_config=TEXT, projection_dim=16)),
        lambda m, x: m.vision_model(x).pooler_output,
        "vit_base_patch16_clip_quickgelu_224",
        unused=("text_model.", "logit_scale", "text_projection."),
    ),
    "swin": Original(
        lambda: hf.SwinForImageClassification(hf.SwinConfig(**SWIN, num_labels=5)),
        lambda m, x: m(x).logits,
        "swin_tiny_patch4_window7_224",
        5,
        OUR_SWIN,
    ),
    "swinv2": Original(
        lambda: hf.Swinv2ForImageClassification(hf.Swinv2Config(**SWIN, num_labels=5)),
        lambda m, x: m(x).logits,
        "swinv2_tiny_window8_256",
        5,
        OUR_SWIN,
    ),
}


@pytest.mark.parametrize("how", ["folder", "dict"])
@pytest.mark.parametrize("case", ORIGINALS)
@torch.no_grad()
def test_an_imported_model_computes_what_the_original_does(case: str, how: str, tmp_path: Path) -> None:
    original = ORIGINALS[case]
    model = drawn(original.make())
    path = save(model, tmp_path / "original", how)
    ours = load_dense(original.spec, path)
    assert difference(ours(images()), original.output(model, images())) < 1e-5
    found = read_checkpoint(path)
    assert "Hugging Face" in found.source
    assert not [key for key in found.unused if not key.startswith(original.unused)]
    if how == "folder":
        same = compare(load_original(path), ours, images(), original.spec.output)
        assert same.same and type(model).__name__ in same.original


@torch.no_grad()
def test_the_pooling_by_attention_has_the_names_that_timm_gives_it(tmp_path: Path) -> None:
    model = drawn(ORIGINALS["siglip"].make())
    found = read_checkpoint(save(model, tmp_path / "original", "folder"))
    ours = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, **{**OURS, "act_layer": "gelu_tanh"})
    ours.load_state_dict(found.tensors)
    assert difference(ours.eval()(images()), model(images()).pooler_output) < 1e-5


@pytest.mark.parametrize("how", ["folder", "shards", "dict"])
def test_a_whole_siglip_says_that_it_loses_its_pooling(how: str, tmp_path: Path) -> None:
    heard = Heard()
    progress.use(heard)
    try:
        path = save(drawn(ORIGINALS["siglip-two-towers"].make()), tmp_path / "original", how)
        assert how != "shards" or len(list(path.glob("*.safetensors"))) > 1
        load_dense(ORIGINALS["siglip-two-towers"].spec, path)
    finally:
        progress.use(progress.Silent())
    (line,) = [line for line in heard.lines if "pooling by attention" in line]
    assert "vit_base_patch16_siglip_gap_224 takes the mean of the patches" in line


@torch.no_grad()
def test_a_bias_of_zero_is_none(tmp_path: Path) -> None:
    """DINOv3's smaller releases have such biases; timm's models without the ending _qkvb have none at all."""
    model = drawn(ORIGINALS["dinov3"].make())
    for name, weights in model.named_parameters():
        if name.endswith(("q_proj.bias", "v_proj.bias")):
            weights.zero_()
    original = Original(lambda: None, lambda m, x: m(x), "vit_small_patch16_dinov3", args=DINOV3)
    ours = load_dense(original.spec, save(model, tmp_path / "original", "folder"))
    assert difference(ours(images()), model(images()).pooler_output) < 1e-5
