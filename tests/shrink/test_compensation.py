"""The stream refitted after a cut: closer to the dense model on images that were not seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from cut_models import error, halved, pictures, prepare, saliency_of
from tiny_families import FORMS, made
from tiny_vit import lively

from wdp_edge.models import vit
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.task import Output
from wdp_edge.shrink import compensation
from wdp_edge.shrink.compensation import compensate, plan_repairs
from wdp_edge.shrink.streams import Streams

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("depth", [3, 2])
def test_compensation_repairs_a_cut_on_images_it_has_not_seen(form: str, depth: int) -> None:
    model = made(form)
    small = cut(model, halved(model, depth))
    before = error(model, small, pictures(64, seed=9))
    compensate(model, small, pictures(256), prepare)
    after = error(model, small, pictures(64, seed=9))
    assert after < 0.5 * before


@pytest.mark.parametrize(("images", "least", "most"), [(36, 0.4, 0.85), (256, 0.8, 1.1)])
def test_an_exit_s_head_is_held_back_where_images_are_few(
    images: int, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads one token of each image: of hardly more images than inputs least squares learns by heart. A third less
    error for 36 images where this was written, none for 256."""
    model, others, errors = made("registers"), pictures(256, seed=9), []
    for ridges in (compensation.EXIT_RIDGES, compensation.EXIT_RIDGES[:1]):
        monkeypatch.setattr(compensation, "EXIT_RIDGES", ridges)
        small = cut(model, halved(model, 2))
        compensate(model, small, pictures(images), prepare)
        errors.append(error(model, small, others))
    assert least < errors[0] / errors[1] < most


def test_every_block_is_refitted(tiny_model: Any) -> None:
    small = cut(tiny_model, halved(tiny_model))
    before = copy.deepcopy(small)
    compensate(tiny_model, small, pictures(128), prepare)
    for number, (old, new) in enumerate(zip(before.blocks, small.blocks, strict=True)):
        assert not torch.allclose(old.attn.proj.weight, new.attn.proj.weight)
        assert not torch.allclose(old.mlp.fc2.weight, new.mlp.fc2.weight)
        assert not torch.allclose(old.mlp.fc1.weight, new.mlp.fc1.weight)
        # The first reader finds the stream that it was trained on.
        assert torch.allclose(old.attn.qkv.weight, new.attn.qkv.weight) == (number == 0)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_readers_give_what_they_gave_for_the_dense_stream(form: str) -> None:
    """On images that were not seen, and better than with the weights that they had."""
    model = made(form)
    kept = halved(model)
    small, old = cut(model, kept), cut(model, kept)
    # A Swin's last stage has one token of each image, and as many channels as 256 images would tell.
    compensate(model, small, pictures(1024 if "swin" in form else 256), prepare)
    images = prepare(pictures(128, seed=9))
    x, y = vit.embed(model, images), vit.embed(small, images)
    parts = zip(vit.sublayers(model), vit.sublayers(small), vit.sublayers(old), strict=True)
    better = []
    for dense, refitted, before in parts:
        assert dense is not None and refitted is not None and before is not None
        wanted, found = before.norm(before.enter(x)), before.norm(before.enter(y))
        for now, then in zip(refitted.readers, before.readers, strict=True):
            target = then(wanted)
            better.append(bool((now(found) - target).square().mean() <= (then(found) - target).square().mean()))
        x, y = dense(x), refitted(y)
    assert all(better)


@pytest.mark.parametrize("output", [Output.EMBEDDING, Output.UNIT])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_gap_224"])
@pytest.mark.parametrize("depth", [3, 2])
def test_embeddings_are_repaired_too_also_at_an_exit(name: str, output: Output, depth: int) -> None:
    """At an exit the head has no weights to fit; the last sub-layer that stays takes them."""
    torch.manual_seed(0)
    model = lively(create(ModelSpec(name, 0, TINY, output)))
    small = cut(model, halved(model, depth))
    before = error(model, small, pictures(64, seed=9))
    compensate(model, small, pictures(256), prepare)
    assert error(model, small, pictures(64, seed=9)) < 0.5 * before


def test_an_exit_without_weights_aims_at_the_end_of_the_dense_stream() -> None:
    model = create(ModelSpec("vit_tiny_patch16_224", 0, TINY, Output.EMBEDDING))
    dense, repairs = vit.sublayers(model), plan_repairs(model, cut(model, halved(model, 2)))
    assert [len(r.dense) for r in repairs] == [1, 1, 1, 3]
    assert [s.inner for s in repairs[-1].dense] == [s.inner for s in dense[3:] if s is not None]


def test_nothing_cut_changes_nothing_that_matters(tiny_model: Any) -> None:
    dense = vit.structure_of(tiny_model)
    small = cut(tiny_model, Kept.first(dense))
    compensate(tiny_model, small, pictures(512), prepare)
    assert error(tiny_model, small, pictures(64, seed=9)) < 1e-3


def test_the_result_does_not_depend_on_the_chunks(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for chunk in (16, 128):
        monkeypatch.setattr(Streams.__init__, "__defaults__", (None, chunk))
        small = cut(tiny_model, halved(tiny_model))
        compensate(tiny_model, small, pictures(96), prepare)
        results.append(small.blocks[2].mlp.fc2.weight.clone())
    assert torch.allclose(*results, atol=1e-4)


def test_a_dropped_sublayer_is_taken_over_by_the_one_before_it(tiny_model: Any) -> None:
    every, hidden = (0, 1, 2, 3), tuple(range(128))
    small = cut(tiny_model, Kept(((), every, every), (hidden, (), hidden)))
    whole, left = vit.sublayers(tiny_model), vit.sublayers(small)
    assert [(r.small, r.dense) for r in plan_repairs(tiny_model, small)] == [
        (None, [whole[0]]),
        (left[1], [whole[1]]),
        (left[2], whole[2:4]),
        (left[4], [whole[4]]),
        (left[5], [whole[5]]),
    ]
    before = error(tiny_model, small, pictures(64, seed=9))
    compensate(tiny_model, small, pictures(256), prepare)
    assert error(tiny_model, small, pictures(64, seed=9)) < 0.5 * before


def test_a_model_without_a_sublayer_is_cut_further(tiny_model: Any) -> None:
    part = cut(tiny_model, Kept(((0, 1, 2), (), (0, 1)), (tuple(range(64)), tuple(range(64)), ())))
    found = saliency_of(part, pictures(64))
    assert [len(r.order) for r in found.heads] == [3, 0, 2] and [len(r.order) for r in found.hidden] == [64, 64, 0]
    assert found.heads[1].keep(0) == () and found.heads[1].lost(0) == 0
    small = cut(part, Kept(tuple(r.keep(len(r.order) // 2) for r in found.heads), ((0, 1, 2), (3,), ())))
    before = error(part, small, pictures(64, seed=9))
    compensate(part, small, pictures(128), prepare)
    assert error(part, small, pictures(64, seed=9)) < before
