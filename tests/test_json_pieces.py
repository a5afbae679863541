"""JSON that is made in pieces."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfydeploy_jupyter.json_pieces import dumps, rough_size

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
)


@given(JSON, st.integers(0, 6))
def test_it_is_what_the_encoder_of_python_makes(value: Any, depth: int) -> None:
    assert dumps(value, depth) == json.dumps(value)


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
