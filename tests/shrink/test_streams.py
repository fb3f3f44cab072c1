"""Streams of images in a scratch file."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import FORMS, made

from wdp_edge.errors import SetupError
from wdp_edge.models import vit
from wdp_edge.shrink.streams import Streams, images_within, stream_shape


@pytest.mark.parametrize("form", FORMS)
def test_every_stream_fits_the_first_one_s_shape(form: str) -> None:
    model = made(form)
    x = vit.embed(model, vit.example_of(model))
    shape = stream_shape(model)
    assert tuple(x.shape[1:]) == shape
    for number in range(len(vit.blocks_of(model))):
        x = vit.run_block(model, number, x)
        assert x[0].numel() <= torch.Size(shape).numel()


def test_images_within_a_room(tiny_model: Any) -> None:
    each = 2 * 4 * torch.Size(stream_shape(tiny_model)).numel()
    assert images_within(tiny_model, 10 * each) == 10
    assert images_within(tiny_model, 10.9 * each) == 10
    assert images_within(tiny_model, 1) == 1


def test_both_streams_are_read_back(tiny_model: Any) -> None:
    with Streams(5, (3, 4), chunk=2) as streams:
        parts = list(streams.chunks())
        assert [(p.start, p.stop) for p in parts] == [(0, 2), (2, 4), (4, 5)]
        wanted = [(torch.rand(p.stop - p.start, 3, 4), torch.rand(p.stop - p.start, 3, 4)) for p in parts]
        for part, (dense, cut) in zip(parts, wanted, strict=True):
            streams.write(part, dense, cut)
        streams.update(lambda x, y: (x + y, y))
        for part, (dense, cut) in zip(parts, wanted, strict=True):
            assert torch.equal(streams.read(part)[0], dense + cut) and torch.equal(streams.read(part)[1], cut)


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAKE: the system's answer where a file does not fit; asked of a real disk of a megabyte it is the same."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with (
        pytest.raises(SetupError, match=r"Not enough room for 0\.004 GB of scratch in .*scratch_gb"),
        Streams(1000, (125, 4), tmp_path),
    ):
        pytest.fail("there is no room")
    assert not list(tmp_path.iterdir())


def test_streams_leave_no_file(tmp_path: Path) -> None:
    with Streams(10, (3, 4), tmp_path, chunk=4) as streams:
        for part in streams.chunks():
            x = torch.full((part.stop - part.start, 3, 4), float(part.start))
            streams.write(part, x, x + 1)
        streams.update(lambda dense, small: (dense * 2, small))
        dense, small = streams.read(slice(8, 10))
        assert dense.unique().tolist() == [16.0] and small.unique().tolist() == [9.0]
    assert list(tmp_path.iterdir()) == []
