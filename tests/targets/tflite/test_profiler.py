"""targets/tflite/profiler.py: whether LiteRT's functions are still the declared ones, seen in what they tell."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from copy import copy
from importlib.util import find_spec
from pathlib import Path

import pytest
from tflite_models import small_model, some_images

from wdp_edge.errors import SetupError
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.targets.tflite import profiler as litert_profiler
from wdp_edge.targets.tflite.profiler import DELEGATED_OPERATOR, OPERATOR, Event, profiled, read_events

TFLITE = get_target("tflite")  # converts a model once


@pytest.fixture(scope="module", params=[Precision.FP32, Precision.INT8_DYNAMIC, Precision.INT8_STATIC])
def vit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vit") / "x.tflite"
    TFLITE.export(small_model(), some_images(1), path, ExportOptions(request.param, some_images(8)))
    return path


@pytest.fixture
def run(vit: Path) -> Iterator[Callable[[], list[Event]]]:
    with profiled(vit, threads=1) as run:
        yield run


def steps(events: list[Event]) -> list[Event]:
    return [event for event in events if event.kind in (OPERATOR, DELEGATED_OPERATOR)]


def test_operators_of_a_run_take_no_longer_than_the_run(run: Callable[[], list[Event]]) -> None:
    for _ in range(5):
        events = run()
        (whole,) = [event.us for event in events if event.name == "Invoke" and event.kind == 1]
        assert 0 < sum(event.us for event in steps(events)) <= whole


def test_every_run_has_the_same_operators_and_forgets_the_one_before(run: Callable[[], list[Event]]) -> None:
    first, second = steps(run()), steps(run())
    assert [(event.name, event.kind) for event in first] == [(event.name, event.kind) for event in second]
    assert {event.kind for event in first} == {DELEGATED_OPERATOR}


@pytest.mark.parametrize("words", [11, 12, 14, 15])
def test_events_of_another_size_are_not_read(words: int) -> None:
    """LiteRT's are 13 words long; what seems to be the name of a longer or shorter one may point anywhere."""
    count, room = 40, bytes(ctypes.sizeof(ctypes.c_uint64) * 13 * 80)
    data = b"\1" * (8 * words * count)
    with pytest.raises(SetupError, match="another form"):
        read_events(data + room[len(data) :], count)
    assert read_events(b"", 0) == []


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(litert_profiler, "find_spec", lambda name: None)
        with pytest.raises(SetupError, match="needs ai-edge-litert"), profiled(tmp_path / "x.tflite", 1):
            pass
    (tmp_path / "libLiteRt.so").write_bytes(b"no library")
    spec = copy(find_spec("ai_edge_litert"))  # an imported module's own: other tests look there, too
    assert spec is not None
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(litert_profiler, "find_spec", lambda name: spec)
    with pytest.raises(SetupError, match=r"libLiteRt\.so cannot be used"), profiled(tmp_path / "x.tflite", 1):
        pass
