from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import torch
from class_folders import write_classes

from wdp_edge import progress
from wdp_edge.data import loading, worker
from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.data.loading import Views, eval_batches, load_images
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.errors import InputError, SetupError

SMALL = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    return scan(write_classes(tmp_path, {"a": 7, "b": 6}))


def test_order_and_pixels_do_not_depend_on_the_workers(folder: ImageFolder) -> None:
    indices = [12, 0, 3, 3, 7, 1, 2]
    here = load_images(folder, indices, SMALL, workers=0)
    assert here.shape == (7, 3, 16, 16)
    assert torch.equal(here[2], here[3])
    assert not torch.equal(here[0], here[1])
    for workers in (1, 3):
        assert torch.equal(load_images(folder, indices, SMALL, workers), here)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_cover_the_indices_with_their_labels(folder: ImageFolder, workers: int) -> None:
    batches = list(eval_batches(folder, range(13), SMALL, 5, workers))
    assert [len(images) for images, _ in batches] == [5, 5, 3]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(folder.labels)
    assert batches[0][1].dtype == torch.int64
    assert torch.equal(torch.cat([images for images, _ in batches]), load_images(folder, range(13), SMALL))


def test_no_images_are_no_batches(folder: ImageFolder) -> None:
    assert load_images(folder, [], SMALL, workers=2).shape == (0, 3, 16, 16)


def test_more_workers_than_batches(folder: ImageFolder) -> None:
    assert len(list(eval_batches(folder, [1, 2, 3], SMALL, 2, workers=5))) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_counted_and_named(folder: ImageFolder, workers: int) -> None:
    (folder.root / "a" / "001.png").write_bytes(b"no image")
    whole = (folder.root / "a" / "003.png").read_bytes()
    (folder.root / "a" / "003.png").write_bytes(whole[: len(whole) // 2])
    (folder.root / "b" / "000.png").write_bytes(b"")
    (folder.root / "b" / "004.png").unlink()
    with pytest.raises(InputError) as error:
        load_images(folder, range(13), SMALL, workers)
    message = error.value.message
    assert message.startswith(f"4 images in {folder.root} cannot be read: a/001.png (")
    assert "b/000.png" in message
    assert message.endswith("and 1 more.")


def test_good_images_before_the_first_bad_one_are_handed_out(folder: ImageFolder) -> None:
    (folder.root / "b" / "000.png").write_bytes(b"no image")
    seen = []
    with pytest.raises(InputError, match=r"^1 image in"):
        for _, labels in eval_batches(folder, range(13), SMALL, 3):
            seen += labels.tolist()
    assert seen == [0] * 6


def test_reports_progress(folder: ImageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    class Listener(progress.Silent):
        def task(self, title, total):  # type: ignore[no-untyped-def]
            told.append((title, total))
            return super().task(title, total)

    monkeypatch.setattr(progress, "_reporter", ContextVar("listener", default=Listener()))  # noqa: B039
    load_images(folder, [1, 2], SMALL, title="Looking")
    assert told == [("Looking", 2)]


def test_names_with_odd_characters(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ä b\n": 1, "c'\"": 1})
    odd = os.fsdecode(b"\xff.png")
    (tmp_path / "c'\"" / "000.png").rename(tmp_path / "c'\"" / odd)
    folder = scan(tmp_path)
    assert torch.equal(load_images(folder, [0, 1], SMALL, 1), load_images(folder, [0, 1], SMALL, 0))


def test_a_file_of_the_caller_does_not_shadow_modules(
    folder: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert len(load_images(folder, [0], SMALL, 1)) == 1


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every process that the loader starts."""
    processes: list[subprocess.Popen[bytes]] = []

    def popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen(*args, **options))
        return processes[-1]

    monkeypatch.setattr(loading, "Popen", popen)
    return processes


def test_processes_end_with_the_generator(folder: ImageFolder, started: list[subprocess.Popen[bytes]]) -> None:
    batches = eval_batches(folder, range(13), SMALL, 2, workers=2)
    next(batches)
    assert [p.poll() for p in started] == [None, None]
    assert isinstance(batches, Generator)
    batches.close()
    assert [p.poll() for p in started] == [-signal.SIGKILL] * 2


def test_a_killed_process_is_a_clear_error(folder: ImageFolder, started: list[subprocess.Popen[bytes]]) -> None:
    batches = eval_batches(folder, range(13), SMALL, 2, workers=1)
    next(batches)
    os.kill(started[0].pid, signal.SIGKILL)
    with pytest.raises(SetupError, match=r"ended unexpectedly \(status -9\).*workers = 0"):
        list(batches)


def test_processes_end_with_a_killed_parent(folder: ImageFolder) -> None:
    script = f"""
import subprocess, time
from pathlib import Path
from wdp_edge.data import loading
from wdp_edge.data.folder import scan
from wdp_edge.data.preprocess import Preprocessing

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        print(self.pid, flush=True)

loading.Popen = Popen
batches = loading.eval_batches(scan(Path({str(folder.root)!r})), range(13), {SMALL!r}, 2, workers=2)
next(batches)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    children = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(alive(pid) for pid in children)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in children):
        assert time.monotonic() < deadline, "decoding processes outlived their parent"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process still runs; one that only waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_works_beside_busy_torch_threads(folder: ImageFolder) -> None:
    (torch.randn(256, 256) @ torch.randn(256, 256)).sum()
    assert len(load_images(folder, range(13), SMALL, workers=2)) == 13


def test_the_worker_imports_only_the_standard_library_and_pillow() -> None:
    code = f"import runpy, sys; runpy.run_path({worker.__file__!r}); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "timm", "wdp_edge"} & {name.split(".")[0] for name in out.stdout.split()}


@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_decoded_in_batches_when_asked_for(folder: ImageFolder, workers: int) -> None:
    indices = [12, 0, 3, 7, 1]
    views = Views(folder, indices, SMALL, workers)
    assert len(views) == 5
    for _ in range(2):
        parts = list(views.split(2))
        assert [len(part) for part in parts] == [2, 2, 1]
        assert torch.equal(torch.cat(parts), load_images(folder, indices, SMALL))
    (folder.root / "a" / "000.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 image .* cannot be read: a/000\.png"):
        list(views.split(2))
