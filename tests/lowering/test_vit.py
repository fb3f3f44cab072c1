"""wdp_edge/lowering/vit.py: the lowered copy is the same function, for every form of ViT we know."""

from __future__ import annotations

import pytest
import tiny_families
import torch
from lowered_models import FORMS, error, made, spread
from tiny_families import SMALL
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.lowering.parts import Norms
from wdp_edge.lowering.swin import LoweredSwin
from wdp_edge.lowering.vit import LoweredViT, check_kept, lower, matches, quantized_layers
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, build, cut
from wdp_edge.models.vit import Prefix, fixed_heads, structure_of, tokens_of


@pytest.mark.parametrize("norms", ["folded", "native"])
@pytest.mark.parametrize("form", FORMS)
def test_lowering_is_exact(form: str, norms: Norms) -> None:
    assert isinstance(lower(made(form), norms), LoweredSwin if "depths" in FORMS[form][1] else LoweredViT)
    assert error(made(form), norms) < 1e-9


@pytest.mark.parametrize("form", ["plain", "dinov2", "distilled", "dinov3"])
def test_pixels_go_in_where_normalised_images_did(form: str) -> None:
    model = spread(made(form))
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    normalised = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        expected, got = model(normalised), lower(fold_normalization(model, mean, std))(pixels)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_quantized_layers_by_name() -> None:
    names = quantized_layers(lower(made("plain")))
    block = [f"blocks.0.{n}" for n in ("attn.q", "attn.k", "attn.v", "attn.proj", "fc1", "fc2")]
    assert names[:7] == ["embedding.patch_embed.proj", *block] and names[-1] == "head"
    assert len(names) == 2 + 3 * len(block)
    assert [n for n in names if matches(n, ["blocks.0.attn.qkv", "head"])] == [*block[:3], "head"]


def test_cut_models_with_different_widths_lower_exactly() -> None:
    spec = ModelSpec("vit_small_patch14_dinov2", 5, SMALL)
    dense = structure_of(create(spec))
    assert error(build(spec, dense.with_widths([1, 3], [8, 56]))) < 1e-9


@pytest.mark.parametrize("norms", ["folded", "native"])
@pytest.mark.parametrize(
    "form",
    [
        "plain",
        "dinov2",
        "registers",
        "average pooling",
        "no qkv bias",
        "deit3",
        "distilled",
        "packed swiglu",
        *tiny_families.EVA,
    ],
)
def test_models_without_sublayers_and_with_narrow_heads(form: str, norms: Norms) -> None:
    name, args = FORMS[form]
    model = create(ModelSpec(name, 5, args))
    channels = ((0, 1, 5), (), ()) if fixed_heads(model) is None else None
    kept = Kept(((0, 2), (), ()), ((), tuple(range(24)), ()), channels)
    assert error(cut(model, kept), norms) < 1e-9


def tokens_through(lowered: nn.Module, layers: list[str]) -> dict[str, int]:
    """How many tokens each of these layers sees of one image."""
    seen: dict[str, int] = {}
    for name in layers:
        lowered.get_submodule(name).register_forward_hook(
            lambda _, inputs, __, name=name: seen.__setitem__(name, inputs[0].shape[1])
        )
    lowered(torch.zeros(1, 3, 16, 16))
    return seen


@pytest.mark.parametrize(("form", "read"), [("plain", 1), ("distilled", 2), ("class token of a dinov3", 1)])
def test_the_last_block_computes_what_the_head_reads(form: str, read: int) -> None:
    model = made(form)
    each = tokens_of(model)
    layers = {"attn.q": read, "attn.k": each, "attn.v": each, "attn.proj": read, "fc1": read, "fc2": read}
    seen = tokens_through(lower(model), [f"blocks.{i}.{name}" for i in (1, 2) for name in layers])
    assert seen == {f"blocks.{i}.{k}": each if i == 1 else n for i in (1, 2) for k, n in layers.items()}


def test_where_the_last_block_lost_its_attention_the_one_before_it_is_the_last() -> None:
    model = cut(made("plain"), Kept(((0, 1, 2),) * 2 + ((),), (tuple(range(24)),) * 3))
    each = {"blocks.0.fc1": tokens_of(model), "blocks.1.attn.k": tokens_of(model), "blocks.1.attn.q": 1}
    each |= {"blocks.1.fc1": 1, "blocks.2.fc1": 1}
    assert tokens_through(lower(model), list(each)) == each
    assert error(model) < 1e-9


@pytest.mark.parametrize("form", ["average pooling", "max pooling"])
def test_a_head_that_reads_all_tokens_gets_all(form: str) -> None:
    model = made(form)
    assert set(tokens_through(lower(model), ["blocks.2.attn.q", "blocks.2.fc2"]).values()) == {tokens_of(model)}


def test_float32_stays_within_rounding() -> None:
    model = spread(create(ModelSpec("vit_tiny_patch16_224", 5, SMALL)))
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert float((lower(model)(x) - model(x)).abs().max()) < 1e-5


def test_the_model_itself_is_not_touched() -> None:
    model = spread(create(ModelSpec("vit_small_patch14_dinov2", 5, SMALL)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    lower(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert len(model.blocks) == 3
    assert all(p.requires_grad for p in model.parameters())


def test_other_modules_are_copied() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).train()
    lowered = lower(module)
    x = torch.randn(1, 4)
    assert lowered is not module and not lowered.training and module.training
    assert torch.equal(lowered(x), module(x))


@pytest.mark.parametrize("norms", ["folded", "native"])
@pytest.mark.parametrize("sublayers", [0, 1, 4, 6])
def test_prefixes_follow_the_residual_stream(sublayers: int, norms: Norms) -> None:
    model = spread(made("dinov2"))
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, got = Prefix(model, sublayers)(images), lower(Prefix(model, sublayers), norms)(images)
        assert torch.allclose(Prefix(model, 6)(images), model.blocks(model._pos_embed(model.patch_embed(images))))
    centred = [x - x.mean(-1, keepdim=True) for x in (expected, got)]
    assert torch.allclose(*centred, atol=1e-4)


def test_names_to_keep_in_float_must_exist() -> None:
    lowered = lower(made("plain"))
    check_kept(lowered, ("blocks.0.attn.qkv", "blocks.1.fc2", "head"))
    check_kept(lower(Prefix(made("plain"), 1)), ("blocks.1.fc2",))
    with pytest.raises(InputError, match=r"does not have: blocks\.7\.fc1, fc2\. "):
        check_kept(lowered, ("head", "blocks.7.fc1", "fc2"))
