"""A Mac that is none: Core ML, Xcode and the phone are fakes."""

from __future__ import annotations

import gc
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_core_ml import install as install_core_ml
from fake_xcode import end_apps, install_xcode

from wdp_edge.devices.apple import device as apple
from wdp_edge.devices.apple import worker as apple_worker
from wdp_edge.errors import WdpError
from wdp_edge.workers.messages import read_message


class Inside:
    """In place of WorkerProcess: the worker in this process, which spares the seconds of loading torch again."""

    def __init__(self, module: str, request: dict[str, Any], silence_seconds: float) -> None:
        replies, self.error = io.BytesIO(), None
        try:
            apple_worker.handle(json.loads(json.dumps(request)), io.BytesIO(), replies)
        except WdpError as error:
            self.error = error
        finally:
            gc.enable()
        self.replies = io.BytesIO(replies.getvalue())

    def receive(self) -> tuple[dict[str, Any], bytes]:
        if (message := read_message(self.replies)) is None:
            assert self.error is not None
            raise self.error
        return message

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.error or read_message(self.replies) is None, "all that is said is heard"


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with fake Xcode tools, where Core ML is fake too, in this process and in workers."""
    bin = install_xcode(tmp_path)
    (tmp_path / "workspace").mkdir()
    here = str(Path(__file__).parents[2] / "support")
    for name, value in {
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": here,
        "FAKE_WORKSPACE": str(tmp_path / "workspace"),
        "WDP_EDGE_CACHE": str(tmp_path / "cache"),
        "WDP_EDGE_APPLE_TEAM": "ABCDE12345",
    }.items():
        monkeypatch.setenv(name, value)
    install_core_ml(tmp_path / "workspace", monkeypatch.setattr)
    monkeypatch.setattr(apple, "WorkerProcess", Inside)
    monkeypatch.setattr(apple, "is_mac", lambda: True)
    yield tmp_path
    end_apps(tmp_path)
