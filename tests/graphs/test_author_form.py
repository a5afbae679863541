"""The form that the author of a workflow defined: App mode, and promoted widgets."""

import copy
import time

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.form import (
    MAX_INPUTS,
    MAX_WARNINGS,
    AuthorForm,
    choose_inputs,
    workflow_form,
)
from comfydeploy_jupyter.graphs.inputs import apply_inputs
from comfydeploy_jupyter.graphs.shown_form import shown_form
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from tests.helpers.graphs import declared, saved

TEXT, INT = ["STRING", {}], ["INT", {"default": 512}]
DEFINITIONS = {
    "Text": {**declared(text=["STRING", {"multiline": True}]), "output": ["STRING"]},
    "Size": {**declared(width=INT, height=INT), "output": ["LATENT"]},
    "Join": {
        **declared(a=TEXT, b=TEXT, latent=["LATENT", {}], seed=INT, steps=INT),
        "output": ["IMAGE"],
    },
    "Save": {**declared(images=["IMAGE", {}], name=TEXT), "output": [], "output_node": True},
}
SUBGRAPH = "0a3dbf9e-4fe4-4d57-bf4f-1c3b6d0b0c01"
GRAPH_ID = "5e0b7d9c-6b8f-4c39-9a51-5bb3d3f9f001"


def slot(name, kind, link=None):
    return {"name": name, "type": kind, "link": link, "widget": {"name": name}}


def made(key, kind, inputs, values, **more):
    return {**saved(key, kind, values), "inputs": inputs, **more}


def workflow(**extra):
    """Return a subgraph with a promoted width, a text that a proxy shows, and a node beside it."""
    latent = {"name": "latent", "type": "LATENT", "link": 3}
    texts, numbers = ("a", "b"), ("seed", "steps")
    joined = [latent, *(slot(n, "STRING") for n in texts), *(slot(n, "INT") for n in numbers)]
    links = [(-10, 0, 10, 0, "INT"), (-10, 0, 10, 1, "INT"), (10, 0, 11, 0, "LATENT")]
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    rows = [(n, *link) for n, link in enumerate([*links, (11, 0, -20, 0, "IMAGE")], 1)]
    subgraph = {
        "id": SUBGRAPH,
        "name": "Maker",
        "inputs": [{"name": "side", "type": "INT", "linkIds": [1, 2], "label": "Side length"}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "linkIds": [4]}],
        "nodes": [
            made(10, "Size", [slot("width", "INT", 1), slot("height", "INT", 2)], [640, 480]),
            made(11, "Join", joined, ["first", "second", 7, "randomize", 20]),
        ],
        "links": [dict(zip(keys, row, strict=True)) for row in rows],
    }
    proxies = {"proxyWidgets": [["11", "b"], ["-1", "side"], ["11", "gone"]]}
    images = {"name": "images", "type": "IMAGE", "link": 9}
    host = {"title": "Maker", "properties": proxies}
    return {
        "nodes": [
            made(1, SUBGRAPH, [slot("side", "INT")], ["shown", 256, "lost"], **host),
            made(2, "Save", [images, slot("name", "STRING")], ["file"], title="Keep"),
        ],
        "links": [[9, 1, 0, 2, 0, "IMAGE"]],
        "definitions": {"subgraphs": [subgraph]},
        "extra": extra,
    }


def form_of(ui):
    before = copy.deepcopy(ui)
    graph = ui_to_api(ui, DEFINITIONS).graph
    form = workflow_form(graph, DEFINITIONS, ui)
    assert ui == before
    return graph, form


def shown(form):
    return [field.key for field in form.fields if not field.advanced]


def test_promoted_widgets_are_the_form_in_their_authors_order():
    graph, form = form_of(workflow())
    assert shown(form) == ["1:11.b", "1:10.width"]
    text, side = form.fields[:2]
    assert (text.value, side.value) == ("shown", 256)
    assert (text.label, side.label) == ("Maker: b", "Side length")
    assert side.twins == ("1:10.height",)
    assert all(field.chosen for field in (text, side))
    assert {"1:11.seed", "1:11.steps", "1:11.a", "2.name"} <= {
        field.key for field in form.fields if field.advanced
    }
    assert "1:10.height" not in {field.key for field in form.fields}, "one widget, one field"
    assert form.warnings == []
    changed = apply_inputs(graph, dict.fromkeys(side.keys, 128)).graph
    assert changed["1:10"]["inputs"] == {"width": 128, "height": 128}


