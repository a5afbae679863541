"""Inputs of kinds that no version of ComfyUI had when this was written."""

import pytest
from jsonschema import Draft202012Validator

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.graphs.inputs import apply_inputs, check_inputs, contract_of
from comfydeploy_jupyter.graphs.layout import api_to_ui
from comfydeploy_jupyter.graphs.shown_form import read_value, shown_form
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from comfydeploy_jupyter.graphs.validation import validate_prompt
from tests.helpers.graphs import node, saved

V3 = {"api_node": False, "deprecated": False, "experimental": False}
KIND = "COMFY_MATRIX_V4"
TOLD = (
    f"Inputs of the kind {KIND}, as grid of New, are not known here: ComfyUI may be newer. Their"
    " values are kept and queued as they are saved, and not checked."
)


def new(kind=KIND, options=None):
    inputs = {
        "first": ["INT", {"default": 1, "max": 9}],
        "grid": [kind, {} if options is None else options],
        "last": ["STRING", {"default": "z"}],
    }
    return {"input": {"required": inputs}, "output_node": True, "output": ["INT"], **V3}


DEFINITIONS = NodeDefinitions({"New": new(), "Src": {"input": {}, "output": ["IMAGE"], **V3}})


def queued(values, links=(), **more):
    flow = {"nodes": [saved(1, "New", values, links, **more), saved(2, "Src")]}
    flow["links"] = [[5, 2, 0, 1, 0, "IMAGE"]] if links else []
    converted = ui_to_api(flow, DEFINITIONS)
    assert converted.unknown == [TOLD]
    assert converted.warnings == []
    return converted.graph["1"]["inputs"]


BY_NAME = {"first": 2, "grid": 2, "grid.0.x": 5, "grid.1.x": [1, 2], "last": "a"}


def test_values_by_name_are_kept_with_those_that_the_kind_brings():
    kept = {**BY_NAME, "grid.1.x": {"__value__": [1, 2]}}
    assert queued([2, 2, 5, [1, 2], "a"], widgets_values_named=BY_NAME) == kept
    assert queued(BY_NAME) == kept


def test_values_by_position_are_kept_where_there_are_any():
    assert queued([2, {"rows": 3}, "a"]) == {"first": 2, "grid": {"rows": 3}, "last": "a"}
    assert queued([2, "a"]) == {"first": 2, "last": "a"}
    assert queued(None) == {"first": 1, "last": "z"}


@pytest.mark.parametrize(
    "inputs",
    [
        {"grid": 3, "grid.0.x": 5},
        {"grid.0.x": ["2", 0]},
        {"grid": ["2", 0]},
        {"grid": None, "grid.x": {"a": [1]}},
        {},
    ],
)
def test_a_prompt_is_never_refused_for_them(inputs):
    graph = {
        "1": node("New", first=1, last="a", **inputs),
        "2": node("Src"),
        "3": node("New", first=1, last="a", **inputs),
    }
    result = validate_prompt(graph, DEFINITIONS)
    assert (result.valid, result.node_errors, result.warnings) == (True, {}, [TOLD])
    back = ui_to_api(api_to_ui(graph, DEFINITIONS), DEFINITIONS)
    assert back.graph["1"]["inputs"] == graph["1"]["inputs"]
    graph["1"]["inputs"]["first"] = 10
    errors = validate_prompt(graph, DEFINITIONS).node_errors["1"]["errors"]
    assert [error["type"] for error in errors] == ["value_bigger_than_max"]


@pytest.mark.parametrize(
    ("saved_value", "shown", "typed", "new"),
    [
        ("a\nb", "a\nb", "[1]", "[1]"),
        (3, "3", "4.5", 4.5),
        (True, "true", "false", False),
        ({"x": [1, "é"]}, '{"x": [1, "é"]}', '{"x": []}', {"x": []}),
        ({"__value__": [1, 2]}, "[1, 2]", "[3, 4]", {"__value__": [3, 4]}),
    ],
)
@pytest.mark.parametrize("name", ["grid", "grid.0.x"])
def test_the_form_shows_what_was_saved_as_text(name, saved_value, shown, typed, new):
    graph = {"1": node("New", first=1, last="a", **{name: saved_value})}
    form = shown_form(graph, DEFINITIONS)
    (row,) = (row for row in form["rows"] if row["input"] == name)
    assert (row["kind"], row["more"], form["values"][f"1.{name}"]) == ("text", False, shown)
    for written, value in ((shown, saved_value), (typed, new)):
        given = {f"1.{name}": written}
        assert shown_form(graph, DEFINITIONS, None, given)["problems"] == {}
        applied = apply_inputs(graph, given, definitions=DEFINITIONS)
        check_inputs(graph, applied, DEFINITIONS)
        assert applied.graph["1"]["inputs"][name] == value
    (field,) = (f for f in workflow_form(graph, DEFINITIONS).fields if f.input_name == name)
    assert read_value(field, shown) == saved_value
    if not isinstance(saved_value, str):
        given = {f"1.{name}": "{"}
        problems = shown_form(graph, DEFINITIONS, None, given)["problems"]
        assert problems == {f"1.{name}": "must be JSON"}
    Draft202012Validator(contract_of(graph, DEFINITIONS)["inputs"]).validate({f"1.{name}": new})


def test_a_link_into_an_unknown_kind_has_no_field():
    graph = {"1": node("New", first=1, last="a", grid=["2", 0]), "2": node("Src")}
    assert "1.grid" not in shown_form(graph, DEFINITIONS)["values"]


@pytest.mark.parametrize(
    ("kind", "options", "kept"),
    [
        ("MATRIX", {"socketless": True}, True),
        ("IMAGE", {"widgetType": "MATRIX"}, True),
        ("IMAGE", {"widgetType": "MATRIX", "forceInput": True}, False),
        ("MATRIX", {"unknown option": [[{}]]}, False),  # as any type of a node pack: a socket
    ],
)
def test_other_types_have_a_widget_if_the_definition_says_so(kind, options, *, kept):
    known = NodeDefinitions({"New": new(kind, options)})
    flow = {"nodes": [saved(1, "New", [2, {"x": 1}, "a"] if kept else [2, "a"])], "links": []}
    inputs = ui_to_api(flow, known).graph["1"]["inputs"]
    assert inputs == {"first": 2, **({"grid": {"x": 1}} if kept else {}), "last": "a"}


@pytest.mark.parametrize("kind", ["COMFY_V4", "COMFY_X_V", "COMFY_AUTOGROW_V3", "comfy_x_v4", "X"])
def test_only_kinds_of_comfyui_itself_are_not_checked(kind):
    known = NodeDefinitions({"New": new(kind, {"template": {}})})
    assert validate_prompt({"1": node("New", first=1, last="a")}, known).warnings != [TOLD]
