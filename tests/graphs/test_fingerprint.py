from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from comfydeploy_jupyter.graphs.dependencies import KEPT, fingerprint_of, nodes_in


def row(*values: object, name: str = "") -> dict:
    """A chain of nodes with these values."""
    graph: dict = {}
    for number, value in enumerate(values):
        source = {"source": [f"{name}{number - 1}", 0]} if number else {}
        graph[f"{name}{number}"] = {"class_type": "Node", "inputs": {"value": value, **source}}
    return graph


def common(a: dict, b: dict) -> int:
    return len(nodes_in(fingerprint_of(a)) & nodes_in(fingerprint_of(b)))


def test_nodes_after_another_value_are_different():
    assert common(row(1, 2, 3, 4), row(1, 2, 3, 4)) == 4
    assert common(row(1, 2, 3, 4), row(1, 2, 5, 4)) == 2
    assert common(row(1, 2, 3, 4), row(9, 2, 3, 4)) == 0
    assert common(row(1, 2), row(True, "2")) == 0


def test_the_order_of_nodes_does_not_matter():
    graph = row(1, 2, 3)
    assert common(graph, dict(reversed(graph.items()))) == 3


def test_of_a_large_graph_a_sample_is_kept_in_proportion():
    half = {**row(*range(500), name="a"), **row(*range(500), name="b")}
    for number in range(500):
        half[f"b{number}"]["class_type"] = "Other"
    whole = {**row(*range(500), name="a"), **row(*range(1, 501), name="c")}
    assert len(fingerprint_of(half)) == 4 * KEPT
    assert 0 < common(half, whole) < KEPT


def test_malformed_graphs_and_cycles_cause_no_error():
    assert fingerprint_of({}) == b""
    for graph in (
        {"1": {}},
        {"1": {"class_type": 5, "inputs": [1]}},
        {"1": {"inputs": {"a": ["2", 0], "b": ["9", 0]}}, "2": {"inputs": {"a": ["1", 0]}}},
        {"1": {"inputs": {"a": ["1", 0]}}},
        {"1": {"inputs": {"a": "\ud800"}}},
    ):
        assert nodes_in(fingerprint_of(graph))


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"), max_size=4)))
def test_random_links_give_a_stable_fingerprint(links):
    graph = {
        node: {"class_type": "X", "inputs": {str(i): [to, 0] for i, to in enumerate(targets)}}
        for node, targets in links.items()
    }
    assert fingerprint_of(graph) == fingerprint_of(graph)
    assert len(nodes_in(fingerprint_of(graph))) <= len(graph)
