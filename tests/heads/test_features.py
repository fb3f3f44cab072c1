"""What timm's head reads, computed once; a run that is cut off goes on, and broken files are left out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from heard import Heard
from tiny_families import made
from tiny_project import write_images

from wdp_edge import progress
from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.data.preprocess import preprocessing_of
from wdp_edge.errors import InputError
from wdp_edge.heads.features import Features, read_by_head
from wdp_edge.models import vit


@pytest.fixture
def images(tmp_path: Path) -> ImageFolder:
    write_images(tmp_path / "images", 30)
    return scan(tmp_path / "images")


def features(model: Any, folder: Path, seconds: float = 0.0) -> Features:
    return Features(model, preprocessing_of(model), folder=folder, seconds=seconds)


@pytest.mark.parametrize("form", ["plain", "registers", "average pooling", "no class token", "dinov3", "swin"])
def test_they_are_what_the_head_of_timm_reads(form: str) -> None:
    model, batch = made(form), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        seen = read_by_head(model, batch)
        wanted = model.forward_head(model.forward_features(batch), pre_logits=True)
        assert torch.allclose(seen, wanted, atol=1e-5)
        assert torch.allclose(vit.classifier(model)(seen), model(batch), atol=1e-5)


def test_both_tokens_of_a_distilled_model() -> None:
    model, batch = made("distilled"), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        seen = read_by_head(model, batch)
        assert torch.allclose(seen, model.forward_features(batch)[:, :2].flatten(1), atol=1e-5)


class CutOff(progress.Silent):
    """Interrupts after some images, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.left, self.done = after, 0

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[progress.Advance]:
        yield self._advance

    def _advance(self, done: int) -> None:
        self.done += done
        self.left -= done
        if self.left <= 0:
            raise KeyboardInterrupt


@pytest.fixture
def reporter() -> Iterator[Any]:
    yield progress.use
    progress.use(progress.Silent())


def test_a_run_that_was_cut_off_goes_on(images: ImageFolder, tmp_path: Path, tiny_model: Any, reporter: Any) -> None:
    whole = features(tiny_model, tmp_path / "whole").of(images, "images")
    reporter(CutOff(64))
    with pytest.raises(KeyboardInterrupt):
        features(tiny_model, tmp_path / "kept").of(images, "images")
    rest = CutOff(1000)
    reporter(rest)
    again = features(tiny_model, tmp_path / "kept").of(images, "images")
    assert rest.done == len(images) - 64
    assert torch.equal(again.features, whole.features), "to the bit"
    reporter(rest := CutOff(1000))
    assert torch.equal(features(tiny_model, tmp_path / "kept").of(images, "images").features, whole.features)
    assert rest.done == 0


def test_a_damaged_file_is_made_again(images: ImageFolder, tmp_path: Path, tiny_model: Any) -> None:
    whole = features(tiny_model, tmp_path / "kept").of(images, "images")
    (path,) = (tmp_path / "kept").rglob("32.safetensors")
    path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(features(tiny_model, tmp_path / "kept").of(images, "images").features, whole.features)


def test_other_weights_are_other_features_but_another_head_is_not(
    images: ImageFolder, tmp_path: Path, tiny_model: Any, reporter: Any
) -> None:
    features(tiny_model, tmp_path / "kept").of(images, "images")
    with torch.no_grad():
        tiny_model.head.weight.zero_()
    reporter(seen := CutOff(1000))
    features(tiny_model, tmp_path / "kept").of(images, "images")
    assert seen.done == 0
    with torch.no_grad():
        tiny_model.cls_token += 1
    features(tiny_model, tmp_path / "kept").of(images, "images")
    assert seen.done == len(images)


def test_files_that_cannot_be_read_are_left_out_and_named(images: ImageFolder, tmp_path: Path, tiny_model: Any) -> None:
    whole = features(tiny_model, tmp_path / "whole").of(images, "images")
    (images.root / images.paths[40]).write_bytes(b"no image")
    for _ in range(2):  # read back the second time
        found = features(tiny_model, tmp_path / "kept").of(images, "images")
        assert images.paths[40] in found.left_out and "left out" in found.left_out
        assert len(found.images) == len(images) - 1 and images.paths[40] not in found.images.paths
        assert torch.equal(found.features[40], whole.features[41])
    for path in images.paths[::5]:
        (images.root / path).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"18 images in .* cannot be read"):
        features(tiny_model, tmp_path / "kept").of(images, "images")


def test_features_that_are_no_numbers(images: ImageFolder, tmp_path: Path, tiny_model: Any) -> None:
    with torch.no_grad():
        tiny_model.norm.weight.fill_(float("inf"))
    with pytest.raises(InputError, match="no finite numbers"):
        features(tiny_model, tmp_path / "kept").of(images, "images")


def test_only_the_last_used_stay(images: ImageFolder, tmp_path: Path, tiny_model: Any) -> None:
    for number in range(6):
        with torch.no_grad():
            tiny_model.cls_token.fill_(number)
        found = features(tiny_model, tmp_path / "kept")
        found.of(images, "images")
        found.release(images)
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_a_cache_that_cannot_be_written_costs_no_answer(
    images: ImageFolder, tmp_path: Path, tiny_model: Any, reporter: Any
) -> None:
    (tmp_path / "file").write_text("in the way")
    heard = Heard()
    reporter(heard)
    found = features(tiny_model, tmp_path / "file")
    assert len(found.of(images, "images").features) == len(images)
    found.release(images)
    assert len(heard.lines) == 1 and "not kept" in heard.lines[0]
