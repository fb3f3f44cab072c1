from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from class_folders import write_classes

from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.data.stream import Augmentation, StreamOptions, TrainStream
from wdp_edge.errors import InputError
from wdp_edge.workers.parallel import World

SMALL = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    return scan(write_classes(tmp_path, {"a": 6, "b": 5}))


def stream(folder: ImageFolder, seed: int = 3, workers: int = 0, batch_size: int = 4) -> TrainStream:
    return TrainStream(folder, range(1, 11), SMALL, StreamOptions(batch_size, seed, workers))


def same(first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_a_batch_depends_on_seed_and_step_alone(folder: ImageFolder) -> None:
    whole = list(stream(folder).batches(0, 8))
    assert all(x.shape == (4, 3, 16, 16) and x.dtype == torch.float32 for x, _ in whole)
    for workers in (0, 1, 3):
        tail = list(stream(folder, workers=workers).batches(5, 8))
        assert all(same(a, b) for a, b in zip(whole[5:], tail, strict=True))
    other = list(stream(folder, seed=4).batches(0, 8))
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(whole, other, strict=True))


def test_one_stream_can_be_asked_in_any_order(folder: ImageFolder) -> None:
    one = stream(folder)
    late, early = next(one.batches(6, 7)), next(one.batches(1, 2))
    whole = list(stream(folder).batches(0, 7))
    assert same(late, whole[6])
    assert same(early, whole[1])


def test_every_epoch_holds_every_image_once_in_another_order(folder: ImageFolder) -> None:
    chosen = [i for step in range(5) for i in stream(folder).chosen(step)]
    assert sorted(chosen[:10]) == sorted(chosen[10:]) == list(range(1, 11))
    assert chosen[:10] != chosen[10:]


def test_batches_may_be_larger_than_the_epoch(folder: ImageFolder) -> None:
    chosen = stream(folder, batch_size=25).chosen(0)
    assert len(chosen) == 25
    assert set(chosen) == set(range(1, 11))


def test_labels_belong_to_the_images(folder: ImageFolder) -> None:
    options = StreamOptions(4, 0, augmentation=Augmentation(flip=False, min_crop=1.0))
    one = TrainStream(folder, range(11), SMALL, options)
    _, labels = next(one.batches(2, 3))
    assert labels.tolist() == [folder.labels[i] for i in one.chosen(2)]
    assert labels.dtype == torch.int64


def test_an_image_is_augmented_anew_every_time(folder: ImageFolder) -> None:
    one = TrainStream(folder, [0], SMALL, StreamOptions(3, 0))
    images, _ = next(one.batches(0, 1))
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])


def test_global_random_states_are_left_alone(folder: ImageFolder) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    list(stream(folder).batches(0, 3))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named(folder: ImageFolder, workers: int) -> None:
    (folder.root / "b" / "002.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 image in .* cannot be read: b/002.png"):
        list(stream(folder, workers=workers).batches(0, 3))


@pytest.mark.parametrize("size", [2, 4])
def test_processes_have_the_rows_of_one_batch(folder: ImageFolder, size: int) -> None:
    whole = list(stream(folder).batches(0, 4))
    options = [StreamOptions(4, 3, world=World(rank, size)) for rank in range(size)]
    parts = [list(TrainStream(folder, range(1, 11), SMALL, o).batches(0, 4)) for o in options]
    for step, batch in enumerate(whole):
        for rank in range(size):
            assert same(parts[rank][step], (batch[0][rank::size], batch[1][rank::size]))


def test_a_batch_that_processes_cannot_share_is_refused(folder: ImageFolder) -> None:
    with pytest.raises(InputError, match=r"4 images .* 3 processes"):
        TrainStream(folder, range(11), SMALL, StreamOptions(4, 3, world=World(0, 3)))


def test_no_steps_are_no_batches(folder: ImageFolder) -> None:
    assert list(stream(folder, workers=2).batches(4, 4)) == []
