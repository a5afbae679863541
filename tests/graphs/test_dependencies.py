"""Chains of nodes, the depth of nested values, fingerprints and structures of graphs."""

import copy

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.dependencies import (
    KEPT,
    MAX_CHAIN,
    MAX_DEPTH,
    check_depth,
    end_of_long_chain,
    fingerprint_of,
    nodes_in,
    structure_of,
)
from tests.helpers.graphs import node


def linked(**sources):
    """Return a graph of nodes, each with the nodes that it depends on."""
    return {
        node_id: node("Any", **{f"in{n}": [source, 0] for n, source in enumerate(before)})
        for node_id, before in sources.items()
    }


def row(length, name="n"):
    return linked(**{f"{name}{n}": [f"{name}{n - 1}"] if n else [] for n in range(length)})


def test_many_nodes_without_a_long_chain_are_accepted():
    wide = linked(root=[], **{f"w{n}": ["root", "root"] for n in range(5_000)})
    ladder = {**row(MAX_CHAIN - 1), **row(MAX_CHAIN - 1, "m")}
    for n in range(1, MAX_CHAIN - 1):
        ladder[f"n{n}"]["inputs"]["side"] = [f"m{n - 1}", 0]
    assert end_of_long_chain(wide) is None
    assert end_of_long_chain(ladder) is None


def test_a_cycle_counts_as_a_chain_of_its_nodes():
    small = {**row(MAX_CHAIN - 10), **linked(a=["b"], b=["a"])}
    small |= row(9, "c")
    assert end_of_long_chain(small) is None
    ring = row(MAX_CHAIN + 1)
    ring["n0"]["inputs"]["image"] = [f"n{MAX_CHAIN}", 0]
    assert end_of_long_chain(ring) in ring


def test_the_error_names_the_node_by_its_title():
    deep = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(InvalidRequestError, match=r'node "Deep" \(A\) has more than'):
        check_depth({"1": node("A", "Deep", x=deep)}, None)


def chain(*values, name=""):
    """Return a chain of nodes with these values."""
    graph = {}
    for number, value in enumerate(values):
        source = {"source": [f"{name}{number - 1}", 0]} if number else {}
        graph[f"{name}{number}"] = node("Node", value=value, **source)
    return graph


def common(a, b):
    return len(nodes_in(fingerprint_of(a)) & nodes_in(fingerprint_of(b)))


def test_nodes_after_another_value_are_different():
    assert common(chain(1, 2, 3, 4), chain(1, 2, 3, 4)) == 4
    assert common(chain(1, 2, 3, 4), chain(1, 2, 5, 4)) == 2
    assert common(chain(1, 2, 3, 4), chain(9, 2, 3, 4)) == 0
    assert common(chain(1, 2), chain(True, "2")) == 0


def test_a_loop_and_what_depends_on_it_is_not_cached():
    graph = chain(1, 2, 3, 4)
    graph["2"]["class_type"] = "StartLoop"
    assert common(graph, graph) == 2


def test_of_a_large_graph_a_sample_is_kept_in_proportion():
    half = {**chain(*range(500), name="a"), **chain(*range(500), name="b")}
    for number in range(500):
        half[f"b{number}"]["class_type"] = "Other"
    whole = {**chain(*range(500), name="a"), **chain(*range(1, 501), name="c")}
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


GRAPH = {"1": node("A", "One", x=1, y="a"), "2": node("B", **{"in": ["1", 0], "z": [1, 2, 3]})}


def changed(key, **inputs):
    graph = copy.deepcopy(GRAPH)
    graph[key]["inputs"].update(inputs)
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