@pytest.mark.parametrize(
    ("entries", "keys"),
    [
        ([["2", "name"], ["1", "side"]], ["2.name", "1:10.width"]),
        ([[2, "name"], [1, "side", {"height": 90}]], ["2.name", "1:10.width"]),
        ([["11", "b"]], ["1:11.b"]),
        ([["11", "steps"]], ["1:11.steps"]),
        ([["10", "width"]], ["1:10.width"]),
        ([["1:11", "seed"]], ["1:11.seed"]),
        ([[f"{GRAPH_ID}:2:name", "name"]], ["2.name"]),
        ([[f"{GRAPH_ID}:1:side", "Side length"]], ["1:10.width"]),
        ([[f"{GRAPH_ID}:1", "side"]], ["1:10.width"]),
        ([["1", "b"]], ["1:11.b"]),
        ([["2", "name"], ["2", "name"]], ["2.name"]),
    ],
)
def test_app_mode_decides_inputs_and_their_order(entries, keys):
    ui = workflow(linearMode=True, linearData={"inputs": entries, "outputs": [2]})
    _, form = form_of(ui)
    assert shown(form) == keys
    assert form.outputs == ["2"]
    assert form.warnings == []
    assert all(field.chosen == (field.key in keys) for field in form.fields)


@pytest.mark.parametrize(
    ("data", "warnings"),
    [
        ([], ["extra.linearData is ignored: it is not an object"]),
        ({"inputs": 3}, ["extra.linearData.inputs is ignored: it is not a list"]),
        ({"inputs": [["9", "name"]]}, ["inputs[0] is ignored: the workflow has no node '9'"]),
        (
            {"inputs": [["2", "nothing"]]},
            ['nothing of node "Keep" (Save) is not in the form: there is no such value'],
        ),
        (
            {"inputs": [["2", "images"]]},
            ['images of node "Keep" (Save) is not in the form: it is connected'],
        ),
        ({"inputs": ["2"]}, ["inputs[0] is ignored: it is not a pair of a node's id"]),
        ({"inputs": [[None, "name"]]}, ["inputs[0] is ignored: it is not a pair"]),
        ({"inputs": [[True, "name"]]}, ["inputs[0] is ignored: it is not a pair"]),
        ({"inputs": [["2", {"a": 1}]]}, ["inputs[0] is ignored: it is not a pair"]),
        (
            {"outputs": [{}, 99]},
            ["outputs[0] is ignored: it is not the id", "outputs[1] is ignored: the"],
        ),
    ],
)
def test_entries_for_missing_inputs_give_warnings_and_the_default_form(data, warnings):
    _, form = form_of(workflow(linearMode=True, linearData=data))
    assert len(form.warnings) == len(warnings)
    for warning, expected in zip(form.warnings, warnings, strict=True):
        assert expected in warning
    assert form.outputs == []
    assert form.fields


def test_equal_ids_in_two_uses_of_a_subgraph_are_not_guessed():
    ui = workflow(linearData={"inputs": [["11", "b"]]})
    ui["nodes"].append({**copy.deepcopy(ui["nodes"][0]), "id": 5})
    _, form = form_of(ui)
    assert form.warnings == ["extra.linearData.inputs[0] is ignored: there are several nodes '11'"]


def test_a_million_entries_and_nested_uses_take_bounded_time():
    ui = workflow(linearData={"inputs": [["9", "x"]] * 1_000_000, "outputs": ["9"] * 1_000_000})
    for depth in range(40):  # each uses the next one twice
        uses = [{"id": n, "type": f"s{depth + 1}", "inputs": [slot("x", "INT", n)]} for n in (1, 2)]
        inner_links = [[n, -10, 0, n, 0, "INT"] for n in (1, 2)]
        ui["definitions"]["subgraphs"].append(
            {"id": f"s{depth}", "inputs": [{"name": "x"}], "nodes": uses, "links": inner_links}
        )
    ui["nodes"].append({"id": 7, "type": "s0", "inputs": [slot("x", "INT")]})
    started = time.thread_time()
    form = AuthorForm(ui)
    assert time.thread_time() - started < 2
    assert len(form.warnings) <= MAX_WARNINGS + 1
    assert len(form.inputs) <= MAX_INPUTS


def chosen(ui, front):
    """Return a workflow with these inputs in front, and its form."""
    before = copy.deepcopy(ui)
    made = choose_inputs(ui_to_api(ui, DEFINITIONS).graph, ui, front, DEFINITIONS)
    assert ui == before
    assert ui_to_api(made, DEFINITIONS).graph == ui_to_api(ui, DEFINITIONS).graph
    return made, form_of(made)[1]


def test_chosen_inputs_are_in_front_in_their_order_also_those_of_subgraphs():
    front = dict.fromkeys(["2.name", "1:10.width", "1:11.b"])
    made, form = chosen(workflow(ds={"scale": 2}), front)
    entries = [[2, "name"], [1, "side"], [1, "b"]]
    assert made["extra"] == {"ds": {"scale": 2}, "linearData": {"inputs": entries, "outputs": [2]}}
    assert shown(form) == list(front)
    assert form.warnings == []
    # another choice keeps what the editor has noted of an input, and the chosen outputs
    made["extra"]["linearData"] = {
        "inputs": [[f"{GRAPH_ID}:1:side", "side", {"height": 90}]],
        "outputs": [1],
        "more": 1,
    }
    again, form = chosen(made, dict.fromkeys(["1:11.b", "1:10.height"]))
    assert again["extra"]["linearData"] == {
        "inputs": [[1, "b"], [f"{GRAPH_ID}:1:side", "side", {"height": 90}]],
        "outputs": [1],
        "more": 1,
    }
    assert shown(form) == ["1:11.b", "1:10.width"]


