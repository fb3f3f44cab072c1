"""tasks/by_class.py: intervals keep their promise, and nothing is NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial
from sklearn.metrics import average_precision_score

from wdp_edge.commands.check import class_limit
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels, Output, Task, get_task, task_names
from wdp_edge.runs.drops import Drops
from wdp_edge.tasks.by_class import average_precision, image_drops, paired_drops, paired_interval, widened

NAMES = ("ant", "bee", "cat", "dog")
shares = st.floats(0, 1)
counts = st.integers(0, 60)


def interval(lost: int, gained: int, images: int) -> tuple[float, float]:
    low, high = paired_interval(*(np.array([n]) for n in (lost, gained, images)))
    return float(low[0]), float(high[0])


@given(st.integers(1, 25), shares, shares)
def test_exact_intervals_hold_in_95_of_100_cases_at_least(images: int, lost: float, kept: float) -> None:
    """Not simulated: the probability of every outcome is summed up."""
    gained = (1 - lost) * (1 - kept)
    outcomes = np.array([(a, b, images - a - b) for a in range(images + 1) for b in range(images + 1 - a)])
    chances = multinomial.pmf(outcomes, images, [lost, gained, max(0.0, 1 - lost - gained)])
    low, high = paired_interval(outcomes[:, 0], outcomes[:, 1], np.full(len(outcomes), images))
    truth = lost - gained
    assert chances[(low <= truth + 1e-12) & (truth - 1e-12 <= high)].sum() >= 0.95 - 1e-9


@given(counts, counts, counts)
def test_exact_intervals_change_sides_with_the_models(lost: int, gained: int, alike: int) -> None:
    images = lost + gained + alike
    low, high = interval(lost, gained, images)
    assert (low, high) == tuple(-end for end in reversed(interval(gained, lost, images)))
    assert -1 <= low <= (lost - gained) / max(images, 1) + 1e-12 and low <= high <= 1


def test_few_images_say_little_and_many_say_much() -> None:
    assert interval(0, 0, 0) == (-1, 1)
    assert interval(0, 0, 1)[1] > 0.95 and interval(0, 0, 10)[1] > 0.25
    assert interval(0, 0, 10_000)[1] < 0.001
    low, high = interval(300, 200, 10_000)
    wald = 1.96 * math.sqrt(500 - 100**2 / 10_000) / 10_000
    assert 0 < low < 0.01 < high and high - low < 1.5 * 2 * wald


@pytest.mark.parametrize("chance", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("images", [5, 30, 200])
def test_bootstrap_intervals_hold_about_as_often_as_they_say(images: int, chance: float) -> None:
    """A rare, large loss: what a bootstrap without widening misses nearly always with few images."""
    generator, inside, trials = np.random.default_rng(1), 0, 200
    for _ in range(trials):
        lost = (generator.random(images) < chance) * generator.beta(4, 2, images)
        low, high = widened(lost[generator.integers(0, images, (400, images))].mean(1), images)
        inside += low <= chance * 4 / 6 <= high
    assert inside >= 0.95 * trials - 2.6 * math.sqrt(trials * 0.95 * 0.05)  # one miss of 200 by chance


def test_losses_go_to_their_classes() -> None:
    before, after = np.array([1, 1, 1, 0, 0, 1], bool), np.array([1, 0, 0, 1, 0, 1], bool)
    drops = paired_drops(before, after, np.array([0, 0, 1, 1, 1, 3]), NAMES, "accuracy")
    assert [part.name for part in drops.parts] == list(NAMES) and drops.count == 3
    ant, bee, cat, dog = drops.parts
    assert (ant.images, ant.dense, ant.shipped, ant.points) == (2, 1.0, 0.5, 50.0)
    assert (bee.points, dog.points) == (0.0, 0.0)
    assert (cat.images, cat.dense, cat.points, cat.low) == (0, None, None, None) and drops.empty == [cat]
    assert drops.overall.images == 6 and drops.overall.points == pytest.approx(100 / 6)
    assert drops.worst == ant and drops.few == [ant, bee, dog] and not drops.beyond_chance


def test_no_images_at_all_are_no_figures_and_no_pass() -> None:
    nothing = np.zeros(0, bool)
    drops = paired_drops(nothing, nothing, np.zeros(0, int), NAMES, "accuracy")
    assert drops.worst is None and drops.overall.points is None and drops.count == 0
    with pytest.raises(InputError, match="No class has validation images"):
        class_limit(drops, 5.0)


def test_average_precision_is_scikit_learns_with_equal_scores_and_weights() -> None:
    generator = np.random.default_rng(0)
    scores, shown = generator.integers(0, 6, 40).astype(float), generator.random(40) < 0.3
    weights = generator.integers(0, 3, (5, 40)).astype(float)
    for got, own in zip(average_precision(scores, shown, weights), weights, strict=True):
        assert got == pytest.approx(average_precision_score(shown, scores, sample_weight=own))
    assert np.isnan(average_precision(scores, np.zeros(40, bool), weights)).all()


def test_images_that_changed_most_come_first() -> None:
    cosines = np.full(200, 0.99)
    cosines[[7, 100]] = 0.5, 0.2
    drops = image_drops(cosines, [f"{i}.png" for i in range(200)], "cosine")
    assert [part.name for part in drops.parts[:2]] == ["100.png", "7.png"] and len(drops.parts) == 20
    assert drops.spread[100] == pytest.approx(80) and drops.spread[50] == pytest.approx(1)
    assert drops.overall.low is not None and drops.overall.high is not None
    assert drops.overall.low < 100 * (1 - cosines.mean()) < drops.overall.high
    assert class_limit(drops, 50.0).measured == pytest.approx(80) and not class_limit(drops, 50.0).met


@pytest.mark.parametrize("name", task_names())
def test_every_task_tells_what_is_lost_by_its_own_metric(name: str) -> None:
    task: Task = get_task(name)
    shape = (24, 4, 2, 3) if task.facts.output is Output.MAP else (24, 4)
    generator = torch.Generator().manual_seed(0)
    dense, shipped = (torch.randn(shape, generator=generator) for _ in range(2))
    if task.facts.output is Output.UNIT:
        dense, shipped = F.normalize(dense), F.normalize(shipped)
    several = torch.stack([(torch.arange(24) + 3 * k) % 5 < 2 for k in range(4)], 1).float()
    masks = (torch.arange(24)[:, None, None] + torch.arange(4)[:, None] * torch.arange(6)).to(torch.uint8) % 3
    labels = {Labels.MANY: several, Labels.MASK: masks}.get(task.facts.labels, torch.arange(24) % 3)
    if task.facts.labels is Labels.MANY:
        several[:, 3] = 0
    names = [f"{i}.png" for i in range(24)] if task.facts.output is Output.EMBEDDING else NAMES
    drops = task.drops(dense, shipped, labels, names)
    figures = [task.metrics(outputs, labels, dense)[task.facts.metric] for outputs in (dense, shipped)]
    if name == "features":
        cosines = F.cosine_similarity(dense, shipped).clamp_min(0)
        figures[1] = float(cosines.mean())
    assert drops.overall.dense == pytest.approx(figures[0], abs=1e-6)
    assert drops.overall.shipped == pytest.approx(figures[1], abs=1e-6)
    assert drops.overall.points == pytest.approx(100 * (figures[0] - figures[1]), abs=1e-4)
    for part in (drops.overall, *drops.parts):
        assert part.low is None or (part.points is not None and part.low <= part.points <= (part.high or 0))
    if task.facts.labels is not Labels.NONE:
        assert [part.name for part in drops.empty] == ["dog"] and drops.count == 3
    if name != "features":
        same = task.drops(dense, dense, labels, names)
        assert same.overall.points == 0 and not same.beyond_chance


def test_without_labels_the_dense_model_s_answers_are_the_classes() -> None:
    task: Task = get_task("classify-unlabelled")
    answers = torch.tensor([0] * 40 + [1] * 40 + [3] * 20)
    changed = answers.clone()
    changed[:30] = 2
    changed[99] = 0
    drops = task.drops(F.one_hot(answers).float(), F.one_hot(changed, 4).float(), torch.zeros(100).long(), NAMES)
    assert [(part.name, part.images, part.points) for part in drops.parts] == [
        ("ant", 40, 75.0), ("bee", 40, 0.0), ("dog", 20, pytest.approx(5.0))
    ]  # fmt: skip
    assert drops.by_answers and drops.overall.points == pytest.approx(31) and not drops.empty
    assert [part.name for part in drops.beyond_chance] == ["ant"]
    ant, bee, _ = drops.parts
    assert ant.low is not None and 31 < ant.low < 75 and (bee.low, bee.dense) == (0.0, 1.0) and (bee.high or 0) > 5


def drops_of(*pairs: tuple[int, int]) -> Drops:
    """Classes of so many images of which so many are lost."""
    groups = np.repeat(np.arange(len(pairs)), [images for images, _ in pairs])
    lost = np.concatenate([np.arange(images) < n for images, n in pairs])
    return paired_drops(np.ones_like(lost), ~lost, groups, NAMES, "accuracy")


def test_a_limit_on_every_class_is_held_against_the_worst() -> None:
    limit = class_limit(drops_of((100, 3), (100, 8), (0, 0), (40, 0)), 5.0)
    assert not limit.met and limit.measured == 8.0 and limit.note is not None
    assert "class 'bee', 100 images, the worst of 3" in limit.note and "95 % interval" in limit.note
    assert "no images, so not judged: cat" in limit.note
    assert class_limit(drops_of((100, 3), (100, 8)), 8.0).met


def test_a_class_with_few_images_is_named_and_misses_only_beyond_chance() -> None:
    limit = class_limit(drops_of((100, 3), (8, 1)), 5.0)
    assert limit.met and limit.measured == 3.0 and limit.note is not None
    assert "fewer than 10 images, so judged by the low end of the interval: bee" in limit.note
    limit = class_limit(drops_of((100, 3), (9, 9)), 5.0)
    assert not limit.met and 5 < limit.measured < 50 and "'bee', 9 images" in (limit.note or "")
