"""Streams of images in a scratch file."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from cut_models import pictures, prepare
from tiny_families import FORMS, made

from wdp_edge.errors import SetupError
from wdp_edge.models import vit
from wdp_edge.shrink.streams import DenseStream, Streams, images_within, recordable, stream_size, written_size


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_every_stream_fits_the_first_one_s_size(form: str) -> None:
    model = made(form)
    x = vit.embed(model, vit.example_of(model))
    assert x.numel() == stream_size(model)
    for sublayer in vit.sublayers(model):
        assert sublayer is not None
        assert sublayer.written(x).numel() <= written_size(model)
        x = sublayer(x)
        assert x.numel() <= stream_size(model)


def test_images_within_a_room(tiny_model: Any) -> None:
    # Both streams of 17 tokens of 32 channels, and what the widest writer reads.
    each = 4 * 17 * (2 * 32 + 128)
    assert images_within(tiny_model, 10 * each) == 10
    assert images_within(tiny_model, 10.9 * each) == 10
    assert images_within(tiny_model, 1) == 1


def test_a_kept_stream_needs_a_row_for_every_sublayer_and_room_for_the_cut_model(tiny_model: Any) -> None:
    room = 4 * 5 * 17 * (32 * 7 + 32 + 128)
    assert recordable(tiny_model, 5, room) and not recordable(tiny_model, 5, room - 1)


def test_rows_are_read_back_whatever_their_size() -> None:
    with Streams(5, (12, 3, 6), chunk=2) as streams:
        parts = list(streams.chunks())
        assert [(p.start, p.stop) for p in parts] == [(0, 2), (2, 4), (4, 5)]
        wanted = [[torch.rand(p.stop - p.start, *shape) for shape in ((3, 4), (3,), (1, 2))] for p in parts]
        for part, values in zip(parts, wanted, strict=True):
            for row, value in enumerate(values):
                streams.write(row, part, value)
        for part, values in zip(parts, wanted, strict=True):
            assert all(torch.equal(streams.read(row, part), value) for row, value in enumerate(values))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep", [False, True])
@torch.no_grad()
def test_the_dense_stream_is_what_the_sublayers_give(form: str, keep: bool) -> None:
    model, images = made(form), pictures(5)
    x = vit.embed(model, prepare(images))
    with DenseStream(model, images, prepare, keep=keep) as stream:
        for _ in range(2):
            stream.rewind()
            seen = x
            for place, step in enumerate(stream.steps):
                assert torch.allclose(stream.at(place, slice(0, 5)), seen, atol=1e-5)
                seen = step(seen)
            assert torch.allclose(stream.at(len(stream.steps), slice(0, 5)), seen, atol=1e-5)
            assert not keep or torch.allclose(stream.at(0, slice(0, 5)), x)


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAKE: the system's answer where a file does not fit; asked of a real disk of a megabyte it is the same."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with (
        pytest.raises(SetupError, match=r"Not enough room for 0\.004 GB of scratch in .*scratch_gb"),
        Streams(1000, (500, 500), tmp_path),
    ):
        pytest.fail("there is no room")
    assert not list(tmp_path.iterdir())


def test_streams_leave_no_file(tmp_path: Path) -> None:
    with Streams(10, (12,), tmp_path, chunk=4) as streams:
        for part in streams.chunks():
            streams.write(0, part, torch.full((part.stop - part.start, 3, 4), float(part.start)))
        assert streams.read(0, slice(8, 10)).unique().tolist() == [8.0]
    assert list(tmp_path.iterdir()) == []
