"""Other ways to prepare images, tried on models that read a colour, a brightness or a rim, and on real image files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.listed import images_at
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.protocols.task import Labels
from wdp_edge.pruning.alternatives import SECONDS, Sampled, Tried, fewest_wins, try_others
from wdp_edge.pruning.first_look import judged, look
from wdp_edge.pruning.plausible import Seen, scores_of, surpasses
from wdp_edge.pruning.ways import Way

HALF = (0.5, 0.5, 0.5)
AS_SET = Preprocessing((16, 16), HALF, HALF, "bicubic", 1.0)
Answer = Callable[[Tensor], Tensor]


def written(root: Path, paint: Callable[[np.random.Generator, int], np.ndarray], each: int = 16) -> ImageFolder:
    """Images of classes 0, 1 and 2 as `paint` makes their pixels."""
    rng = np.random.default_rng(0)
    for label in range(3):
        (root / str(label)).mkdir()
        for number in range(each):
            pixels = paint(rng, label).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / str(label) / f"{number:02}.png")
    return images_at(root, Labels.ONE)


def coloured(rng: np.random.Generator, label: int) -> np.ndarray:
    """Red, green and blue ones; some have no colour."""
    pixels = rng.integers(0, 120, (16, 16, 3))
    pixels[..., label] += 60 if rng.random() < 0.9 else 0
    return pixels


def framed(rng: np.random.Generator, label: int) -> np.ndarray:
    """A dark, grey or bright rim around noise."""
    pixels = rng.integers(0, 255, (32, 32, 3))
    inside = pixels[2:-2, 2:-2].copy()
    pixels[:] = 20 + 100 * label
    pixels[2:-2, 2:-2] = inside
    return pixels


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    return written(tmp_path_factory.mktemp("colours"), coloured)


def by_colour(images: Tensor) -> Tensor:
    """Logits of red, green, blue."""
    return images.mean((2, 3))


def nearest(levels: Tensor, wanted: Tensor) -> Tensor:
    return -(levels[:, None] - wanted[None, :]).abs()


def by_rim(images: Tensor) -> Tensor:
    """Logits of a dark, grey and bright outermost row of pixels in [0, 1] normalised by 0.5."""
    rim = torch.cat([images[..., 0, :], images[..., -1, :]], -1).mean((1, 2))
    return nearest(rim, torch.tensor([20.0, 120.0, 220.0]) / 127.5 - 1)


def sampled(
    folder: ImageFolder, answer: Answer, preprocessing: Preprocessing = AS_SET, task: str = "classify"
) -> Sampled:
    return look(answer, folder, Way(preprocessing, AS_SET), task)[0]


def tried_on(found: Sampled, seconds: float = SECONDS) -> Tried:
    score = scores_of(found.seen.task)
    assert score is not None
    return try_others(found, score, seconds)


def test_a_model_that_is_right_is_not_asked_again(tmp_path: Path) -> None:
    found = sampled(written(tmp_path, framed), by_rim)
    assert found.seen.metric == 1.0

    def refuses(images: Tensor) -> Tensor:
        raise AssertionError

    tried = tried_on(replace(found, answer=refuses))
    assert tried.fit is None and "much better" in tried.why_not
    look = judged(found).look
    assert look is not None and look.memorised
    right = found.seen.labels.clone()
    right[::8] = (right[::8] + 1) % 3
    other = judged(replace(found, seen=replace(found.seen, labels=right))).look
    assert other is not None and other.value == pytest.approx(0.875, abs=0.01) and not other.memorised


def test_another_order_of_channels_is_found(colours: ImageFolder) -> None:
    found = judged(sampled(colours, lambda images: by_colour(images.flip(1))))
    assert found.look is not None and found.look.fit is not None
    assert found.look.fit.settings == {"channels": "bgr"}
    assert found.look.fit.as_set < 0.5 and found.look.fit.value > 0.85
    *others, said = found.warnings
    assert any("another order than the labels" in other for other in others)  # red and blue exchanged fit as well
    assert 'Set channels = "bgr" under preprocess in [data] (--preprocess channels=bgr of init)' in said
    assert "blue, green, red instead of red, green, blue" in found.look.line


def of_imagenet_reversed(images: Tensor) -> Tensor:
    """Logits of colours, the channels blue, green, red; all wrong unless black is where ImageNet's mean has it."""
    logits, sound = by_colour(images.flip(1)), images.amin((1, 2, 3)) < -1.95
    wrong = torch.eye(3)[(logits.argmax(1) != 1).long()]
    return torch.where(sound[:, None], logits, wrong)


