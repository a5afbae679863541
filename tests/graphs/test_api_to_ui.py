"""API → UI: the result converts back to the same prompt, nodes do not overlap, errors are clear."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import MISSING
from comfydeploy_jupyter.graphs.layout import api_to_ui
from comfydeploy_jupyter.graphs.queued_values import wrapped
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from tests.helpers.graphs import node, probe_definitions
from tests.helpers.selection import examples

DEFINITIONS = probe_definitions()
# one input with two widgets of the same name; recording needs the editor anyway
CLASSES = sorted({*DEFINITIONS} - {"RecordAudio"})
TITLE_HEIGHT = 30

Graph = dict[str, dict[str, Any]]


def plain(graph):
    return {
        key: {"class_type": node["class_type"], "inputs": node["inputs"]}
        for key, node in graph.items()
    }


def every_widget(known):
    found = []
    pending = list(known.widgets)
    while pending:
        widget = pending.pop()
        found.append(widget)
        for option in widget.choices if widget.branches is not None else ():
            branch = widget.branches.branch(option)
            pending.extend(branch.made.widgets)
    return [widget for widget in found if widget.emitted]


def values_for(widget):
    if widget.type == "INT":
        return st.integers(-(2**53), 2**53)
    if widget.type == "FLOAT":
        return st.floats(-1e9, 1e9, allow_nan=False)
    if widget.type == "BOOLEAN":
        return st.booleans()
    if widget.type == "BUTTON":
        return st.just(widget.default)
    if widget.type == "PREVIEW_3D":  # the editor queues no other value
        return st.just("")
    if isinstance(widget.default, list):
        return st.lists(st.sampled_from(widget.choices), unique=True)
    if widget.choices:
        return st.sampled_from(widget.choices)
    if widget.dynamic_prompts:  # comments and backslashes have no way back
        return st.text("ab{}|%, \n\u00e9")
    if widget.name == "filename_prefix":
        return st.text(st.characters(codec="utf-8", exclude_characters="%"))
    return st.text(st.characters(codec="utf-8"))


@st.composite
def prompts(draw):
    """Draw prompts with every widget that a class has, and some unknown classes."""
    number = st.integers(0, 300).map(str)
    inside = st.tuples(number, number).map(":".join)
    keys = draw(st.lists(st.one_of(number, inside), unique=True, min_size=1, max_size=8))
    graph = {}
    for place, key in enumerate(keys):
        kind = draw(st.sampled_from([*CLASSES, "Mystery"]))
        known = DEFINITIONS.get(kind)
        inputs = {}
        sockets = ["one", "two"]
        if known is None:
            scalars = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text())
            names = st.text(st.characters(categories=["L"]), min_size=1)
            inputs |= draw(st.dictionaries(names, scalars, max_size=3))
        else:
            drawn = {w.name: draw(values_for(w)) for w in every_widget(known)}
            laid = known.lay_out(drawn) if drawn else []
            inputs |= {
                widget.name: wrapped(value)
                for widget, value in laid
                if widget.emitted and value is not MISSING
            }
            steering = {widget.name for widget, _ in laid if widget.branches}
            every = [s.name for s in known.inputs_of(laid) if not s.grows]
            sockets = [name for name in every if name not in steering]
        if place and sockets:
            for name in draw(st.lists(st.sampled_from(sockets), unique=True, max_size=3)):
                if name in inputs or known is None or name in free_sockets(known, laid):
                    origin = draw(st.sampled_from(keys[:place]))
                    inputs[name] = [origin, draw(st.integers(0, 2))]
        graph[key] = {"class_type": kind, "inputs": inputs}
    return graph


def free_sockets(known, laid):
    return {socket.name for socket in known.inputs_of(laid) if not socket.has_widget}


def overlapping(nodes):
    boxes = [
        (x, y - TITLE_HEIGHT, x + width, y + height)
        for (x, y), (width, height) in ((node["pos"], node["size"]) for node in nodes)
    ]
    return [
        (one, other)
        for place, one in enumerate(boxes)
        for other in boxes[place + 1 :]
        if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    ]


@settings(max_examples=examples(160))
@given(prompts())
def test_converts_back_and_places_nodes_right_of_those_that_they_need(graph):
    before = copy.deepcopy(graph)
    saved = json.loads(json.dumps(api_to_ui(graph, DEFINITIONS)))
    back = ui_to_api(saved, DEFINITIONS)
    assert plain(back.graph) == graph == before
    assert not overlapping(saved["nodes"])
    left = {str(node["id"]): node["pos"][0] for node in saved["nodes"]}
    for _, origin, _, target, _, _ in saved["links"]:
        assert left[str(origin)] < left[str(target)]


def test_saves_what_the_editor_needs():
    graph = {
        "4": node("PSrc", name="b.ckpt"),
        "2:7": node("PSampler", "Mine", seed=5, steps=["9", 0], model=["4", 0]),
        "9": node("PInt", value=3),
    }
    saved = api_to_ui(graph, DEFINITIONS)
    assert (saved["version"], saved["last_node_id"], saved["last_link_id"]) == (0.4, 9, 2)
    source, sampler, number = saved["nodes"]
    assert [source["id"], sampler["id"], number["id"]] == [4, "2:7", 9]
    assert sampler["title"] == "Mine"
    assert "title" not in source
    assert sampler["widgets_values"] == [5, "fixed", 20, 8.0, "euler", 1.0]
    model, steps = (
        next(slot for slot in sampler["inputs"] if slot["name"] == name)
        for name in ("model", "steps")
    )
    assert model == {"name": "model", "type": "MODEL", "link": 2}
    assert steps["widget"] == {"name": "steps"}
    assert [2, 4, 0, "2:7", 0, "MODEL"] in saved["links"]
    assert source["outputs"][0]["links"] == [2]


def test_cycles_and_long_chains_are_laid_out_too():
    graph = {"1": node("PPass", amount=1, image=["2", 0]), "2": node("PPass", image=["1", 0])}
    graph["2"]["inputs"]["amount"] = 2
    saved = api_to_ui(graph, DEFINITIONS)
    assert not overlapping(saved["nodes"])
    assert plain(ui_to_api(saved, DEFINITIONS).graph) == graph
    graph = {"0": node("PPass", amount=1)}
    graph |= {str(n): node("PPass", amount=n, image=[str(n - 1), 0]) for n in range(1, 2000)}
    assert plain(ui_to_api(api_to_ui(graph, DEFINITIONS), DEFINITIONS).graph) == graph


@pytest.mark.parametrize(
    ("graph", "field"),
    [
        ([], "workflow_api"),
        ({"1": 5}, "workflow_api.1"),
        ({"1": {"inputs": {}}}, "workflow_api.1.class_type"),
        ({"1": {"class_type": "PInt", "inputs": []}}, "workflow_api.1.inputs"),
    ],
)
def test_names_the_field_that_is_not_a_prompt(graph, field):
    with pytest.raises(InvalidRequestError) as caught:
        api_to_ui(graph, DEFINITIONS)
    assert caught.value.details["field"] == field
