"""models/strangers.py: weights of other models are called what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision.models as tv
import transformers as hf
from originals import SIZE, TEXT
from safetensors.torch import save_file
from tiny_families import FORMS, spec_of

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.spec import create
from wdp_edge.models.strangers import check_names, looks_like

TIMM = {
    "resnet18": "a ResNet",
    "convnext_atto": "a ConvNeXt",
    "mobilenetv3_small_050": "an EfficientNet or MobileNet",
    "regnety_002": "a convolutional network",
    "mobilevit_xxs": "a MobileViT",
    "mixer_s32_224": "an MLP-Mixer",
    "maxvit_rmlp_pico_rw_256": "a MaxViT",
    "vit_tiny_r_s16_p8_224": "a hybrid",
    "hiera_tiny_224": "a Hiera",
    "samvit_base_patch16": "an image encoder of SAM",
    "beit_base_patch16_224": "a BEiT",
    "pvt_v2_b0": "a PVT",
    "vit_relpos_small_patch16_224": "a Vision Transformer with relative positions",
    "vit_small_patch16_rope_mixed_224": "a Vision Transformer whose rotary embeddings",
    "naflexvit_base_patch16_gap": "timm's NaFlexVit",
}


@pytest.mark.parametrize("name", TIMM)
def test_other_models_of_timm(name: str) -> None:
    with torch.device("meta"):
        keys = timm.create_model(name).state_dict()
    assert looks_like(keys).startswith(TIMM[name])


def test_other_models_of_torchvision() -> None:
    with torch.device("meta"):
        assert looks_like(tv.convnext_tiny().state_dict()) == "a ConvNeXt"
        assert looks_like(tv.mobilenet_v3_small().state_dict()) == "an EfficientNet or MobileNet"
        detector = tv.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    assert looks_like(detector.state_dict()) == "a detection model"


VISION = {**SIZE, "intermediate_size": 64}
OTHERS = {
    "a text encoder": lambda: hf.BertModel(hf.BertConfig(**TEXT)),
    "a BEiT": lambda: hf.BeitModel(hf.BeitConfig(**VISION)),
    "a model that reads images and text": lambda: hf.ViltModel(hf.ViltConfig(**VISION, vocab_size=50)),
    "a video model": lambda: hf.TimesformerModel(hf.TimesformerConfig(**VISION)),
    "a video model: its patches": lambda: hf.VivitModel(hf.VivitConfig(**VISION)),
    "a detection model with a ViT": lambda: hf.YolosModel(hf.YolosConfig(**{**VISION, "image_size": [32, 32]})),
    "images of 1 channel": lambda: timm.create_model("vit_tiny_patch16_224", depth=1, in_chans=1),
    "images as lists of patches": lambda: hf.Siglip2VisionModel(
        hf.Siglip2VisionConfig(**{k: v for k, v in VISION.items() if k != "image_size"}, num_patches=16)
    ),
    "a text encoder, and a tower of names that are not known": lambda: hf.BlipModel(
        hf.BlipConfig(vision_config=VISION, text_config=TEXT)
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_models_are_named(what: str, tmp_path: Path) -> None:
    torch.save(OTHERS[what]().state_dict(), tmp_path / "w.pth")  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match=rf"w\.pth (looks like|reads) {what.split(',')[0]}") as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert caught.value.hint


KEYS = {
    "a text encoder": ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.dense.weight"],
    "a detection model": ["roi_head.bbox_head.fc.weight", "layer1.0.conv1.weight"],
    "adapters (LoRA or the like) without": ["base.blocks.0.attn.qkv.lora_A.default.weight"],
    "a model with adapters (LoRA)": [
        "base_model.model.patch_embed.proj.weight",
        "base_model.model.blocks.0.attn.qkv.base_layer.weight",
        "base_model.model.blocks.0.attn.qkv.lora_A.default.weight",
    ],
    "quantized weights": ["patch_embed.proj.weight", "blocks.0.attn.qkv.qweight", "blocks.0.attn.qkv.scales"],
    "the state of an optimizer": ["step", "exp_avg", "exp_avg_sq"],
    "a U-Net or VAE": ["time_embedding.linear_1.weight", "down_blocks.0.resnets.0.conv1.weight"],
    "a diffusion transformer": ["x_embedder.proj.weight", "blocks.0.adaLN_modulation.1.weight"],
    "a Vision Transformer with the names of OpenMMLab": ["backbone.cls_token", "backbone.layers.0.ffn.layers.0.0.bias"],
}


@pytest.mark.parametrize("what", KEYS)
def test_by_their_keys(what: str, tmp_path: Path) -> None:
    save_file({key: torch.ones(1) for key in KEYS[what]}, tmp_path / "w.safetensors")
    with pytest.raises(InputError) as caught:
        read_checkpoint(tmp_path / "w.safetensors")
    assert f"w.safetensors looks like {what}" in caught.value.message and caught.value.hint


def test_blocks_without_what_reads_the_image(tmp_path: Path) -> None:
    save_file({"blocks.7.attn.qkv.weight": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="no patch embedding") as caught:
        read_checkpoint(tmp_path / "w.safetensors")
    assert "all parts of a sharded checkpoint" in caught.value.hint


@pytest.mark.parametrize("form", FORMS)
def test_models_that_can_be_read_are_no_strangers(form: str) -> None:
    check_names(Path("w.pth"), create(spec_of(form)).state_dict())


def test_what_nobody_knows_is_shown_without_control_characters(tmp_path: Path) -> None:
    assert looks_like(["a.b"]) == ""
    save_file({"odd\x1b[31m.weight": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError) as caught:
        read_checkpoint(tmp_path / "w.safetensors")
    assert "\x1b" not in str(caught.value) and "odd?[31m.weight" in caught.value.message
