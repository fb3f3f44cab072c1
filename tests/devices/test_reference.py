"""wdp_edge/devices/events.py, reference.py: what runners say, the fixed input, what counts as the same result."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wdp_edge.devices.events import Done, Loaded, LoadedFile, Output, Round, parse_event
from wdp_edge.devices.reference import MAX_SUM_ERROR, difference, fixed_input

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


def test_events() -> None:
    file = {"load_ms": 1.5, "input": [1, 3, 56, 56], "dtype": "uint8"}
    said = json.dumps({"event": "loaded", "runtime": "onnxruntime", "threads": 2, "files": [file]})
    assert parse_event(said) == Loaded("onnxruntime", 2, (LoadedFile(1.5, (1, 3, 56, 56), "uint8"),))
    assert parse_event('{"event":"round","number":3,"ms":[[1,2.5],[3,4]]}') == Round(3, ((1.0, 2.5), (3.0, 4.0)))
    output = '{"abs_sum":3,"first":[1,-2],"count":2}'
    done = f'{{"event":"done","outputs":[{output}],"peak_rss_bytes":9,"temperature":[40,50.5],"clock_mhz":null}}'
    assert parse_event(done) == Done((Output(3.0, (1.0, -2.0), 2),), 9, (40.0, 50.5), None)


@given(st.text(max_size=80) | JSON.map(json.dumps))
@example("[" * 10_000)
@example('{"event":"done"}')
@example('{"event":["done"]}')
@example('{"event":"round","number":true,"ms":[]}')
@example('{"event":"round","number":0,"ms":[[1e999]]}')
@example(f'{{"event":"round","number":0,"ms":[[1{"0" * 400}]]}}')
@example('{"event":"done","outputs":[],"peak_rss_bytes":1,"temperature":[1,2,3],"clock_mhz":null}')
def test_anything_else_is_refused_in_one_way(line: str) -> None:
    with pytest.raises(ValueError):
        parse_event(line)


@given(st.sampled_from(["loaded", "round", "done"]), st.dictionaries(st.text(max_size=9), JSON, max_size=5))
def test_events_with_other_contents_are_refused(event: str, data: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        parse_event(json.dumps({**data, "event": event}))


def test_the_fixed_input_is_that_of_the_runners() -> None:
    """The first values of the generator, by hand: s1 = 1664525 + 1013904223 = 1015568748."""
    s1 = 1015568748
    s2 = (s1 * 1664525 + 1013904223) % 2**32
    assert struct.unpack("2f", fixed_input(2, "float32")) == (s1 // 256 / 2**23 - 1, s2 // 256 / 2**23 - 1)
    assert list(fixed_input(2, "uint8")) == [s1 // 2**24, s2 // 2**24]
    values = struct.unpack("10000f", fixed_input(10_000, "float32"))
    assert -1 <= min(values) < -0.99 and 0.99 < max(values) < 1 and abs(sum(values)) < 200


OUTPUT = Output(10.0, (1.0, -2.0, 3.0, -4.0), 4)


def test_the_same_result_differs_in_nothing_that_counts() -> None:
    assert difference(OUTPUT, OUTPUT) == ""
    assert difference(replace(OUTPUT, first=(1.001, -2.002, 2.999, -4.0)), OUTPUT) == ""
    zero = Output(0.0, (0.0,), 1)
    assert difference(zero, zero) == ""


@pytest.mark.parametrize(
    ("got", "why"),
    [
        (replace(OUTPUT, count=5), "5 values instead of 4"),
        (replace(OUTPUT, first=(-4.0, 3.0, -2.0, 1.0)), "cosine"),
        (replace(OUTPUT, first=(0.0, 0.0, 0.0, 0.0)), "cosine 0.000"),
        (replace(OUTPUT, first=(1.0, -2.0, 3.0, 4.0)), "cosine"),
        (replace(OUTPUT, abs_sum=10 * (1 + 2 * MAX_SUM_ERROR)), "sum to"),
        (replace(OUTPUT, abs_sum=0.0), "sum to 0 instead of 10"),
    ],
)
def test_another_result_is_told(got: Output, why: str) -> None:
    assert why in difference(got, OUTPUT)


def test_a_model_that_gives_no_numbers_here_has_no_right_result() -> None:
    assert "cosine" in difference(OUTPUT, replace(OUTPUT, first=(float("nan"),) * 4, abs_sum=float("nan")))
