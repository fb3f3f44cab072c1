from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import FORMS, made
from tiny_vit import lively

from wdp_edge.models import vit
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.shrink.compensation import compensate, plan_repairs
from wdp_edge.shrink.gram import Moments
from wdp_edge.shrink.saliency import removal, saliency
from wdp_edge.shrink.streams import Streams
from wdp_edge.task import Output

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}


def prepare(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 127.5 - 1


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures: [n, 3, 16, 16] uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size=16, mode="bilinear") * 255).byte()


def halved(model: Any, depth: int | None = None) -> Kept:
    blocks = vit.structure_of(model).blocks[:depth]
    return Kept(tuple(tuple(range(0, b.heads, 2)) for b in blocks), tuple(tuple(range(0, b.hidden, 2)) for b in blocks))


def error(model: Any, small: Any, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(prepare(images)) - small(prepare(images))).square().mean())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("depth", [3, 2])
def test_compensation_repairs_a_cut_on_images_it_has_not_seen(form: str, depth: int) -> None:
    model = made(form)
    small = cut(model, halved(model, depth))
    before = error(model, small, pictures(64, seed=9))
    compensate(model, small, pictures(256), prepare)
    after = error(model, small, pictures(64, seed=9))
    assert after < 0.5 * before


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


def test_moments_are_least_squares_and_do_not_grow_with_the_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(5, 7, generator=generator), torch.randn(5, generator=generator)
    moments = Moments(7, 5)
    size = {name: value.numel() for name, value in vars(moments).items() if isinstance(value, torch.Tensor)}
    for _ in range(20):
        z = torch.randn(50, 7, generator=generator) + 3
        moments.add(z, z @ weight.T + bias)
    got_weight, got_bias = moments.solve(1e-9)
    assert torch.allclose(got_weight, weight, atol=1e-4)
    assert torch.allclose(got_bias, bias, atol=1e-3)
    assert size == {name: value.numel() for name, value in vars(moments).items() if isinstance(value, torch.Tensor)}


def test_streams_leave_no_file(tmp_path: Path) -> None:
    with Streams(10, (3, 4), tmp_path, chunk=4) as streams:
        for part in streams.chunks():
            x = torch.full((part.stop - part.start, 3, 4), float(part.start))
            streams.write(part, x, x + 1)
        streams.update(lambda dense, small: (dense * 2, small))
        dense, small = streams.read(slice(8, 10))
        assert dense.unique().tolist() == [16.0] and small.unique().tolist() == [9.0]
    assert list(tmp_path.iterdir()) == []


def test_removal_goes_for_redundant_and_silent_units_first() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 6, generator=generator, dtype=torch.float64)
    z[:, 1] = z[:, 0] + 0.01 * torch.randn(2000, generator=generator, dtype=torch.float64)
    z[:, 4] *= 1e-3
    covariance = torch.cov(z.T)
    found = removal(covariance, torch.eye(6, dtype=torch.float64), 1, 1)
    assert found.order[0] == 4
    assert found.order[1] in (0, 1)
    assert sorted(found.order) == list(range(6))
    assert list(found.cost) == sorted(found.cost) and found.cost[0] == 0


def test_removal_cost_is_the_residual_of_the_refit() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    z = torch.randn(5000, 8, generator=generator, dtype=torch.float64) @ mix
    z -= z.mean(0)
    weight = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    found = removal(z.T @ z / len(z), weight, 2, 1)
    for gone in (1, 2, 3):
        kept = [c for unit in found.keep(4 - gone) for c in (2 * unit, 2 * unit + 1)]
        target = z @ weight.T
        residual = target - z[:, kept] @ torch.linalg.lstsq(z[:, kept], target).solution
        assert found.cost[gone] == pytest.approx(float(residual.square().sum(1).mean()), rel=0.05)


@pytest.mark.parametrize("form", FORMS)
def test_saliency_knows_every_form(form: str) -> None:
    model = made(form)
    found = saliency(model, pictures(64), prepare, seed=0)
    for block, heads, hidden in zip(vit.structure_of(model).blocks, found.heads, found.hidden, strict=True):
        assert sorted(heads.order) == list(range(block.heads)) and sorted(hidden.order) == list(range(block.hidden))
        assert 0 < heads.cost[-1] < float("inf") and 0 < hidden.cost[-1] < float("inf")


def test_saliency_covers_every_unit_and_leaves_the_model_alone(tiny_model: Any) -> None:
    before = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    found = saliency(tiny_model, pictures(64), prepare, seed=0)
    assert [sorted(r.order) for r in found.heads] == [[0, 1, 2, 3]] * 3
    assert all(sorted(r.order) == list(range(128)) for r in found.hidden)
    assert all(torch.equal(before[k], v) for k, v in tiny_model.state_dict().items())
    assert all(p.requires_grad for p in tiny_model.parameters())


def test_saliency_beats_the_opposite_choice(tiny_model: Any) -> None:
    found = saliency(tiny_model, pictures(256), prepare, seed=0)
    good = Kept(tuple(r.keep(2) for r in found.heads), tuple(r.keep(40) for r in found.hidden))
    bad = Kept(
        tuple(tuple(sorted(r.order[:2])) for r in found.heads), tuple(tuple(sorted(r.order[:40])) for r in found.hidden)
    )
    errors = []
    for kept in (good, bad):
        small = cut(tiny_model, kept)
        compensate(tiny_model, small, pictures(256), prepare)
        errors.append(error(tiny_model, small, pictures(64, seed=9)))
    assert errors[0] < errors[1]


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
    found = saliency(part, pictures(64), prepare, seed=0)
    assert [len(r.order) for r in found.heads] == [3, 0, 2] and [len(r.order) for r in found.hidden] == [64, 64, 0]
    assert found.heads[1].keep(0) == () and found.heads[1].lost(0) == 0
    small = cut(part, Kept(tuple(r.keep(len(r.order) // 2) for r in found.heads), ((0, 1, 2), (3,), ())))
    before = error(part, small, pictures(64, seed=9))
    compensate(part, small, pictures(128), prepare)
    assert error(part, small, pictures(64, seed=9)) < before
