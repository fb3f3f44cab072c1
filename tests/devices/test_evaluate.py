"""wdp_edge/devices/evaluate.py: a file over many images, on several worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_net import SMALL, Net, images
from torch import Tensor

from wdp_edge import progress
from wdp_edge.devices.evaluate import SharedIterator, run_artifact
from wdp_edge.errors import InputError


@pytest.mark.parametrize("processes", [1, 2])
def test_logits_come_back_in_the_order_of_the_images(programs: dict[int, Path], processes: int) -> None:
    x = images(23)
    batches: Iterator[Tensor] = (part for part in x.split(5))
    logits = run_artifact("executorch", programs[SMALL], batches, len(x), "evaluate", processes=processes)
    with torch.no_grad():
        expected = Net(SMALL).eval()(x)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=1e-5)


def test_images_of_another_size_are_refused(programs: dict[int, Path]) -> None:
    with pytest.raises(InputError, match="takes images of 3x4x4, not 3x8x8"):
        run_artifact("executorch", programs[SMALL], iter([torch.zeros(2, 3, 8, 8)]), 2, "evaluate")
    with pytest.raises(InputError, match="no images"):
        run_artifact("executorch", programs[SMALL], iter([]), 0, "evaluate")


def test_an_error_while_reading_images_is_passed_on(programs: dict[int, Path]) -> None:
    def broken() -> Iterator[Tensor]:
        yield images(2)
        raise InputError("An image is unreadable.", "Remove it.")

    with pytest.raises(InputError, match="unreadable"):
        run_artifact("executorch", programs[SMALL], broken(), 4, "evaluate")


def test_progress_counts_every_image(programs: dict[int, Path]) -> None:
    counted: list[int] = []

    class Counting(progress.Silent):
        def task(self, title: str, total: int):  # type: ignore[no-untyped-def,override]
            import contextlib

            @contextlib.contextmanager
            def counter() -> Iterator[progress.Advance]:
                yield counted.append

            return counter()

    try:
        progress.use(Counting())
        run_artifact("executorch", programs[SMALL], images(7).split(3), 7, "evaluate")
    finally:
        progress.use(progress.Silent())
    assert sum(counted) == 7


def test_what_was_stopped_gives_no_more() -> None:
    source = SharedIterator(images(7).split(3))
    items = iter(source)
    assert next(items)[0] == 0 and next(iter(source))[0] == 1, "every item is given once"
    source.stop()
    assert list(items) == [] == list(source)
