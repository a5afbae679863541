"""The content of the picture of a workflow."""

import pytest

from comfydeploy_jupyter.graphs.layout import MAX_NODES, MAX_TEXT, picture_of
from tests.helpers.graphs import node

NODE = {"id": 1, "type": "KSampler", "pos": [10, 50], "size": [200, 120], "mode": 0}


def test_nodes_links_and_groups_of_the_editor():
    inputs = [{"name": "model", "type": "MODEL", "link": 7}]
    workflow = {
        "nodes": [
            {"id": 1, "type": "Loader", "pos": {"0": 1, "1": 40}, "outputs": [{"name": "MODEL"}]},
            {**NODE, "id": 2, "title": "Draw", "inputs": inputs, "mode": 4, "color": "#322"},
            {**NODE, "id": 3, "flags": {"collapsed": True}, "inputs": inputs},
        ],
        "links": [[7, 1, 0, 2, 0, "MODEL"], [8, 1, 0, 99, 0, "MODEL"], "damaged"],
        "groups": [{"title": "Both", "bounding": [0, 0, 500, 300], "color": "#3f789e"}],
    }
    graph = picture_of(workflow)["graph"]
    loader, draw, collapsed = graph["nodes"]
    assert (loader["title"], loader["box"][:2], loader["outs"]) == ("Loader", [1, 10], ["MODEL"])
    assert (draw["title"], draw["kind"], draw["ins"]) == ("Draw", "KSampler", ["model"])
    assert (draw["box"], draw["mode"], draw["color"]) == ([10, 20, 200, 150], "bypassed", "#322")
    assert (collapsed["ins"], collapsed["box"][3]) == ([], 30)
    assert graph["links"] == [["1", 0, "2", 0, "MODEL"]]
    assert graph["groups"] == [{"title": "Both", "box": [0, 0, 500, 300], "color": "#3f789e"}]


def test_subgraphs_are_drawn_with_their_nodes():
    link = {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 4, "target_slot": 0}
    inner = {
        "id": "1f0c",
        "name": "Upscale",
        "nodes": [{**NODE, "id": 4, "inputs": [{"name": "image"}]}],
        "links": [{**link, "type": "IMAGE"}],
        "inputs": [{"name": "image", "label": "picture"}],
        "outputs": [],
        "inputNode": {"id": -10, "bounding": [-200, 0, 120, 60]},
        "outputNode": {"id": -20, "bounding": [400, 0, 120, 60]},
    }
    nodes = [{**NODE, "type": "1f0c"}]
    workflow = {"nodes": nodes, "links": [], "definitions": {"subgraphs": [inner]}}
    picture = picture_of(workflow)
    (outer,) = picture["graph"]["nodes"]
    assert (outer["title"], outer["subgraph"]) == ("Upscale", "1f0c")
    opened = picture["subgraphs"]["1f0c"]
    assert [node["id"] for node in opened["nodes"]] == ["4", "-10", "-20"]
    assert opened["nodes"][1]["outs"] == ["picture"]
    assert opened["links"] == [["-10", 0, "4", 0, "IMAGE"]]


def test_a_graph_in_api_format_is_put_into_columns():
    graph = {
        "1": node("Loader", "Load", name="x"),
        "2": node("Sampler", model=["1", 0], steps=20),
        "3": node("Save", images=["2", 1], model=["1", 0]),
    }
    picture = picture_of(graph)["graph"]
    lefts = [node["box"][0] for node in picture["nodes"]]
    assert lefts == sorted(set(lefts))
    assert picture["nodes"][0]["title"] == "Load"
    assert picture["nodes"][1]["outs"] == ["", ""]
    links = [["1", 0, "2", 0, ""], ["2", 1, "3", 0, ""], ["1", 0, "3", 1, ""]]
    assert picture["links"] == links


@pytest.mark.parametrize("format_", ["api", "ui"])
def test_sizes_are_bounded(format_):
    count = MAX_NODES + 7
    if format_ == "api":
        workflow = {str(n): node("x" * 999, a=["0", 0]) for n in range(count)}
    else:
        nodes = [{**NODE, "id": n, "title": "x" * 999, "pos": [1e300, -1e9]} for n in range(count)]
        workflow = {"nodes": nodes, "links": []}
    graph = picture_of(workflow)["graph"]
    assert (len(graph["nodes"]), graph["left_out"]) == (MAX_NODES, 7)
    assert len(graph["nodes"][1]["title"]) == MAX_TEXT


def test_a_cycle_is_drawn():
    graph = {"1": node("A", x=["2", 0]), "2": node("B", x=["1", 0])}
    assert len(picture_of(graph)["graph"]["links"]) == 2
