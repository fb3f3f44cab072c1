"""The optimum is that of others' logistic regression, whatever the features' scale; what is odd stays finite."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from wdp_edge.heads import fit as fitting
from wdp_edge.heads.fit import STRENGTHS, FittedHead, fit

CLASSES = 3


def blobs(count: int = 300, width: int = 8) -> tuple[Tensor, Tensor]:
    """Classes that overlap, features of very different scales and means."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % CLASSES
    centres = torch.randn(CLASSES, width, generator=generator)
    features = centres[labels] + torch.randn(count, width, generator=generator)
    return features * torch.logspace(-2, 2, width) + torch.linspace(-50, 50, width), labels


def every_fifth_held(features: Tensor, labels: Tensor, classes: int = CLASSES) -> FittedHead:
    held = list(range(0, len(features), 5))
    learn = [i for i in range(len(features)) if i % 5]
    return fit(features, labels, classes, learn, held)


def standardised(features: Tensor) -> np.ndarray:
    return ((features - features.mean(0)) / features.std(0)).numpy()


def test_it_is_the_logistic_regression_of_others() -> None:
    features, labels = blobs()
    found = every_fifth_held(features, labels)
    penalty = found.strength * 0.8 * len(features)  # of the sum of losses; see `fit`
    other = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-8).fit(standardised(features), labels.numpy())
    wanted = torch.from_numpy(other.predict_proba(standardised(features)))
    assert (found.head(features).softmax(1) - wanted).abs().max() < 0.01


def test_several_labels_are_a_yes_or_no_each() -> None:
    features, labels = blobs()
    several = torch.stack([labels == 0, labels != 1, labels < 0, labels >= 0], 1).float()
    found = every_fifth_held(features, several, 4)
    penalty = found.strength * 0.8 * len(features)
    for column in (0, 1):
        other = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-8)
        other.fit(standardised(features), several[:, column].numpy())
        wanted = torch.from_numpy(other.predict_proba(standardised(features))[:, 1])
        assert (found.head(features)[:, column].sigmoid() - wanted).abs().max() < 0.01
    outputs = found.head(features)
    assert torch.isfinite(outputs).all()
    assert (outputs[:, 2] < -3).all() and (outputs[:, 3] > 3).all(), "shown by no image, and by all"


def test_scale_and_mean_of_features_change_nothing() -> None:
    features, labels = blobs()
    one, other = every_fifth_held(features, labels), every_fifth_held(features * 3 + 7, labels)
    assert one.strength == other.strength
    assert torch.allclose(one.head(features), other.head(features * 3 + 7), atol=0.02)


def test_the_strength_is_the_best_on_images_held_back() -> None:
    features, labels = blobs()
    found = every_fifth_held(features, labels)
    assert found.strength == min(found.tried, key=lambda one: one.loss).strength
    held = slice(0, None, 5)
    loss = torch.nn.functional.cross_entropy(found.blind(features)[held], labels[held])
    assert float(loss) == pytest.approx(min(one.loss for one in found.tried), rel=1e-4)
    assert not torch.equal(found.head.weight, found.blind.weight)


def test_labels_of_other_images_are_held_down_most() -> None:
    features, labels = blobs()
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    found = every_fifth_held(features, shuffled)
    assert found.strength == STRENGTHS[0] and len(found.tried) == 3


def test_a_feature_that_never_changes_and_a_class_without_images() -> None:
    features, labels = blobs()
    features[:, 3] = 4.0
    found = every_fifth_held(features, labels, CLASSES + 1)
    assert torch.equal(found.head.weight[:, 3], torch.zeros(CLASSES + 1))
    outputs = found.head(features)
    assert torch.isfinite(outputs).all() and (outputs.argmax(1) < CLASSES).all()


def test_images_in_chunks_are_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blobs()
    whole = every_fifth_held(features, labels)
    monkeypatch.setattr(fitting, "_CHUNK", 64)
    assert torch.allclose(every_fifth_held(features, labels).head(features), whole.head(features), atol=0.02)
