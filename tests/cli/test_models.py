"""`wdp-edge models`: what can be pruned, before anything is trained."""

from __future__ import annotations

import pytest
import timm
from tiny_project import Cli


def test_families_and_their_names(cli: Cli) -> None:
    said = cli("models", "--json")
    families = {f["name"]: f for f in said.json["families"]}
    assert said.code == 0 and set(families) == {"VisionTransformer", "Eva", "SwinTransformer", "SwinTransformerV2"}
    refused = {"vit_base_mci_224", "vit_small_r26_s32_224", "vit_base_patch16_siglip_224", "beit3_base_patch16_224"}
    assert not refused & {name for family in families.values() for name in family["names"]}
    assert "deit_small_distilled_patch16_224" in families["VisionTransformer"]["names"]
    assert "vit_small_patch16_dinov3" in families["Eva"]["names"]
    assert "channels of heads" not in families["Eva"]["dimensions"]
    assert "SwinTransformerV2" in cli("models").out


# MACs: as the papers of DeiT and Swin give them; the first is DeiT-S with one token more.
@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("deit_small_distilled_patch16_224", 4.6),
        ("vit_small_patch16_dinov3", None),
        ("swin_tiny_patch4_window7_224", 4.5),
        ("swinv2_tiny_window8_256", 5.9),
    ],
)
def test_one_model(cli: Cli, name: str, gmacs: float | None) -> None:
    found = cli("models", name, "--json").json
    assert found["parameters"] == sum(p.numel() for p in timm.create_model(name, num_classes=1000).parameters())
    assert gmacs is None or found["macs"] / 1e9 == pytest.approx(gmacs, abs=0.05)
    assert found["dimensions"][0]["name"] == "heads" and len(found["structure"]["blocks"]) == 12
    assert "parameters and" in cli("models", name).out


def test_what_cannot_be_cut_is_said(cli: Cli) -> None:
    said = cli("models", "swin_tiny_patch4_window7_224")
    assert "2 x 3, 2 x 6, 6 x 12, 2 x 24" in said.out and "heads in windows" in said.out
    small = ["--model-arg", "img_size=56", "--num-classes", "10"]
    assert cli("models", "vit_small_patch14_dinov2", *small, "--json").json["tokens"] == 17


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "it is a ResNet"),
        ("vit_base_patch16_siglip_224", "it pools by attention"),
        ("vit_small_patch16_rope_mixed_224", "learned for every head"),
        ("eva02_enormous_patch14_clip_224", "EvaBlockPostNorm"),
        ("vit_base_mci_224", "come from a HybridEmbed"),
        ("vit_tiny_r_s16_p8_224", "come from a HybridEmbed"),
    ],
)
def test_others_are_refused_with_the_reason_and_the_families(cli: Cli, name: str, reason: str) -> None:
    said = cli("models", name)
    assert said.code == 2 and reason in said.err
    assert all(family in said.err for family in ("VisionTransformer", "Eva", "SwinTransformer", "SwinTransformerV2"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["in_chans=1"], "takes images of 1 channel; images are read as RGB"),
        (["in_chans=4"], "takes images of 4 channels"),
        (["global_pool=", "depth=1"], "does not pool"),
        (["patch_drop_rate=0.5", "depth=1"], "drops patches"),
        (["patch_size=10", "dynamic_img_pad=True", "depth=1"], "cannot run an image of its own size, 224 x 224"),
        (["num_classes=7"], "num_classes is not an argument"),
        (["pretrained=True"], "pretrained is not an argument"),
        (["checkpoint_path=x.pth"], "checkpoint_path is not an argument"),
        (["depth=0"], "at least one block"),
        (["num_heads=0"], "timm cannot make"),
        (["img_size=48,32"], "img_size is the text '48,32'; a pair of numbers is written [32, 48]"),
    ],
)
def test_forms_that_cannot_be_served(words: list[str], said: str, cli: Cli) -> None:
    options = [part for word in words for part in ("--model-arg", word)]
    refused = cli("models", "vit_tiny_patch16_224", *options)
    assert refused.code == 2 and said in refused.err and "Traceback" not in refused.err


@pytest.mark.parametrize("pair", ["(48,32)", "[48, 32]", "( 48, 32 )"])
def test_a_pair_is_written_as_timm_or_json_does(pair: str, cli: Cli) -> None:
    small = ["--model-arg", "depth=1", "--model-arg", "global_pool=avg", "--model-arg", "class_token=False"]
    found = cli("models", "vit_tiny_patch16_224", "--model-arg", f"img_size={pair}", *small, "--json").json
    assert found["size"] == [48, 32] and found["tokens"] == 6
