from __future__ import annotations

import copy

import pytest

from comfydeploy_jupyter.graphs.dependencies import structure_of

GRAPH = {
    "1": {"class_type": "A", "inputs": {"x": 1, "y": "a"}, "_meta": {"title": "One"}},
    "2": {"class_type": "B", "inputs": {"in": ["1", 0], "z": [1, 2, 3]}},
}


def changed(node: str, **inputs) -> dict:
    graph = copy.deepcopy(GRAPH)
    graph[node]["inputs"].update(inputs)
    return graph


@pytest.mark.parametrize(
    "other",
    [
        changed("1", x=2),
        changed("2", z=[]),
        changed("1", new="value"),
        dict(reversed(GRAPH.items())),
    ],
)
def test_values_and_order_do_not_count(other):
    assert structure_of(other) == structure_of(GRAPH)
    assert len(structure_of(GRAPH)) == 32


@pytest.mark.parametrize(
    "other",
    [
        changed("2", **{"in": ["1", 1]}),
        changed("2", **{"in": 5}),
        changed("1", x=["2", 0]),
        {"1": GRAPH["1"]},
        {**GRAPH, "1": {**GRAPH["1"], "class_type": "C"}},
        {"1": GRAPH["1"], "3": GRAPH["2"]},
    ],
)
def test_nodes_and_links_count(other):
    assert structure_of(other) != structure_of(GRAPH)
