"""targets/litert_profiler.py: whether LiteRT's functions are still the declared ones, seen in what they tell."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from test_tflite import small_model, some_images
from torch import Tensor, nn

from wdp_edge.errors import SetupError
from wdp_edge.target import ExportOptions, OperatorRole, Precision, get_target
from wdp_edge.targets import litert_profiler
from wdp_edge.targets.litert_profiler import DELEGATED_OPERATOR, OPERATOR, Event, profiled, read_events
from wdp_edge.targets.tflite_trace import operators, trace

TFLITE = get_target("tflite")  # converts a model once
_ROLES = {
    "FULLY_CONNECTED": OperatorRole.LINEAR,
    "CONV_2D": OperatorRole.CONV,
    "BATCH_MATMUL": OperatorRole.MATMUL,
    "SOFTMAX": OperatorRole.SOFTMAX,
}


class Refused(nn.Module):
    """XNNPACK has no cumulative sum: that part of the file stays outside of the delegate."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after = nn.Linear(48, 64), nn.Linear(64, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.relu(torch.cumsum(self.before(x.flatten(1)), 1)))


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


def test_roles_are_those_of_the_operators_in_the_file(vit: Path) -> None:
    inside = Counter({o.kind: o.count for o in TFLITE.inspect(vit).operators})
    found = Counter(time.role for time in trace(vit, 1, 2))
    assert {role: inside[kind] for kind, role in _ROLES.items()} == {role: found[role] for role in _ROLES.values()}


def test_operators_outside_of_the_delegate_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    TFLITE.export(Refused().eval(), torch.zeros(1, 3, 4, 4), path, ExportOptions(Precision.FP32))
    found = trace(path, 1, 2)
    assert [time.name for time in found if not time.delegated] == ["CUMSUM"]
    linears = [i for i, time in enumerate(found) if time.role is OperatorRole.LINEAR]
    outside = next(i for i, time in enumerate(found) if not time.delegated)
    assert len(linears) == 2 and linears[0] < outside < linears[1]


def test_the_mean_is_taken_over_runs() -> None:
    runs = [[Event("Invoke", 1, 9), Event("Softmax (NC, F32)", DELEGATED_OPERATOR, us)] for us in (1000, 2000, 90000)]
    (time,) = operators(runs)
    assert (time.role, time.ms, time.delegated) == (OperatorRole.SOFTMAX, 1.5, True)
    with pytest.raises(SetupError, match="no times of operators"):
        operators([run[:1] for run in runs])


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
        with pytest.raises(SetupError, match="need ai-edge-litert"), profiled(tmp_path / "x.tflite", 1):
            pass
    (tmp_path / "libLiteRt.so").write_bytes(b"no library")
    spec = copy(find_spec("ai_edge_litert"))  # an imported module's own: other tests look there, too
    assert spec is not None
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(litert_profiler, "find_spec", lambda name: spec)
    with pytest.raises(SetupError, match=r"libLiteRt\.so cannot be used"), profiled(tmp_path / "x.tflite", 1):
        pass
