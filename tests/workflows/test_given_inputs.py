"""Conversions to scripts with the values that a form has."""

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.workflows.convert import _with_inputs
from tests.helpers.graphs import declared, node, rows

COUNT = ["INT", {"default": 1, "min": 0, "max": 9}]
DEFINITIONS = NodeDefinitions({"Load": declared("Load", parts=rows(0, 3, n=COUNT), size=COUNT)})


def test_numbers_in_rows_are_numbers_though_a_form_has_texts():
    graph = {"1": node("Load", size=1, **{"parts.0.n": 2})}
    given = {"1.parts": [{"n": "3"}, {}], "1.size": "4"}
    made, problems = _with_inputs(graph, given, DEFINITIONS)
    assert made["1"]["inputs"] == {"size": 4, "parts.0.n": 3, "parts.1.n": 1}
    assert problems == []
    made, problems = _with_inputs(graph, {"1.parts": [{"n": "30"}]}, DEFINITIONS)
    assert made["1"]["inputs"] == {"size": 1, "parts.0.n": 2}
    assert problems == ["Not set: Load: Row #1 n: must be at most 9"]
