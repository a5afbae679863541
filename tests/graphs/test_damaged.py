"""Workflows that contradict themselves, and null values: what frontends 1.58.1 and 1.49.6 queue.

The workflows were made by hand for this, and loaded and queued by both frontends.
"""

import json

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.diff import diff_graphs
from comfydeploy_jupyter.graphs.layout import api_to_ui
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from tests.helpers.graphs import combo, declared, recorded, saved

DEFINITIONS = NodeDefinitions(recorded("damaged.object_info.json.gz"))
ROWS = {row["name"]: row for row in recorded("damaged.jsonl.gz")}
BY_NAME = {"port2_values_named", "port2_values_both", "port2_dict"}
"""Values saved by name are used, however many there are; both frontends drop them."""

REPAIRED_IN_1_49 = {"outL_99", "inL_99", "ord_dupid"}
"""1.49.6 takes links that a port does not name, and of two links with one id the last."""


def queued(ui):
    graph = json.loads(json.dumps(ui_to_api(ui, DEFINITIONS).graph))
    return {key: {k: node[k] for k in ("class_type", "inputs")} for key, node in graph.items()}


@pytest.mark.parametrize("name", sorted(ROWS.keys() - BY_NAME - {"out2_v149"}))
def test_queues_what_the_newest_frontend_does(name):
    assert queued(ROWS[name]["ui"]) == ROWS[name]["api"]


@pytest.mark.parametrize("name", sorted(ROWS.keys() - BY_NAME - REPAIRED_IN_1_49))
def test_what_1_49_saved_is_read_as_it_reads_it(name):
    row = ROWS[name]
    ui = {**row["ui"], "extra": {"frontendVersion": "1.49.6"}}
    expected = row.get("api_1_49_6", row["api"])
    if expected is None:  # it throws; here the link to nothing is left out, and that is said
        assert ui_to_api(ui, DEFINITIONS).warnings
    else:
        assert queued(ui) == expected


def test_the_version_matters_where_the_frontends_differ():
    assert sum("api_1_49_6" in row for row in ROWS.values()) > 20
    ui = ROWS["out2_v149"]["ui"]
    assert queued(ui) == ROWS["out2_v149"]["api_1_49_6"]
    for other in ("1.50.0", "1.45.3", "nightly", None, 1.49, [1, 49]):
        assert queued({**ui, "extra": {"frontendVersion": other}}) == ROWS["out2_v149"]["api"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("port2_values_named", [100, 200]),  # ``name#1`` is the second of a name
        ("port2_values_both", [100, 200]),
        ("port2_dict", [100, 100]),
    ],
)
def test_values_of_equal_names_are_kept_by_name(name, values):
    inputs = queued(ROWS[name]["ui"])["5:11"]["inputs"]
    assert [inputs["width"], inputs["height"]] == values


def test_a_promoted_choice_with_the_inputs_of_another_option_is_told():
    modes = combo(simple={"count": ["INT", {"default": 4}]}, list={"items": ["*", {}]})
    known = NodeDefinitions({"Loop": {**declared(mode=modes), "output": ["INT"]}})
    port = {"id": "p", "name": "mode", "type": "COMBO", "linkIds": [1]}
    slot = {"name": "mode", "type": "COMBO", "widget": {"name": "mode"}, "link": 1}
    inner = {**saved(3, "Loop", ["simple", 7]), "inputs": [slot]}
    graph = {"id": "sub", "nodes": [inner], "links": [[1, -10, 0, 3, 0, "COMBO"]]}
    graph |= {"inputs": [port], "outputs": [], "name": "S"}
    for value, told in (("list", 1), ("simple", 0), (None, 0)):
        flow = {"nodes": [saved(5, "sub", [value])], "definitions": {"subgraphs": [graph]}}
        converted = ui_to_api(flow, known)
        assert converted.graph["5:3"]["inputs"]["mode.count"] == 7
        warnings = [each for each in converted.warnings if "the subgraph sets only" in each]
        assert len(warnings) == told
        if told:
            assert 'mode is "list", but the inputs that belong to it are those of "simple"' in str(
                warnings
            )


def test_a_link_to_an_output_beyond_all_is_refused():
    graph = {
        "1": {"class_type": "EmptyImage"},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 10**18]}},
    }
    with pytest.raises(InvalidRequestError, match=r"workflow_api\.2\.inputs\.images: is linked"):
        api_to_ui(graph, DEFINITIONS)


@pytest.mark.parametrize("number", [2**40, 2**53 - 1, 2**53])
def test_large_ids_survive_both_ways(number):
    graph = {
        str(number): {"class_type": "EmptyImage", "inputs": {"width": 8}},
        "2": {"class_type": "SaveImage", "inputs": {"images": [str(number), 0]}},
    }
    ui = api_to_ui(graph, DEFINITIONS)
    assert {node["id"] for node in ui["nodes"]} == {number, 2}
    back = ui_to_api(ui, DEFINITIONS).graph
    assert [*back] == ["2", str(number)]
    assert back["2"]["inputs"]["images"] == [str(number), 0]
    assert not diff_graphs(ui, json.loads(json.dumps(ui))).changes


@pytest.mark.parametrize("name", ["9" * 5000, "²", "٣", "007", str(2**53 + 1)])
def test_ids_that_are_no_numbers_of_the_editor_stay_texts(name):
    graph = {name: {"class_type": "SaveImage", "inputs": {}}, "2": {"class_type": "SaveImage"}}
    ui = api_to_ui(graph, DEFINITIONS)
    assert ui["nodes"][0]["id"] == name
    assert [*ui_to_api(ui, DEFINITIONS).graph] == ["2", name]
