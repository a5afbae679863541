"""The longest chain of nodes in a graph, and the depth of nested values."""

from __future__ import annotations

from typing import Any

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.dependencies import (
    DEEPEST_VALUE,
    LONGEST_CHAIN,
    check_depth,
    end_of_long_chain,
    is_deeper_than,
)


def linked(**sources: list[str]) -> dict[str, dict[str, Any]]:
    """Return a graph of nodes, each with the nodes that it depends on."""
    return {
        node_id: {
            "class_type": "Any",
            "inputs": {f"in{n}": [source, 0] for n, source in enumerate(before)},
        }
        for node_id, before in sources.items()
    }


def row(length: int, name: str = "n") -> dict[str, dict[str, Any]]:
    return linked(**{f"{name}{n}": [f"{name}{n - 1}"] if n else [] for n in range(length)})


def test_the_length_of_a_chain_does_not_depend_on_the_order_of_nodes() -> None:
    assert end_of_long_chain(row(LONGEST_CHAIN)) is None
    longer = row(LONGEST_CHAIN + 1)
    assert end_of_long_chain(longer) == f"n{LONGEST_CHAIN}"
    assert end_of_long_chain(dict(reversed(longer.items()))) == f"n{LONGEST_CHAIN}"


def test_many_nodes_without_a_long_chain_are_accepted() -> None:
    wide = linked(root=[], **{f"w{n}": ["root", "root"] for n in range(5_000)})
    ladder = {**row(LONGEST_CHAIN - 1), **row(LONGEST_CHAIN - 1, "m")}
    for n in range(1, LONGEST_CHAIN - 1):
        ladder[f"n{n}"]["inputs"]["side"] = [f"m{n - 1}", 0]
    assert end_of_long_chain(wide) is None
    assert end_of_long_chain(ladder) is None


def test_a_link_to_a_missing_node_begins_a_chain() -> None:
    graph = row(LONGEST_CHAIN)
    graph["n0"]["inputs"]["image"] = ["gone", 0]
    assert end_of_long_chain(graph) is None


def test_a_cycle_counts_as_a_chain_of_its_nodes() -> None:
    small = {**row(LONGEST_CHAIN - 10), **linked(a=["b"], b=["a"])}
    small |= row(9, "c")
    assert end_of_long_chain(small) is None
    ring = row(LONGEST_CHAIN + 1)
    ring["n0"]["inputs"]["image"] = [f"n{LONGEST_CHAIN}", 0]
    assert end_of_long_chain(ring) in ring


@pytest.mark.parametrize(
    ("value", "depth"), [({}, 1), ([[], [{"a": [1, "b"]}]], 4), ({"a": {"b": {}}, "c": 5}, 3)]
)
def test_nested_values(value: Any, depth: int) -> None:
    assert is_deeper_than(value, depth - 1)
    assert not is_deeper_than(value, depth)


def test_the_error_names_the_node_by_its_title() -> None:
    deep: Any = []
    for _ in range(DEEPEST_VALUE):
        deep = [deep]
    node = {"class_type": "A", "inputs": {"x": deep}, "_meta": {"title": "Deep"}}
    with pytest.raises(InvalidRequestError, match=r'node "Deep" \(A\) has more than'):
        check_depth({"1": node}, None)
