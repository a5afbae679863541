"""JSON that is parsed and written in pieces is the same as if it were not."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.util import jsons
from comfydeploy_jupyter.util.jsons import decoder, dumps, loads, rough_size

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
DEPTHS = st.integers(0, 6)
PIECES = st.sampled_from([1, 3, 10, 200, jsons.PIECE])
CONTENT = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
NODES = [{"id": n, "inputs": {"text": "a photo", "link": [n, 0]}} for n in range(2000)]
DEEP = {"definitions": {"subgraphs": [{"state": {"nodes": NODES, "ids": [*range(9000)]}}]}}


@pytest.fixture(autouse=True)
def keep_sizes(monkeypatch):
    """Restore the sizes of pieces after a test."""
    monkeypatch.setattr(jsons, "VALUES", jsons.VALUES)
    monkeypatch.setattr(jsons, "PIECE", jsons.PIECE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, DEPTHS, st.sampled_from([None, 1]), PIECES)
def test_every_json_value_is_decoded_for_every_piece_size(value, depth, indent, piece):
    jsons.PIECE = piece
    text = json.dumps(value, indent=indent)
    expected = json.loads(text, parse_constant=lambda _: None)
    assert loads(text, depth) == expected
    assert loads(f" \r\n\t{text}\n".encode(), depth) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, DEPTHS, st.data(), PIECES)
def test_invalid_json_is_refused_for_every_piece_size(value, depth, data, piece):
    jsons.PIECE = piece
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
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[" + "1," * 10**6, b"\xff", "", '{"a" 1}', "[1 2]"],
)
@pytest.mark.parametrize("depth", [0, 1, 2, 10**6])
def test_other_invalid_json_is_refused(text, depth):
    with pytest.raises(ValueError, match=r".+"):
        loads(text, depth)


@pytest.mark.parametrize("piece", [1, 4, jsons.PIECE])
def test_the_decoder_of_requests(piece):
    jsons.PIECE = piece
    strict = decoder(unique=True)
    for text in ('{"a": [NaN]}', "[1, Infinity]", '{"a": {"b": 1, "b": 2}}', "[1, 2, 1e999]"):
        with pytest.raises(ValueError, match=r"is not JSON|twice|too large"):
            loads(text, decoder=strict)
    assert loads('{"b": 1, "b": 2}', decoder=decoder()) == {"b": 2}
    assert loads("[1, 2.5, null, true, -3]", decoder=strict) == [1, 2.5, None, True, -3]
    for text in ("[1, 2,]", "[1,, 2]", "[,1]", '{"a": 1,}', "[1 2, 3]"):
        with pytest.raises(ValueError, match=r".+"):
            loads(text, decoder=strict)


def test_the_leaf_callback_replaces_values_at_the_depth():
    queue = {"queue_running": [[0, "a", {"graph": [1]}]], "queue_pending": [], "more": 5}
    assert loads('[NaN, {"a": -Infinity}, Infinity]', 1) == [None, {"a": None}, None]
    found = loads(json.dumps(queue), 2, leaf=lambda item: item[:2])
    assert found == {"queue_running": [[0, "a"]], "queue_pending": [], "more": 5}


class WatchedDecoder(json.JSONDecoder):
    """Records how much of a text is parsed at once."""

    longest = 0

    def raw_decode(self, s, idx=0):
        value, end = super().raw_decode(s, idx)
        self.longest = max(self.longest, end - idx)
        return value, end


@pytest.mark.parametrize("indent", [None, 2])
def test_nothing_large_is_parsed_at_once(indent):
    text = json.dumps({"workflow": DEEP}, indent=indent)
    watched = WatchedDecoder()
    assert loads(text, decoder=watched) == {"workflow": DEEP}
    assert 100 < watched.longest <= jsons.PIECE + 2 < len(text) / 10


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, PIECES)
def test_output_equals_that_of_the_json_module(value, piece):
    jsons.VALUES = piece
    assert dumps(value) == json.dumps(value)
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert dumps(value, encoder=CONTENT) == expected


class WatchedEncoder(json.JSONEncoder):
    """Records how much JSON is written at once."""

    longest = 0

    def encode(self, value):
        text = super().encode(value)
        self.longest = max(self.longest, len(text))
        return text


def test_nothing_large_is_made_at_once():
    watched = WatchedEncoder()
    assert dumps(DEEP, encoder=watched) == json.dumps(DEEP)
    assert 10 < watched.longest < 10 * jsons.VALUES


def test_rough_size():
    for value in (
        ["x" * 1000] * 50,
        {str(n): {"text": "abc" * n} for n in range(200)},
        [[1]] * 500,
    ):
        assert 0.5 < rough_size(value) / len(json.dumps(value)) < 3
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert rough_size(deep) > 100_000
