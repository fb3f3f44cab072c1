"""wdp_edge/workers/messages.py: what a session and its workers say to each other, whole or not at all."""

from __future__ import annotations

import io
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.workers.messages import read_message, write_message

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.tuples(st.dictionaries(st.text(max_size=9), VALUES, max_size=4), st.binary(max_size=40))


@given(st.lists(MESSAGES, max_size=4))
def test_messages_arrive_one_by_one_as_they_were_sent(messages: list[tuple[dict[str, object], bytes]]) -> None:
    pipe = io.BytesIO()
    for data, payload in messages:
        write_message(pipe, data, payload)
    pipe.seek(0)
    for data, payload in messages:
        assert read_message(pipe) == (data, payload)
    assert read_message(pipe) is None


@given(MESSAGES, st.data())
def test_a_message_that_was_cut_short_is_none(message: tuple[dict[str, object], bytes], data: st.DataObject) -> None:
    whole = io.BytesIO()
    write_message(whole, *message)
    length = len(whole.getvalue())
    kept = data.draw(st.integers(0, length - 1))
    assert read_message(io.BytesIO(whole.getvalue()[:kept])) is None


def test_what_else_a_worker_prints_does_not_get_among_its_replies() -> None:
    code = (
        "import os; from wdp_edge.workers.messages import private_stdout, write_message\n"
        "replies = private_stdout(); print('from Python', flush=True); os.write(1, b'from a descriptor')\n"
        "write_message(replies, {'n': 1}, b'bytes')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert read_message(io.BytesIO(done.stdout)) == ({"n": 1}, b"bytes")
    assert b"from Python" in done.stderr and b"from a descriptor" in done.stderr