def test_without_a_choice_the_form_chooses_by_itself_again():
    before = shown(form_of(workflow())[1])
    made, _ = chosen(workflow(), {"2.name": None})
    none, form = chosen(made, {})
    assert none == workflow()
    assert shown(form) == before
    made["extra"]["linearData"]["outputs"] = [1]
    assert chosen(made, {})[0]["extra"] == {"linearData": {"inputs": [], "outputs": [1]}}


def test_labels_are_kept_at_the_inputs_of_nodes():
    made, form = chosen(workflow(), {"2.name": "File", "1:10.width": "Side", "1:11.b": None})
    assert [field.label for field in form.fields if field.chosen] == ["File", "Side", "Maker: b"]
    assert made["nodes"][1]["inputs"][1] == {**slot("name", "STRING"), "label": "File"}
    made, form = chosen(made, {"2.name": "", "1:10.width": ""})
    assert [field.label for field in form.fields if field.chosen] == ["Keep: name", "Side length"]
    assert made["nodes"] == workflow()["nodes"]
    old = workflow()
    del old["nodes"][1]["inputs"][1]  # as saved before widgets had inputs
    made, form = chosen(old, {"2.name": "File"})
    assert made["nodes"][1]["inputs"][1] == {**slot("name", "STRING"), "label": "File"}
    assert form.fields[0].label == "File"


def test_a_value_of_a_primitive_node_is_chosen_there():
    ui = workflow()
    ui["nodes"].append(made(5, "PrimitiveNode", [], ["typed", "fixed"], title="Words"))
    ui["nodes"].append(made(6, "Reroute", [{"name": "", "type": "*", "link": 20}], []))
    ui["nodes"][1]["inputs"][1]["link"] = 21
    ui["links"] += [[20, 5, 0, 6, 0, "STRING"], [21, 6, 0, 2, 1, "STRING"]]
    changed, form = chosen(ui, {"2.name": None})
    assert changed["extra"]["linearData"]["inputs"] == [[5, "value"]]
    assert shown(form) == ["2.name"]
    with pytest.raises(InvalidRequestError, match="cannot have another label"):
        chosen(ui, {"2.name": "Mine"})


def test_inputs_of_nodes_that_do_not_run_stay_chosen():
    ui = workflow(linearData={"inputs": [["3", "text"], ["9", "gone"], ["2", "name"]]})
    ui["nodes"].append({"id": 3, "type": "Text", "mode": 2, "inputs": [], "widgets_values": ["a"]})
    changed, _ = chosen(ui, {"1:11.b": None})
    assert changed["extra"]["linearData"]["inputs"] == [[1, "b"], ["3", "text"]]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("2.nothing", "front: the form has no input '2.nothing'"),
        ("1:11.steps", "is inside a subgraph and not promoted"),
    ],
)
def test_an_input_that_cannot_be_chosen_is_refused(key, problem):
    with pytest.raises(InvalidRequestError, match=problem):
        chosen(workflow(), {key: None})


def test_the_form_says_which_inputs_can_be_chosen():
    graph, _ = form_of(workflow())
    rows = shown_form(graph, DEFINITIONS, workflow())["rows"]
    assert {row["key"] for row in rows if row["choosable"]} == {"1:11.b", "1:10.width", "2.name"}
    rows = shown_form(graph, DEFINITIONS)["rows"]
    assert {row["key"] for row in rows if row["choosable"]} == {"2.name"}
    legacy = workflow(linearData={"inputs": [["11", "steps"]]})
    rows = shown_form(graph, DEFINITIONS, legacy)["rows"]
    assert "1:11.steps" in {row["key"] for row in rows if row["choosable"]}
    assert chosen(legacy, {"1:11.steps": None})[0]["extra"] == {
        "linearData": {"inputs": [["11", "steps"]], "outputs": [2]}
    }


def test_labels_in_app_mode_are_those_of_the_plain_form():
    number = declared(value=["INT", {}])
    definitions = {**DEFINITIONS, "PrimitiveInt": {**number, "output": ["INT"]}}
    ui = workflow()
    ui["nodes"][1]["inputs"][1]["label"] = "File"
    value = {"name": "value", "type": "INT", "widget": {"name": "value"}, "link": None}
    ui["nodes"].append(made(5, "PrimitiveInt", [value], [64], title="Width"))
    ui["nodes"].append(made(6, "Text", [slot("text", "STRING")], ["a"]))
    graph = ui_to_api(ui, definitions).graph
    plain = {field.key: field.label for field in workflow_form(graph, definitions, ui).fields}
    assert (plain["5.value"], plain["2.name"], plain["6.text"]) == ("Width", "File", "Text: text")
    keys = dict.fromkeys(["5.value", "6.text", "2.name", "1:10.width", "1:11.b"])
    app = workflow_form(graph, definitions, choose_inputs(graph, ui, keys, definitions))
    assert {field.key: field.label for field in app.fields} == plain
