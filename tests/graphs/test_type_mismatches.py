"""Values that are assigned to the wrong input: the workflow is of another version of a node."""

import pytest

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions, TypeMismatch, type_mismatches
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from tests.helpers.graphs import combo, declared, node, saved

DEFINITIONS = NodeDefinitions(
    {
        "Sampler": declared(
            "The Sampler",
            steps=["INT", {}],
            cfg=["FLOAT", {}],
            sampler=[["euler", "ddim"]],
            size=[[256, 512]],
            text=["STRING", {}],
            tiled=["BOOLEAN", {}],
            model=["COMBO", {"options": []}],
            tags=["COMBO", {"options": ["a", "b"], "multiselect": True}],
            mode=combo(plain={}, seeded={"seed": ["INT", {}]}),
        )
    }
)
TITLED = 'node "The Sampler" (Sampler'


def found(**inputs):
    mismatches = type_mismatches({"3": node("Sampler", **inputs)}, DEFINITIONS)
    return [(each.input, each.value, each.expected) for each in mismatches]


FITTING = {
    "steps": [5, 5.0, "5", ["1", 0]],
    "cfg": [5, 5.5, " 5.5 "],
    "sampler": ["euler", "of a file that is not there"],
    "size": [512],
    "text": [""],
    "tiled": [True, 0],
    "model": ["some.safetensors"],
    "tags": [{"__value__": ["a"]}],
    "mode": ["plain"],
    "undeclared": [3],
}
UNFIT = {
    "steps": ("an integer", ["euler", 0.5, True, None]),
    "cfg": ("a number", ["euler", False]),
    "sampler": ("one of its options", [5, {"x": 1}]),
    "size": ("one of its options", ["512 pixels", 300]),
    "text": ("text", [4096]),
    "tiled": ("true or false", ["euler", 7]),
    "model": ("one of its options", [4096]),
    "mode": ("one of its options", ["of a newer version"]),
}


def test_values_fit_or_not():
    for name, values in FITTING.items():
        for value in values:
            assert found(**{name: value}) == [], (name, value)
    for name, (expected, values) in UNFIT.items():
        for value in values:
            assert found(**{name: value}) == [(name, value, expected)], (name, value)


def test_values_at_a_wrong_position_give_warnings():
    # The file has one value more than this node has inputs, so each is one place too far.
    values = [4096, 20, 7.5, "euler", 512, "text", False, "a.ckpt", ["a"], "plain"]
    converted = ui_to_api({"nodes": [saved(3, "Sampler", values)]}, DEFINITIONS)
    assert converted.graph["3"]["inputs"]["sampler"] == 7.5
    says = f"{TITLED}): the value of its input "
    assert [warning.split(";")[0].removeprefix(says) for warning in converted.warnings] == [
        "sampler must be one of its options, but is 7.5",
        'size must be one of its options, but is "euler"',
        "text must be text, but is 512",
        'tiled must be true or false, but is "text"',
        "model must be one of its options, but is false",
        'mode must be one of its options, but is ["a"]',
    ]


def test_a_long_value_is_shortened():
    message = str(TypeMismatch("1", '"T" (Sampler)', "steps", "x" * 10_000, "an integer"))
    assert len(message) < 200
    assert message.startswith('node "T" (Sampler): ')
    assert "steps" in message


@pytest.mark.parametrize("entry", [[None, False], 11473, None, "x", {"class_type": ["Sampler"]}])
def test_entries_that_are_not_nodes_and_unknown_classes_are_skipped(entry):
    graph = {"": entry, "1": node("Sampler", steps="many"), "2": {}, "3": node("Nope", a=1)}
    assert [mismatch.node for mismatch in type_mismatches(graph, DEFINITIONS)] == ["1"]
