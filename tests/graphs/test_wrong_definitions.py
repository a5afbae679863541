"""Definitions of nodes that are wrong, contain themselves or are endless cause no error."""

import contextlib
import time

import pytest

from comfydeploy_jupyter.errors import InvalidInputError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.graphs.inputs import apply_inputs
from comfydeploy_jupyter.graphs.layout import api_to_ui
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from comfydeploy_jupyter.graphs.validation import validate_prompt
from tests.helpers.graphs import combo, declared, group, node, saved

MANY = [*map(str, range(100_000))]
SLOT = {"input": {"required": {"x": ["INT", {}]}}}


def inside_itself(*names):
    again = combo()
    again[1]["options"] = combo(more=dict.fromkeys(names, again))[1]["options"]
    return again


def growing_inside_itself():
    again = grown(None)
    again[1]["template"] = {"input": {"required": {"again": again}}, "min": 90, "max": 100}
    return again


def grown(template):
    return ["COMFY_AUTOGROW_V3", {"template": template}]


def rows_of(template, least, most):
    return ["COMFY_DYNAMICGROUP_V3", {"template": template, "min": least, "max": most}]


WRONG = {
    "combo inside itself": inside_itself("again"),
    "group inside itself": growing_inside_itself(),
    "combo many times inside itself": inside_itself(*(f"again{n}" for n in range(20))),
    "group without template": ["COMFY_AUTOGROW_V3", {}],
    "group without options": ["COMFY_AUTOGROW_V3"],
    "template of numbers": grown(3),
    "template of nothing": grown(None),
    "names of numbers": grown({**SLOT, "names": [1, None, {}]}),
    "endless group": grown({**SLOT, "min": 10**9, "max": 10**9}),
    "endless group of no inputs": grown({"input": 3, "prefix": "a", "max": 10**9}),
    "endless group of texts": group("STRING", prefix="a", max=10**9),
    "prefix of a number": group("STRING", prefix=4, max="x"),
    "endless rows": rows_of({"required": {"y": ["INT", {}]}}, 10**9, None),
    "rows of a number": rows_of(4, 0, 10**9),
    "rows of no inputs": rows_of({"required": 4}, 0, 3),
    "rows from a text": rows_of({}, "x", float("inf")),
    "combo without options": ["COMFY_DYNAMICCOMBO_V3"],
    "options of a number": ["COMFY_DYNAMICCOMBO_V3", {"options": 3}],
    "options of no kind": ["COMFY_DYNAMICCOMBO_V3", {"options": [3, {"key": []}, {"key": "x"}]}],
    "options without end": combo(**{key: {} for key in MANY}),
    "names without end": ["COMBO", {"options": MANY}],
    "list without kind": [],
    "kind alone": "INT",
    "nothing": None,
    "kind of a number": [5],
}
ODD = {
    "empty": {},
    "no inputs": {"input": None, "output": None},
    "a list of inputs": {"input": {"required": []}, "input_order": {"required": 5}, "output": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [*({**declared(x=each), "output_node": True} for each in WRONG.values()), *ODD.values()],
    ids=[*WRONG, *ODD],
)
def test_wrong_definitions_cause_no_error(entry):
    known = NodeDefinitions({"Odd": entry})
    graph = {"1": node("Odd", **{"x": "x", "x.a0": "b", "x.y": 4})}
    begun = time.process_time()
    converted = ui_to_api({"nodes": [saved(1, "Odd", ["more"] * 50)]}, known)
    assert len(converted.graph["1"]["inputs"]) <= 10_000
    api_to_ui(converted.graph, known)
    form = workflow_form(graph, known)
    assert {field.key for field in form.fields} >= {"1.x", "1.x.a0", "1.x.y"}
    assert all(len(each.label) < 100 for each in form.groups)
    for chosen in ("y", "more"):
        with contextlib.suppress(InvalidInputError):  # a group of rows takes no text
            set_ = apply_inputs(graph, {"1.x": chosen}, definitions=known, strict=False).graph
            assert len(set_["1"]["inputs"]) <= 10_000
    validate_prompt(graph, known)
    assert time.process_time() - begun < 10
