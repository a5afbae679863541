"""What ComfyUI 0.33's editors (1.49.6, 1.58.1) queue for inputs that depend on values or links.

Each expectation was seen in what these editors gave for a graph of the same kind. The last
tests use wrong definitions.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.layout import api_to_ui
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api

PICTURES = {"input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image", "min": 2}
MODES = [
    {
        "key": "text",
        "inputs": {
            "required": {"prompt": ["STRING", {"multiline": True}]},
            "optional": {"mask": ["MASK", {}]},
        },
    },
    {
        "key": "pictures",
        "inputs": {
            "required": {
                "images": ["COMFY_AUTOGROW_V3", {"template": {**PICTURES, "min": 0}}],
                "seed": ["INT", {"control_after_generate": True}],
                "detail": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "low", "inputs": {}},
                            {"key": "high", "inputs": {"required": {"steps": ["INT", {}]}}},
                        ]
                    },
                ],
            }
        },
    },
]
OBJECT_INFO: dict[str, Any] = {
    "Source": {"input": {"required": {}}, "output": ["IMAGE", "MASK"]},
    "Dynamic": {
        "input": {
            "required": {
                "mode": ["COMFY_DYNAMICCOMBO_V3", {"options": MODES}],
                "strength": ["FLOAT", {"default": 0.5}],
            }
        },
        "output": ["IMAGE"],
    },
    "Batch": {
        "input": {
            "required": {
                "images": ["COMFY_AUTOGROW_V3", {"template": PICTURES}],
                "reference": ["IMAGE", {}],
            }
        },
        "output": ["IMAGE", "IMAGE", "IMAGE", "IMAGE"],
    },
    "CustomCombo": {
        "input": {"required": {"choice": ["COMBO", {"options": []}]}},
        "output": ["STRING", "INT"],
    },
    "ImageCompare": {
        "input": {
            "required": {"compare_view": ["IMAGECOMPARE", {"socketless": True}]},
            "optional": {"image_a": ["IMAGE", {}]},
        }
    },
    "Preview3DAdvanced": {
        "input": {
            "required": {"viewport_state": ["LOAD_3D", {}], "width": ["INT", {"default": 1024}]}
        }
    },
    "Preview3D": {"input": {"required": {"model_file": ["STRING", {"default": ""}]}}},
    "SaveGLB": {"input": {"required": {"filename_prefix": ["STRING", {"default": "3d"}]}}},
    "CurveEditor": {
        "input": {"required": {"curve": ["CURVE", {"default": {"points": [[0, 0], [1, 1]]}}]}}
    },
    "ImageCompositor": {"input": {"required": {"compositor": ["COMPOSITOR", {}]}}},
}
DEFINITIONS = NodeDefinitions(OBJECT_INFO)


Links = Iterable[tuple[str, int]]


def saved(number: int, kind: str, values: Any = None, links: Links = (), **more: Any) -> Any:
    """Return a saved node; ``links`` names the inputs that are linked, and by which link."""
    inputs = [{"name": name, "type": "*", "link": link} for name, link in links]
    return {"id": number, "type": kind, "inputs": inputs, "widgets_values": values, **more}


def queued(nodes: list[Any], links: list[list[Any]] | None = None, **more: Any) -> dict[str, Any]:
    flow = {"nodes": nodes, "links": links or [], **more}
    graph = ui_to_api(flow, DEFINITIONS).graph
    return {key: node["inputs"] for key, node in graph.items()}


@pytest.mark.parametrize("kept", [{}, {"Last Time Model File": ""}])
def test_a_model_viewer_queues_the_model_that_it_showed_last(kept: dict[str, Any]) -> None:
    shown = {"Last Time Model File": "3d/shown.glb"}
    nodes = [
        saved(1, "Preview3D", ["3d/saved.glb", "a picture"], properties=kept),
        saved(2, "Preview3D", ["3d/saved.glb", "a picture"], properties=shown),
        saved(3, "SaveGLB", ["3d/mesh", "a picture"]),
    ]
    assert queued(nodes) == {
        "1": {"model_file": "3d/saved.glb", "image": ""},
        "2": {"model_file": "3d/shown.glb", "image": ""},
        "3": {"filename_prefix": "3d/mesh", "image": ""},
    }


def test_the_chosen_option_adds_its_widgets_and_inputs() -> None:
    values = ["pictures", 7, "fixed", "high", 30, 0.25]
    node = saved(1, "Dynamic", values, [("mode.images.image0", 1), ("mode.images.image1", 2)])
    rows = [[1, 2, 0, 1, 0, "IMAGE"], [2, 2, 0, 1, 1, "IMAGE"]]
    assert queued([node, saved(2, "Source")], rows)["1"] == {
        "mode": "pictures",
        "mode.seed": 7,
        "mode.detail": "high",
        "mode.detail.steps": 30,
        "strength": 0.25,
        "mode.images.image0": ["2", 0],
        "mode.images.image1": ["2", 0],
    }


def test_links_to_inputs_of_other_options_are_dropped() -> None:
    node = saved(1, "Dynamic", ["text", "a", 0.25], [("mode.images.image0", 1), ("mode.mask", 2)])
    rows = [[1, 2, 0, 1, 0, "IMAGE"], [2, 2, 1, 1, 1, "MASK"]]
    assert queued([node, saved(2, "Source")], rows)["1"] == {
        "mode": "text",
        "mode.prompt": "a",
        "strength": 0.25,
        "mode.mask": ["2", 1],
    }


def test_an_unknown_option_adds_no_inputs() -> None:
    node = saved(1, "Dynamic", ["of tomorrow", "a", 0.25], [("mode.mask", 1)])
    assert queued([node, saved(2, "Source")], [[1, 2, 1, 1, 0, "MASK"]])["1"] == {
        "mode": "of tomorrow",
        "strength": "a",
    }


@pytest.mark.parametrize("output", range(3))
def test_a_bypassed_node_passes_autogrow_inputs_on_by_position(output: int) -> None:
    """The inputs of the group stand before an input that is declared later."""
    names = ["reference", "images.image0", "images.image1", "images.image2"]
    batch = saved(1, "Batch", None, [(name, link) for link, name in enumerate(names, 1)], mode=4)
    sources = [saved(10 + link, "Source") for link in range(1, 5)]
    rows = [[link, 10 + link, 0, 1, link - 1, "IMAGE"] for link in range(1, 5)]
    compare = saved(2, "ImageCompare", None, [("image_a", 9)])
    found = queued([batch, compare, *sources], [*rows, [9, 1, output, 2, 0, "IMAGE"]])
    assert found["2"]["image_a"] == [str(12 + output), 0]


def test_a_custom_combo_queues_its_index_and_its_options() -> None:
    values = ["b", 0, "a", "b", "c", ""]
    assert queued([saved(1, "CustomCombo", values)])["1"] == {
        "choice": "b",
        "index": 1,
        "option1": "a",
        "option2": "b",
        "option3": "c",
        "option4": "",
    }
    assert queued([saved(1, "CustomCombo", ["x", 0, "a", "", "c"])])["1"] == {
        "choice": "x",
        "index": -1,
        "option1": "a",
        "option2": "",
    }
    assert queued([saved(1, "CustomCombo")])["1"] == {"index": -1, "option1": ""}


def test_a_promoted_choice_determines_the_index() -> None:
    combo = saved(5, "CustomCombo", ["a", 0, "a", "b", ""])
    combo["inputs"] = [{"name": "choice", "type": "COMBO", "link": 1, "widget": {"name": "choice"}}]
    subgraph = {
        "id": "sub",
        "inputs": [{"name": "choice", "type": "COMBO", "linkIds": [1]}],
        "nodes": [combo],
        "links": [[1, -10, 0, 5, 0, "COMBO"]],
    }
    found = queued([saved(1, "sub", ["b"])], definitions={"subgraphs": [subgraph]})
    assert (found["1:5"]["choice"], found["1:5"]["index"]) == ("b", 1)


def test_values_that_only_the_editor_produces() -> None:
    camera = {"position": {"x": 1, "y": 2, "z": 3}, "fov": 20}
    moved = {"Camera Config": {"state": camera}}
    found = queued(
        [
            saved(1, "ImageCompare", []),
            saved(2, "CurveEditor", [{"points": [[0, 1]]}]),
            saved(3, "ImageCompositor"),
            saved(4, "Preview3DAdvanced", ["", 512]),
            saved(5, "Preview3DAdvanced", ["", 512], properties=moved),
        ]
    )
    assert found["1"] == {"compare_view": {"__value__": ["", ""]}}
    assert found["2"] == {"curve": {"__type__": "CURVE", "__value__": {"points": [[0, 1]]}}}
    assert found["3"] == {"compositor": {}}
    assert found["4"]["width"] == 512
    assert found["4"]["viewport_state"]["camera_info"]["position"]["x"] == 10
    assert found["4"]["viewport_state"]["model_3d_info"] == []
    assert found["5"]["viewport_state"]["camera_info"] == camera


@pytest.mark.parametrize("mode", [2, 4])
def test_nodes_in_a_muted_subgraph_inside_another_are_queued(mode: int) -> None:
    inner = {"id": "inner", "nodes": [saved(7, "Source")], "links": []}
    outer = {"id": "outer", "nodes": [saved(3, "inner", mode=mode)], "links": []}
    definitions = {"subgraphs": [inner, outer]}
    assert list(queued([saved(1, "outer")], definitions=definitions)) == ["1:3:7"]
    assert list(queued([saved(3, "inner", mode=mode)], definitions=definitions)) == []


def test_dynamic_inputs_are_converted_to_the_ui_format() -> None:
    graph = {
        "1": {"class_type": "Source", "inputs": {}},
        "2": {
            "class_type": "Dynamic",
            "inputs": {
                "mode": "pictures",
                "mode.seed": 7,
                "mode.detail": "high",
                "mode.detail.steps": 30,
                "strength": 0.25,
                "mode.images.image0": ["1", 0],
                "mode.images.image1": ["1", 0],
            },
        },
        "3": {
            "class_type": "CustomCombo",
            "inputs": {"choice": "b", "index": 1, "option1": "a", "option2": "b", "option3": ""},
        },
        "4": {
            "class_type": "CurveEditor",
            "inputs": {"curve": {"__type__": "CURVE", "__value__": {"points": [[0, 1]]}}},
        },
        "5": {
            "class_type": "Preview3DAdvanced",
            "inputs": {
                "width": 512,
                "viewport_state": {
                    "image": "",
                    "mask": "",
                    "normal": "",
                    "camera_info": {"fov": 20},
                    "recording": "",
                    "model_3d_info": [],
                },
            },
        },
    }
    back = ui_to_api(api_to_ui(graph, DEFINITIONS), DEFINITIONS).graph
    assert {key: node["inputs"] for key, node in back.items()} == {
        key: node["inputs"] for key, node in graph.items()
    }


def inside_itself() -> dict[str, Any]:
    combo: list[Any] = ["COMFY_DYNAMICCOMBO_V3", {}]
    combo[1]["options"] = [{"key": "more", "inputs": {"required": {"again": combo}}}]
    return {"required": {"mode": combo}}


def growing_inside_itself() -> dict[str, Any]:
    group: list[Any] = ["COMFY_AUTOGROW_V3", {}]
    group[1]["template"] = {"input": {"required": {"again": group}}, "min": 90, "max": 100}
    return {"required": {"images": group}}


def branching_inside_itself() -> dict[str, Any]:
    combo: list[Any] = ["COMFY_DYNAMICCOMBO_V3", {}]
    again = {f"again{number}": combo for number in range(20)}
    combo[1]["options"] = [{"key": "more", "inputs": {"required": again}}]
    return {"required": {"mode": combo}}


def endless_options() -> dict[str, Any]:
    options = [{"key": str(number), "inputs": {}} for number in range(300_000)]
    names = list(map(str, range(1_000_000)))
    return {
        "required": {
            "mode": ["COMFY_DYNAMICCOMBO_V3", {"options": options}],
            "name": ["COMBO", {"options": names}],
        }
    }


WRONG_DEFINITIONS: dict[str, Any] = {
    "combo inside itself": inside_itself,
    "group inside itself": growing_inside_itself,
    "combo many times inside itself": branching_inside_itself,
    "group without template": {"required": {"images": ["COMFY_AUTOGROW_V3", {}]}},
    "template of numbers": {"required": {"images": ["COMFY_AUTOGROW_V3", {"template": 3}]}},
    "names of numbers": {
        "required": {
            "images": [
                "COMFY_AUTOGROW_V3",
                {"template": {"input": {"required": {"x": ["INT", {}]}}, "names": [1, None, {}]}},
            ]
        }
    },
    "endless group": {
        "required": {
            "images": [
                "COMFY_AUTOGROW_V3",
                {
                    "template": {
                        "input": {"required": {"x": ["INT", {}]}},
                        "min": 10**9,
                        "max": 10**9,
                    }
                },
            ]
        }
    },
    "options of no kind": {"required": {"mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [3, {}]}]}},
    "options without end": endless_options,
}


@pytest.mark.slow
@pytest.mark.parametrize("definition", WRONG_DEFINITIONS)
def test_wrong_definitions_cause_no_error(definition: str) -> None:
    inputs = WRONG_DEFINITIONS[definition]
    if callable(inputs):
        inputs = inputs()
    definitions = NodeDefinitions({"Custom": {"input": inputs}})
    begun = time.process_time()
    converted = ui_to_api({"nodes": [saved(1, "Custom", ["more"] * 50)]}, definitions)
    api_to_ui(converted.graph, definitions)
    assert time.process_time() - begun < 5
    assert len(converted.graph["1"]["inputs"]) <= 10_000
