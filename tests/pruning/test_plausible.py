"""What is said of a dense model that makes no sense of its images; outputs are drawn, the statistics are real."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wdp_edge.data.worker import IGNORED
from wdp_edge.pruning.plausible import Seen, doubts, fitting_order, guessed_as_well, renumbered

NAMES = tuple(sorted(map(str, range(12))))


def labels_of_twelve(each: int = 5) -> Tensor:
    return torch.arange(12).repeat_interleave(each)


def sure_of(labels: Tensor, classes: int) -> Tensor:
    noise = torch.randn(len(labels), classes, generator=torch.Generator().manual_seed(0))
    return noise + 20 * torch.nn.functional.one_hot(labels, classes)


def test_a_sound_model_is_not_doubted() -> None:
    labels = labels_of_twelve()
    assert doubts(Seen("classify", sure_of(labels, 12), labels, NAMES)) == []
    noisy = torch.where(torch.arange(60) % 3 == 0, labels, torch.arange(60) * 7 % 12)
    assert doubts(Seen("classify", sure_of(noisy, 12), labels, tuple("abcdefghijkl"))) == []


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_guessing_model_is_named_with_the_settings_that_mend_it(spread: float) -> None:
    outputs = spread * torch.randn(60, 12, generator=torch.Generator().manual_seed(3))
    (said,) = doubts(Seen("classify", outputs, labels_of_twelve(), NAMES))
    assert "no better than chance on 60 training images" in said
    assert all(word in said for word in ("preprocess", "mean", "std", "class_order", "checkpoint", "head"))


def test_without_labels_a_model_that_hardly_answers_is_named() -> None:
    labels, none = labels_of_twelve(), torch.zeros(60).long()
    assert doubts(Seen("classify-unlabelled", sure_of(labels, 12), none)) == []
    (same,) = doubts(Seen("classify-unlabelled", sure_of(none + 7, 12), none))
    assert "gives one class, 7, to 60 of 60 training images" in same and "preprocess" in same
    assert doubts(Seen("classify-unlabelled", sure_of(none[:20], 12), none[:20])) == []
    vague = 0.3 * torch.randn(60, 12, generator=torch.Generator().manual_seed(3))
    (unsure,) = doubts(Seen("classify-unlabelled", vague, none))
    assert "sure of nothing" in unsure and "class_order" not in unsure
    assert doubts(Seen("features", vague, none)) == []


def test_the_level_is_that_of_the_exact_test() -> None:
    # Of 10 fair guesses 10 are right once in 1024, 9 or more eleven times.
    assert not guessed_as_well(10, 10, 0.5) and guessed_as_well(9, 10, 0.5)
    assert not guessed_as_well(2, 3, 1 / 3) and guessed_as_well(1, 3, 1 / 3)  # too few to tell


def test_the_other_order_of_names_is_found() -> None:
    labels = labels_of_twelve()
    trained = tuple(map(str, range(12)))  # timm's order
    outputs = sure_of(torch.tensor([trained.index(NAMES[label]) for label in labels]), 12)
    seen = Seen("classify", outputs, labels, NAMES)
    found = fitting_order(seen)
    assert found is not None and found.order == "natural" and found.images == 60
    assert found.figures == {"alphabetical": pytest.approx(2 / 12), "natural": 1.0}
    said = doubts(seen)
    assert any('class_order = "natural"' in text and "100.0% with it" in text for text in said)
    assert doubts(renumbered(seen, trained)) == []
    assert fitting_order(Seen("classify", outputs, labels, tuple("abcdefghijkl"))) is None
    guessing = fitting_order(Seen("classify", torch.zeros(60, 12), labels, NAMES))
    assert guessing is not None and guessing.order == "alphabetical"


def test_an_order_that_nobody_knows_is_told_from_bad_preprocessing() -> None:
    labels = labels_of_twelve()
    said = doubts(Seen("classify", sure_of(11 - labels, 12), labels))
    assert any("another order than the labels" in text and "100.0% right on 30" in text for text in said)


def several(labels: Tensor, trained: list[int]) -> Seen:
    return Seen(
        "multilabel", sure_of(labels, len(trained))[:, trained], torch.eye(len(trained))[labels], ("a", "B", "c")
    )


def test_several_labels_are_held_against_other_images() -> None:
    labels = torch.arange(3).repeat(10)
    assert doubts(several(labels, [0, 1, 2])) == []
    # Trained in natural order, a B c, where the labels are in alphabetical order, B a c.
    other = Seen("multilabel", sure_of(labels, 3)[:, [1, 0, 2]], torch.eye(3)[labels], ("B", "a", "c"))
    found = fitting_order(other)
    assert found is not None and found.order == "natural" and found.images == 30
    assert found.figures["natural"] == pytest.approx(1) and found.figures["alphabetical"] < 0.7
    assert any('class_order = "natural"' in text for text in doubts(other))
    constant = Seen("multilabel", torch.ones(30, 3), torch.eye(3)[labels])
    assert "no better than chance on 30" in doubts(constant)[0]
    outputs = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    assert "no better than chance on 30" in doubts(Seen("multilabel", outputs, torch.eye(3)[labels]))[0]


def test_neighbours_are_held_against_random_ones() -> None:
    labels = torch.arange(4).repeat_interleave(10)
    assert doubts(Seen("retrieve", sure_of(labels, 4), labels)) == []
    outputs = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    assert "a random neighbour gives 23.1%" in doubts(Seen("retrieve", outputs, labels))[0]


def test_masks_are_held_against_the_commonest_class_and_other_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 2, (8, 4, 4), generator=generator)
    masks = small.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    sound = torch.stack([1.0 - small, small.float()], 1)
    assert doubts(Seen("segment", sound, masks)) == []
    (said,) = doubts(Seen("segment", torch.zeros(8, 2, 4, 4), masks))
    assert "no better than chance on 8 training images" in said and "commonest class everywhere" in said


def test_masks_of_0_and_255_are_named() -> None:
    masks = torch.zeros(8, 16, 16, dtype=torch.uint8)
    masks[:, :4] = IGNORED
    (said,) = doubts(Seen("segment", torch.zeros(8, 2, 4, 4), masks))
    assert said.startswith("No mask of 8 training images holds a class but 0: 25.0% of their pixels are 255")
    masks[0, 0, 0] = 1  # one that is ignored, as in many data sets
    assert not any("holds a class but" in text for text in doubts(Seen("segment", torch.zeros(8, 2, 4, 4), masks)))


@pytest.mark.parametrize("still", [0.0, 1e-3])
def test_embeddings_that_are_all_alike_are_named(still: float) -> None:
    generator = torch.Generator().manual_seed(0)
    alike = torch.ones(64, 8) * torch.randn(8, generator=generator) + still * torch.randn(64, 8, generator=generator)
    (said,) = doubts(Seen("features", alike, torch.zeros(64)))
    assert "almost the same embedding to all of 64 training images" in said and "checkpoint" in said
    (said,) = doubts(Seen("features", torch.zeros(64, 8), torch.zeros(64)))
    assert "weights that are zero" in said
    assert doubts(Seen("features", torch.zeros(4, 8), torch.zeros(4))) == [], "too few to tell"
    assert doubts(Seen("features", alike + 0.1 * torch.randn(64, 8), torch.zeros(64))) == []
