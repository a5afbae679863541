from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from comfydeploy_jupyter.client.stream import Message, SSEParser

STREAM = (
    "\ufeff: a comment\n\n"
    'id: 1\nevent: event_update\ndata: {"a": "ü…😀"}\n\n'
    "data: two\r\ndata:  lines\r\n\r\n"
    "id: 3\rdata\rdata:x\r\r"
    "event: nothing\n\n"
    "id\ndata: no id any more\n\n"
    "data: never finished\n"
).encode()
MESSAGES = [
    Message('{"a": "ü…😀"}', "event_update", "1"),
    Message("two\n lines", "message", "1"),
    Message("\nx", "message", "3"),
    Message("no id any more", "message", ""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
@example([])
@example(list(range(len(STREAM))))
def test_events_do_not_depend_on_where_the_stream_is_cut(cuts: list[int]) -> None:
    parser = SSEParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    got = [
        message
        for start, end in itertools.pairwise(edges)
        for message in parser.feed(STREAM[start:end])
    ]
    assert got == MESSAGES
