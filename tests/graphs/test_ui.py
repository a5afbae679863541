from __future__ import annotations

from comfydeploy_jupyter.graphs.ui import Link, SavedGraph, SavedWorkflow, Slot


def test_a_path_goes_into_subgraphs():
    inner = {"id": "uuid", "nodes": [{"id": 3, "type": "KSampler"}], "links": []}
    ui = {
        "nodes": [{"id": 12, "type": "uuid"}, {"id": 17, "type": "workflow>old"}],
        "definitions": {"subgraphs": [inner]},
    }
    saved = SavedWorkflow(ui)
    (container, graph), (node, within) = saved.path("12:3")
    assert (container.id, graph) == ("12", saved.root)
    assert (node.type, within.id) == ("KSampler", "uuid")
    assert [place.id for place, _ in saved.path("17:1")] == ["17"]
    assert saved.path("12:4") == saved.path("5") == []


def test_links_are_arrays_or_objects():
    rows = SavedGraph({"links": [None, [7, 1, 2, 3, 4, "INT"]]})
    assert rows.source(Slot("a", "INT", 7)) == Link("1", 2, "3", 4, "INT")
    link = {"id": 8, "origin_id": -10, "origin_slot": 1, "target_id": 3, "target_slot": 0}
    objects = SavedGraph({"links": [link]})
    assert objects.source(Slot("a", "INT", 8)) == Link("-10", 1, "3", 0)
    assert objects.source(Slot("a", "INT")) is None
    assert SavedGraph({}).source(Slot("a", "INT", 7)) is None


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
