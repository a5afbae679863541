from __future__ import annotations

import copy

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.formats import (
    GraphFormat,
    check_api_graph,
    copy_graph,
    detect_format,
    is_link,
    same_graph,
)

API = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64}, "_meta": {"title": "Empty"}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}
UI = {"nodes": [{"id": 1, "type": "EmptyImage"}], "links": [], "version": 0.4}


def test_detect_format():
    assert detect_format(API) is GraphFormat.API
    assert detect_format(UI) is GraphFormat.UI
    assert detect_format({"nodes": {"class_type": "X", "inputs": {}}}) is GraphFormat.API


@pytest.mark.parametrize("value", [None, [], "{}", 3, True, {}, {"1": None}, {"version": 0.4}])
@pytest.mark.parametrize("check", [detect_format, check_api_graph])
def test_a_value_that_is_not_a_workflow_is_refused_with_its_field(check, value):
    with pytest.raises(InvalidRequestError) as caught:
        check(value, field="workflow")
    assert caught.value.details["field"] == "workflow"
    assert caught.value.message.startswith("workflow: ")


@pytest.mark.parametrize(
    "node",
    [
        {},
        {"class_type": "NoSuchClass", "inputs": {}},
        {"class_type": "EmptyImage"},
        {"class_type": "EmptyImage", "inputs": [1]},
        {"class_type": "EmptyImage", "inputs": None},
        {"class_type": None, "inputs": {}},
    ],
)
def test_errors_that_comfyui_reports_itself_are_not_refused(node):
    assert check_api_graph({"1": node}) == {"1": node}


@pytest.mark.parametrize("class_type", [[], {}])
def test_a_class_type_that_crashes_comfyui_is_refused(class_type):
    with pytest.raises(InvalidRequestError, match="class_type of node '7'"):
        check_api_graph({"7": {"class_type": class_type, "inputs": {}}})


def test_ui_format_is_refused_as_api_graph():
    with pytest.raises(InvalidRequestError, match="editor's format"):
        check_api_graph(UI)


def test_ids_become_strings():
    assert check_api_graph({1: API["1"], "2": API["2"]}) == API
    with pytest.raises(InvalidRequestError, match="two nodes"):
        check_api_graph({1: API["1"], "1": API["1"]})


def test_is_link():
    assert is_link(["1", 0])
    for value in ("1", [1, 0], ["1"], ["1", 0, 0], ["1", "0"], ("1", 0), {"1": 0}, None):
        assert not is_link(value)


def test_same_graph_ignores_meta_alone():
    bare = {key: {k: v for k, v in node.items() if k != "_meta"} for key, node in API.items()}
    assert same_graph(API, bare)
    other = copy.deepcopy(API)
    other["1"]["inputs"]["width"] = 65
    assert not same_graph(API, other)
    assert not same_graph(API, {"1": API["1"]})
    assert not same_graph(API, {**API, "2": {**API["2"], "class_type": "SaveImage"}})


def test_a_copy_can_be_changed():
    before = copy.deepcopy(API)
    changed = copy_graph(API)
    changed["1"]["inputs"]["width"] = 1
    changed["2"]["class_type"] = "SaveImage"
    assert before == API
