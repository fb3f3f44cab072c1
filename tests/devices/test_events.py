"""wdp_edge/devices/events.py: what a native runner says, and everything else that a device may say."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wdp_edge.devices.events import Done, Loaded, LoadedFile, OutputDigest, RoundDone, parse_event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


def test_events() -> None:
    file = {"load_ms": 1.5, "input": [1, 3, 56, 56], "dtype": "uint8"}
    said = json.dumps({"event": "loaded", "runtime": "onnxruntime", "threads": 2, "files": [file]})
    assert parse_event(said) == Loaded("onnxruntime", 2, (LoadedFile(1.5, (1, 3, 56, 56), "uint8"),))
    assert parse_event('{"event":"round","number":3,"ms":[[1,2.5],[3,4]]}') == RoundDone(3, ((1.0, 2.5), (3.0, 4.0)))
    output = '{"abs_sum":3,"first":[1,-2],"count":2}'
    done = f'{{"event":"done","outputs":[{output}],"peak_rss_bytes":9,"temperature":[40,50.5],"clock_mhz":null}}'
    assert parse_event(done) == Done((OutputDigest(3.0, (1.0, -2.0), 2),), 9, (40.0, 50.5), None)


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
