"""JSON that is written in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.util import jsons
from comfydeploy_jupyter.util.jsons import dumps, rough_size

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
)


PIECES = st.sampled_from([1, 2, 5, 200])
CONTENT = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@pytest.fixture(autouse=True)
def keep_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore `PIECE` after a test."""
    monkeypatch.setattr(jsons, "VALUES", jsons.VALUES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, PIECES)
def test_output_equals_that_of_the_json_module(value: Any, piece: int) -> None:
    jsons.VALUES = piece
    assert dumps(value) == json.dumps(value)
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert dumps(value, encoder=CONTENT) == expected


class Watched(json.JSONEncoder):
    """Records how much JSON is written at once."""

    longest = 0

    def encode(self, value: Any) -> str:
        text = super().encode(value)
        self.longest = max(self.longest, len(text))
        return text


def test_nothing_large_is_made_at_once() -> None:
    nodes = [{"id": n, "inputs": {"text": "a photo", "link": [n, 0]}} for n in range(2000)]
    deep = {"definitions": {"subgraphs": [{"state": {"nodes": nodes, "ids": [*range(9000)]}}]}}
    watched = Watched()
    assert dumps(deep, encoder=watched) == json.dumps(deep)
    assert 10 < watched.longest < 1000


def test_rough_size() -> None:
    for value in (
        ["x" * 1000] * 50,
        {str(n): {"text": "abc" * n} for n in range(200)},
        [[1]] * 500,
    ):
        assert 0.5 < rough_size(value) / len(json.dumps(value)) < 3
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert rough_size(deep) > 100_000
