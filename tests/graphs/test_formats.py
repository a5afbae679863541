import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.formats import (
    GraphFormat,
    check_api_graph,
    detect_format,
    same_graph,
)
from tests.helpers.graphs import node

API = {"1": node("EmptyImage", "Empty", width=64), "2": node("PreviewImage", images=["1", 0])}
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


def test_only_errors_that_comfyui_does_not_report_itself_are_refused():
    odd = ([1], None)
    for entry in (
        *({}, node("NoSuchClass"), {"class_type": "EmptyImage"}, {"class_type": None}),
        *({"class_type": "EmptyImage", "inputs": inputs} for inputs in odd),
    ):
        assert check_api_graph({"1": entry}) == {"1": entry}
    for class_type in ([], {}):
        with pytest.raises(InvalidRequestError, match="class_type of node '7'"):
            check_api_graph({"7": {"class_type": class_type, "inputs": {}}})
    with pytest.raises(InvalidRequestError, match="editor's format"):
        check_api_graph(UI)


def test_ids_become_strings():
    assert check_api_graph({1: API["1"], "2": API["2"]}) == API
    with pytest.raises(InvalidRequestError, match="two nodes"):
        check_api_graph({1: API["1"], "1": API["1"]})


def test_same_graph_ignores_meta_alone():
    bare = {"1": node("EmptyImage", width=64), "2": node("PreviewImage", images=["1", 0])}
    assert same_graph(API, bare)
    assert not same_graph(API, {**API, "1": node("EmptyImage", width=65)})
    assert not same_graph(API, {"1": API["1"]})
    assert not same_graph(API, {**API, "2": {**API["2"], "class_type": "SaveImage"}})
