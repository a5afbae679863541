"""Values that are assigned to the wrong input: the workflow is of another version of a node."""

from __future__ import annotations

from typing import Any

import pytest

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions, TypeMismatch, type_mismatches
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api

DEFINITIONS = NodeDefinitions(
    {
        "Sampler": {
            "display_name": "The Sampler",
            "input": {
                "required": {
                    "steps": ["INT", {}],
                    "cfg": ["FLOAT", {}],
                    "sampler": [["euler", "ddim"]],
                    "size": [[256, 512]],
                    "text": ["STRING", {}],
                    "tiled": ["BOOLEAN", {}],
                    "model": ["COMBO", {"options": []}],
                    "tags": ["COMBO", {"options": ["a", "b"], "multiselect": True}],
                    "mode": [
                        "COMFY_DYNAMICCOMBO_V3",
                        {
                            "options": [
                                {"key": "plain", "inputs": {}},
                                {
                                    "key": "seeded",
                                    "inputs": {"required": {"seed": ["INT", {}]}},
                                },
                            ]
                        },
                    ],
                }
            },
        }
    }
)


def found(**inputs: Any) -> list[tuple[str, Any, str]]:
    graph = {"3": {"class_type": "Sampler", "inputs": inputs}}
    return [(one.input, one.value, one.expected) for one in type_mismatches(graph, DEFINITIONS)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 5),
        ("steps", 5.0),
        ("steps", "5"),
        ("steps", ["1", 0]),
        ("cfg", 5),
        ("cfg", 5.5),
        ("cfg", " 5.5 "),
        ("sampler", "euler"),
        ("sampler", "of a file that is not there"),
        ("size", 512),
        ("text", ""),
        ("tiled", True),
        ("tiled", 0),
        ("model", "some.safetensors"),
        ("tags", {"__value__": ["a"]}),
        ("mode", "plain"),
        ("undeclared", 3),
    ],
)
def test_values_that_fit(name: str, value: Any) -> None:
    assert found(**{name: value}) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", "euler", "an integer"),
        ("steps", 0.5, "an integer"),
        ("steps", True, "an integer"),
        ("steps", None, "an integer"),
        ("cfg", "euler", "a number"),
        ("cfg", False, "a number"),
        ("sampler", 5, "one of its options"),
        ("sampler", {"x": 1}, "one of its options"),
        ("size", "512 pixels", "one of its options"),
        ("size", 300, "one of its options"),
        ("text", 4096, "text"),
        ("tiled", "euler", "true or false"),
        ("tiled", 7, "true or false"),
        ("model", 4096, "one of its options"),
        ("mode", "of a newer version", "one of its options"),
    ],
)
def test_values_that_do_not_fit(name: str, value: Any, expected: str) -> None:
    assert found(**{name: value}) == [(name, value, expected)]


def test_inputs_of_the_chosen_option_are_checked() -> None:
    values = {"mode": "seeded", "mode.seed": "euler"}
    assert found(**values) == [("mode.seed", "euler", "an integer")]
    assert found(**values | {"mode": "plain"}) == []


def test_unknown_classes_are_skipped() -> None:
    assert type_mismatches({"1": {"class_type": "Nope", "inputs": {"a": 1}}}, DEFINITIONS) == []


def test_values_at_a_wrong_position_give_warnings() -> None:
    """The file has one value more than this node has inputs, so each is one place too far."""
    node = {
        "id": 3,
        "type": "Sampler",
        "widgets_values": [4096, 20, 7.5, "euler", 512, "text", False, "a.ckpt", ["a"], "plain"],
    }
    converted = ui_to_api({"nodes": [node]}, DEFINITIONS)
    assert converted.graph["3"]["inputs"]["sampler"] == 7.5
    assert [warning.split(";")[0] for warning in converted.warnings] == [
        (
            'node "The Sampler" (Sampler): '
            "the value of its input sampler must be one of its options, but is 7.5"
        ),
        (
            'node "The Sampler" (Sampler): '
            'the value of its input size must be one of its options, but is "euler"'
        ),
        'node "The Sampler" (Sampler): the value of its input text must be text, but is 512',
        (
            'node "The Sampler" (Sampler): '
            'the value of its input tiled must be true or false, but is "text"'
        ),
        (
            'node "The Sampler" (Sampler): '
            "the value of its input model must be one of its options, but is false"
        ),
        (
            'node "The Sampler" (Sampler): '
            'the value of its input mode must be one of its options, but is ["a"]'
        ),
    ]


def test_a_long_value_is_shortened() -> None:
    message = str(TypeMismatch("1", '"T" (Sampler)', "steps", "x" * 10_000, "an integer"))
    assert len(message) < 200
    assert message.startswith('node "T" (Sampler): ')
    assert "steps" in message


def test_a_promoted_value_is_checked_at_the_inner_input() -> None:
    inner = {
        "id": "sub",
        "inputs": [{"name": "steps", "type": "INT", "linkIds": [1]}],
        "nodes": [
            {
                "id": 5,
                "type": "Sampler",
                "inputs": [
                    {"name": "steps", "type": "INT", "link": 1, "widget": {"name": "steps"}}
                ],
            }
        ],
        "links": [[1, -10, 0, 5, 0, "INT"]],
    }
    host = {"id": 9, "type": "sub", "widgets_values": ["euler"]}
    flow = {"nodes": [host], "definitions": {"subgraphs": [inner]}}
    (warning,) = (text for text in ui_to_api(flow, DEFINITIONS).warnings if "steps" in text)
    assert warning.startswith(
        'node "The Sampler" (Sampler): the value of its input steps must be an integer'
    )
    flow["nodes"].append({**host, "id": 10, "widgets_values": [1]})
    (warning,) = (text for text in ui_to_api(flow, DEFINITIONS).warnings if "steps" in text)
    assert warning.startswith('node "The Sampler" (Sampler, id 9:5): ')


@pytest.mark.parametrize("node", [[None, False], 11473, None, "x", {"class_type": ["Sampler"]}])
def test_entries_that_are_not_nodes_are_skipped(node: object) -> None:
    graph = {"": node, "1": {"class_type": "Sampler", "inputs": {"steps": "many"}}, "2": {}}
    assert [mismatch.node for mismatch in type_mismatches(graph, DEFINITIONS)] == ["1"]
