import json

import pytest

from comfydeploy_jupyter.client.graph import Source
from comfydeploy_jupyter.errors import InvalidRequestError

API = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "model": ["4", 0]},
        "_meta": {"title": "Paint"},
    },
    "4": {"class_type": "RandomNoise", "inputs": {"noise_seed": 2}},
    "5": {"class_type": "KSampler", "inputs": {"seed": ["4", 0]}},
}
UI = {"nodes": [{"id": 3, "type": "KSampler", "title": "Paint"}], "links": []}


def test_refuses_values_that_are_not_workflows(tmp_path):
    (tmp_path / "broken.json").write_text("{,}")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InvalidRequestError, match=r"workflow: .*broken\.json is not JSON"):
        Source(tmp_path / "broken.json")
    with pytest.raises(InvalidRequestError, match="not a JSON object"):
        Source(tmp_path / "list.json")
    with pytest.raises(InvalidRequestError, match="not a list"):
        Source([])
    with pytest.raises(FileNotFoundError):
        Source(tmp_path / "missing.json")


def test_seed_sets_every_literal_seed_or_is_left_to_the_server():
    assert Source(API).seed_inputs(7) == {"3.seed": 7, "4.noise_seed": 7}
    assert Source(UI).seed_inputs(7) == Source(None).seed_inputs(7) == {"seed": 7}
    with pytest.raises(InvalidRequestError, match="no node of this workflow has a seed"):
        Source({"1": {"class_type": "EmptyImage", "inputs": {}}}).seed_inputs(7)


def test_names_of_nodes():
    assert str(Source(API).name("3")) == '"Paint" (KSampler)'
    assert str(Source(API).name(4)) == "RandomNoise"
    twice = {**API, "5": API["3"], "6": API["4"]}
    assert str(Source(twice).name("3")) == '"Paint" (KSampler, id 3)'
    assert str(Source(twice).name(4)) == "RandomNoise (id 4)"
    assert str(Source(UI).name("3")) == '"Paint" (KSampler)'
    assert str(Source(None).name("9", "SaveImage")) == "SaveImage (id 9)"
    assert str(Source(API).name("3.0.1", "Inner")) == '"Paint" (Inner, id 3.0.1)'


def test_a_workflow_of_one_line_stays_text_until_its_graph_is_needed(tmp_path):
    for graph, name in (
        (API, "workflow_api"),
        (UI, "workflow"),
        ({**API, "nodes": {}}, "workflow_api"),
    ):
        for indent in (None, 1):
            path = tmp_path / "graph.json"
            path.write_text(json.dumps(graph, indent=indent))
            source = Source(path, ui=UI if graph is API else None)
            more = {"workflow": json.dumps(UI)} if graph is API else {}
            assert source.texts() == {name: json.dumps(graph), **more}
            assert (source.is_ui, source.graph) == (graph is UI, graph)
