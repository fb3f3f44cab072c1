"""Running an artifact over many images, in bounded memory, on several worker processes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge import progress
from wdp_edge.devices.local import WORKER
from wdp_edge.errors import InputError
from wdp_edge.workers.process import WorkerProcess

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ran:
    """outputs: [n, classes] float32, in the order of the images. on: what computed them; "" for this machine's CPU."""

    outputs: Tensor
    on: str = ""


def run_artifact(
    target: str, path: Path, batches: Iterable[Tensor], total: int, title: str, processes: int = 2
) -> Tensor:
    """Logits of the artifact, in the order of the images: [n, classes] float32. See `run_file`."""
    return run_file(target, path, batches, total, title, processes=processes).outputs


def run_file(
    target: str,
    path: Path,
    batches: Iterable[Tensor],
    total: int,
    title: str,
    threads: int = 1,
    processes: int = 2,
    narrow: bool = False,
) -> Ran:
    """Logits of the artifact, and what computed them.

    batches: [b, 3, H, W] each, of the file's input type, taken one by one as workers get free: a generator keeps
    memory small.
    total: number of images, for the progress bar. narrow: as a target that is `Narrow` rounds it.
    Raises InputError when the file is not an artifact of `target` or takes images of another size, SetupError
    when a worker crashes.
    """
    import torch

    source = SharedIterator(batches)
    results: dict[int, Tensor] = {}
    where: list[str] = []
    with progress.task(title, total) as advance, ThreadPoolExecutor(processes) as pool:

        def work() -> None:
            try:
                converse()
            except BaseException:
                source.stop()
                raise

        def converse() -> None:
            request = {"verb": "run", "target": target, "artifact": str(path), "threads": threads, "narrow": narrow}
            with WorkerProcess(WORKER, {**request, "what": f"running {path.name}"}, threads) as worker:
                program = worker.receive()[0]
                where.append(program["ran_on"])
                for index, images in source:
                    check_input(images, program, path)
                    worker.send({"shape": list(images.shape)}, images.contiguous().numpy().tobytes())
                    reply, payload = worker.receive()
                    logits = torch.frombuffer(bytearray(payload), dtype=torch.float32)
                    results[index] = logits.reshape(reply["shape"])
                    source.report(advance, len(images))

        for finished in [pool.submit(work) for _ in range(processes)]:
            finished.result()
    if not results:
        raise InputError(f"There are no images to run {path} on.", "Check the data folder.")
    return Ran(torch.cat([results[i] for i in sorted(results)]), where[0])


def check_input(images: Tensor, program: dict[str, Any], path: Path) -> None:
    """Raises InputError when the images are not of the program's size and type."""
    expected, got = program["input_shape"][1:], list(images.shape[1:])
    if got != expected:
        raise InputError(
            f"{path} takes images of {'x'.join(map(str, expected))}, not {'x'.join(map(str, got))}.",
            "Evaluate it with the model and img_size it was exported for.",
        )
    dtype = str(images.dtype).removeprefix("torch.")
    if dtype != program["input_dtype"]:
        raise InputError(
            f"{path} takes {program['input_dtype']} images, not {dtype}.",
            "Restore the .json beside it that says how its input is made, or export it again.",
        )


class SharedIterator:
    """Numbered items of an iterable for several threads."""

    def __init__(self, items: Iterable[Tensor]) -> None:
        self._items: Iterator[tuple[int, Tensor]] = enumerate(items)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        while True:
            with self._lock:
                item = next(self._items, None)
            if item is None:
                return
            yield item

    def stop(self) -> None:
        """No more items for anyone."""
        with self._lock:
            self._items = iter(())

    def report(self, advance: progress.Advance, done: int) -> None:
        """Progress from one thread at a time."""
        with self._lock:
            advance(done)
