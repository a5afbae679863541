"""Workflows as they are saved: paths and labels, whether they are sound, and fit their graphs."""

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.ui import (
    SavedWorkflow,
    check_consistency,
    check_integrity,
)
from tests.helpers.graphs import node, recorded, saved


def test_nodes_have_their_ids_in_messages_only_if_others_have_their_titles():
    ui = {
        "nodes": [
            {"id": 1, "type": "KSampler"},
            {"id": 2, "type": "KSampler", "title": "Final"},
            {"id": 3, "type": "KSampler", "title": "Final"},
            {"id": 4, "type": "uuid"},
        ],
        "definitions": {"subgraphs": [{"id": "uuid", "name": "Upscale", "nodes": []}]},
    }
    saved = SavedWorkflow(ui)
    labels = [saved.label(node, saved.root) for node in saved.root.every]
    assert labels == [
        "KSampler",
        '"Final" (KSampler, id 2)',
        '"Final" (KSampler, id 3)',
        '"Upscale" (subgraph)',
    ]


def sink(link, key=2):
    return saved(key, "B", None, [("x", link)])


SOURCE = {"id": 1, "type": "A"}
INNER = {"nodes": [sink(5, 1)], "links": [{"id": 5, "origin_id": -10, "target_id": 1}]}


@pytest.mark.parametrize(
    "graph",
    [
        {"nodes": [SOURCE, sink(5)], "links": [[5, 1, 0, 2, 0, "*"]]},
        {"nodes": [SOURCE, sink(5)], "links": [{"id": 5, "origin_id": 1, "target_id": 2}]},
        {"nodes": [SOURCE, sink(None)], "links": [[6, 9, 0, 8, 0, "*"]]},
        {"nodes": [SOURCE, sink(5)]},
        {"nodes": [{"type": "A"}, {"type": "A"}], "links": []},
        {"nodes": [SOURCE], "definitions": {"subgraphs": [INNER, 5]}},
        {"1": node("A", x=["2", "y"], z=[1, 2, 3])},
    ],
)
def test_check_integrity_accepts(graph):
    check_integrity(graph, field="workflow")


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        ({"nodes": [SOURCE, SOURCE], "links": []}, "two nodes with the id '1'"),
        ({"nodes": [SOURCE, sink(5)], "links": []}, "input 'x' of node B is linked to link 5"),
        ({"nodes": [sink(5)], "links": [[5, 1, 0, 2, 0, "*"]]}, "is linked to node '1'"),
        ({"nodes": [sink(5)], "links": [5, [], {}]}, "is linked to link 5"),
        ({"1": node("A", x=["2", 0])}, "is linked to node '2'"),
    ],
)
def test_check_integrity_refuses(graph, says):
    with pytest.raises(InvalidRequestError, match=says) as caught:
        check_integrity(graph, field="workflow")
    assert caught.value.details["field"] == "workflow"


def test_recorded_pairs_are_sound_and_agree():
    pairs = [row for row in recorded("ui_to_api.jsonl.gz") if row.get("api")]
    assert len(pairs) > 50
    for pair in pairs:
        check_consistency(pair["api"], pair["ui"])
        check_integrity(pair["api"], field="workflow_api")


@pytest.mark.parametrize(
    ("origin", "slot", "agrees"),
    [(1, 0, True), (1, 1, False), (3, 0, False), (4, 0, True), (99, 0, True)],
    ids=["the same", "another slot", "another node", "behind a reroute", "from nowhere"],
)
def test_links_are_compared_where_no_editor_is_needed(origin, slot, agrees):
    image, save = node("EmptyImage"), node("SaveImage", images=["1", 0], filename_prefix="a")
    nodes = [saved(n, kind) for n, kind in ((1, "EmptyImage"), (3, "EmptyImage"), (4, "Reroute"))]
    nodes.append(saved(2, "SaveImage", None, [("images", 7), ("filename_prefix", None)]))
    ui = {"nodes": nodes, "links": [[7, origin, slot, 2, 0, "IMAGE"]]}
    graph = {"1": image, "2": save, "3": image}
    if agrees:
        check_consistency(graph, ui)
        return
    says = f"'images' of node SaveImage .* \\(id {origin}\\)"
    with pytest.raises(InvalidRequestError, match=says):
        check_consistency(graph, ui)


def test_a_node_of_another_class_is_another_graph():
    ui = {"nodes": [{"id": 1, "type": "LoadImage"}]}
    check_consistency({"1": node("LoadImage")}, ui)
    for node_id, kind in (("1", "EmptyImage"), ("2", "LoadImage")):
        with pytest.raises(InvalidRequestError, match=f"node {kind} is not in workflow"):
            check_consistency({node_id: node(kind)}, ui)
