"""The labels of a form: no two inputs have the same one."""

from __future__ import annotations

from typing import Any

import pytest

from comfydeploy_jupyter.graphs.examples import examples
from comfydeploy_jupyter.graphs.form import input_form, workflow_form

LYRICS: dict[str, Any] = {
    "TextEncode": {
        "input": {
            "required": {
                "tags": ["STRING", {"multiline": True}],
                "lyrics": ["STRING", {"multiline": True}],
            }
        },
        "display_name": "Text Encode",
    }
}


def song(*node_ids: str) -> dict[str, Any]:
    inputs = {"tags": "pop", "lyrics": "la"}
    nodes = {i: {"class_type": "TextEncode", "inputs": dict(inputs)} for i in node_ids}
    links = {f"s{i}": {"class_type": "Sampler", "inputs": {"positive": [i, 0]}} for i in node_ids}
    return {**nodes, **links}


@pytest.mark.parametrize(
    ("graph", "labels"),
    [
        (song("1"), ["Positive prompt (tags)", "Positive prompt (lyrics)"]),
        (
            song("1", "2"),
            [
                "Positive prompt (tags, node 1)",
                "Positive prompt (lyrics, node 1)",
                "Positive prompt (tags, node 2)",
                "Positive prompt (lyrics, node 2)",
            ],
        ),
        (
            {i: {"class_type": "A", "inputs": {"width": 8}} for i in ("1", "2")},
            ["A: width (node 1)", "A: width (node 2)"],
        ),
        (
            {
                "1": {"class_type": "A", "inputs": {"x": 1}, "_meta": {"title": "B"}},
                "2": {"class_type": "A", "inputs": {"x": 1}, "_meta": {"title": "B"}},
                "3": {
                    "class_type": "PrimitiveInt",
                    "inputs": {"value": 1},
                    "_meta": {"title": "B: x (node 1)"},
                },
            },
            ["B: x (node 1)", "B: x (1.x)", "B: x (node 2)"],
        ),
    ],
)
def test_two_inputs_never_have_the_same_name(graph: dict[str, Any], labels: list[str]) -> None:
    assert [field.label for field in input_form(graph, LYRICS)] == labels


def test_neither_have_two_groups() -> None:
    grow = {"template": {"input": {"required": {"value": ["STRING", {}]}}, "names": ["a", "b"]}}
    definitions = {"Make": {"input": {"required": {"values": ["COMFY_AUTOGROW_V3", grow]}}}}
    node = {"class_type": "Make", "inputs": {"values.a": "x"}}
    form = workflow_form({"1": node, "2": node}, definitions)
    assert [group.label for group in form.groups] == [
        "Make: values (node 1)",
        "Make: values (node 2)",
    ]


def test_examples_need_only_what_a_comfyui_has() -> None:
    def classes(*names: str) -> dict[str, Any]:
        return {name: {"input": {}} for name in names}

    assert examples(None) == []
    core = ("EmptyImage", "ImageAddNoise", "ImageScale", "ImageBlend", "PreviewImage")
    assert [example.title for example in examples(classes(*core))] == ["Coloured clouds"]
    diffusion = ("CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode", "SaveImage")
    loader = {"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["xl.ckpt"]]}}}}
    found = examples({**classes(*core, *diffusion), **loader})
    assert [example.title for example in found] == ["Coloured clouds", "Text to image"]
    assert found[1].graph["1"]["inputs"] == {"ckpt_name": "xl.ckpt"}
    empty = {"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [[]]}}}}
    assert len(examples({**classes(*core, *diffusion), **empty})) == 1
