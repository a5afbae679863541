"""JSON that is parsed piece by piece is what the parser in one go makes of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfydeploy_jupyter.answers import loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
DEPTHS = st.integers(0, 6)


@given(VALUES, DEPTHS, st.sampled_from([None, 1]))
def test_every_value_at_every_depth(value, depth, indent):
    text = json.dumps(value, indent=indent)
    expected = json.loads(text, parse_constant=lambda _: None)
    assert loads(text, depth) == expected
    assert loads(f" \r\n\t{text}\n".encode(), depth) == expected


@given(VALUES, DEPTHS, st.data())
def test_what_is_no_json_is_refused_at_every_depth(value, depth, data):
    text = json.dumps(value)
    place = data.draw(st.integers(0, len(text) - 1))
    for broken in (text[:place], text[:place] + "}" + text[place:], text + ","):
        try:
            expected = json.loads(broken, parse_constant=lambda _: None)
        except ValueError:
            with pytest.raises(ValueError, match=r".+"):
                loads(broken, depth)
        else:
            assert loads(broken, depth) == expected


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, b"\xff", "", '{"a" 1}', "[1 2]"]
)
@pytest.mark.parametrize("depth", [0, 1, 2, 10**6])
def test_broken_in_other_ways(text, depth):
    with pytest.raises(ValueError, match=r".+"):
        loads(text, depth)


def test_numbers_that_are_none():
    assert loads('[NaN, {"a": -Infinity}, Infinity]', 1) == [None, {"a": None}, None]


def test_a_leaf_is_seen_and_replaced():
    queue = {"queue_running": [[0, "a", {"graph": [1]}]], "queue_pending": [], "more": 5}
    found = loads(json.dumps(queue), 2, leaf=lambda item: item[:2])
    assert found == {"queue_running": [[0, "a"]], "queue_pending": [], "more": 5}