def test_two_things_are_found_one_after_the_other(colours: ImageFolder) -> None:
    raw = replace(AS_SET, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    found = judged(sampled(colours, of_imagenet_reversed, raw))
    assert found.look is not None and found.look.fit is not None
    fit, (said,) = found.look.fit, found.warnings
    assert fit.settings.get("channels") == "bgr", fit
    assert fit.settings["mean"] == [0.485, 0.456, 0.406] and fit.value > 0.85
    assert "--preprocess mean=0.485,0.456,0.406 --preprocess std=0.229,0.224,0.225" in said


def test_a_crop_that_cuts_off_what_matters_is_found(tmp_path: Path) -> None:
    found = tried_on(sampled(written(tmp_path, framed), by_rim, replace(AS_SET, crop_pct=0.7)))
    assert found.fit is not None and found.fit.settings == {"crop_pct": 1.0, "crop_mode": "center"}
    assert found.fit.words == "a crop of 1 instead of 0.7"
    assert found.fit.value == 1.0 and found.fit.as_set < 0.6


def test_short_time_is_spent_on_what_is_far_better(colours: ImageFolder) -> None:
    asked = list[int]()

    def answer(images: Tensor) -> Tensor:
        asked.append(len(images))
        return by_colour(images.flip(1))

    found = sampled(colours, answer)
    asked.clear()
    tried = tried_on(found, seconds=0.0)
    assert tried.fit is not None and tried.fit.settings == {"channels": "bgr"}
    assert sum(asked) < 3 * len(colours)  # where there is time, nine ways are


def test_a_model_that_guesses_is_told_what_was_tried(colours: ImageFolder) -> None:
    generator = torch.Generator().manual_seed(0)
    found = judged(sampled(colours, lambda images: torch.randn(len(images), 3, generator=generator)))
    assert found.look is not None and found.look.fit is None and len(found.look.tried) == 9
    assert "no better than chance" in found.warnings[0]
    assert "CLIP's mean and std" in found.warnings[0] and "bilinear" in found.warnings[0]


def test_of_several_that_fit_alike_the_usual_one_is_named(colours: ImageFolder) -> None:
    def unless_raw(images: Tensor) -> Tensor:
        return by_colour(images) if images.abs().max() < 10 else torch.zeros(len(images), 3)

    raw = replace(AS_SET, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    found = tried_on(sampled(colours, unless_raw, raw)).fit
    assert found is not None and found.settings == {"mean": [0.5] * 3, "std": [0.5] * 3}


def test_the_level_is_shared_by_all_ways() -> None:
    assert [fewest_wins(0.01), fewest_wins(0.01 / 9)] == [7, 10]
    assert surpasses(10, 0, 0.01 / 9) and not surpasses(9, 0, 0.01 / 9) and not surpasses(10, 1, 0.01 / 9)


@pytest.mark.parametrize("task", ["retrieve", "multilabel"])
def test_other_tasks_are_tried_by_their_own_measure(colours: ImageFolder, task: str) -> None:
    def answer(images: Tensor) -> Tensor:
        logits = 8 * by_colour(images.flip(1)) if task == "multilabel" else by_colour(images)
        blind = torch.ones_like(logits) if float(images.min()) >= 0 else logits
        return torch.nn.functional.normalize(blind, dim=1) if task == "retrieve" else blind

    folder = replace(colours, several=tuple((label,) for label in colours.labels)) if task == "multilabel" else colours
    as_set = replace(AS_SET, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)) if task == "retrieve" else AS_SET
    found = judged(sampled(folder, answer, as_set, task)).look
    assert found is not None and found.fit is not None, found
    assert ("mean" if task == "retrieve" else "channels") in found.fit.settings
    assert found.fit.value > found.fit.as_set + 0.2


def test_masks_follow_their_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(24):
        left = rng.integers(20, 44)
        mask = (np.arange(64)[None, :] < left).repeat(64, 0).astype(np.uint8)
        pixels = rng.integers(0, 60, (64, 64, 3))
        pixels[..., 2] += 150 * mask
        for part, values in (("images", pixels), ("masks", mask)):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / part / f"{number:02}.png")
    folder = images_at(tmp_path, Labels.MASK).with_classes(("0", "1"))

    def answer(images: Tensor) -> Tensor:
        blue = torch.nn.functional.avg_pool2d(images, 4)[:, 0]
        return torch.stack([-blue - 0.2, blue + 0.2], 1)

    found = judged(sampled(folder, answer, task="segment")).look
    assert found is not None and found.fit is not None
    assert found.fit.settings == {"channels": "bgr"} and found.fit.value > 0.8 > found.fit.as_set


def test_an_image_that_shows_several_classes_scores_by_their_ranks() -> None:
    outputs, labels = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    score = scores_of("multilabel")
    assert score is not None
    assert score(Seen("multilabel", outputs, labels)).tolist() == pytest.approx([(1 + 2 / 3) / 2, 1.0])
