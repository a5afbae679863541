"""What ComfyUI 0.33's editors (1.49.6, 1.58.1) queue for inputs that depend on values or links.

Each expectation was seen in what these editors gave for a graph of the same kind. The last
tests use wrong definitions.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any
from urllib.parse import parse_qsl

import pytest

from comfydeploy_jupyter.errors import InvalidInputError, InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.form import input_form, page_value, workflow_form
from comfydeploy_jupyter.graphs.inputs import apply_inputs, check_inputs, property_of
from comfydeploy_jupyter.graphs.layout import api_to_ui
from comfydeploy_jupyter.graphs.shown_form import read_value, shown_form
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from comfydeploy_jupyter.graphs.validation import validate_prompt
from comfydeploy_jupyter.graphs.video_edit import edit_text
from tests.helpers.graphs import combo, declared, node, saved

PICTURES = {"input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image", "min": 2}
MODES = combo(
    text={"prompt": ["STRING", {"multiline": True}]},
    pictures={
        "images": ["COMFY_AUTOGROW_V3", {"template": {**PICTURES, "min": 0}}],
        "seed": ["INT", {"control_after_generate": True}],
        "detail": combo(low={}, high={"steps": ["INT", {}]}),
    },
)
MODES[1]["options"][0]["inputs"]["optional"] = {"mask": ["MASK", {}]}
COMPARE = declared(compare_view=["IMAGECOMPARE", {"socketless": True}])
COMPARE["input"]["optional"] = {"image_a": ["IMAGE", {}]}
POINTS = {"default": {"points": [[0, 0], [1, 1]]}}
DEFINITIONS = NodeDefinitions(
    {
        "Source": {**declared(), "output": ["IMAGE", "MASK"]},
        "Dynamic": {
            **declared(mode=MODES, strength=["FLOAT", {"default": 0.5}]),
            "output": ["IMAGE"],
        },
        "Batch": {
            **declared(
                images=["COMFY_AUTOGROW_V3", {"template": PICTURES}], reference=["IMAGE", {}]
            ),
            "output": ["IMAGE"] * 4,
        },
        "CustomCombo": {**declared(choice=["COMBO", {"options": []}]), "output": ["STRING", "INT"]},
        "ImageCompare": COMPARE,
        "Preview3DAdvanced": declared(
            viewport_state=["LOAD_3D", {}], width=["INT", {"default": 1024}]
        ),
        "Preview3D": declared(model_file=["STRING", {"default": ""}]),
        "SaveGLB": declared(filename_prefix=["STRING", {"default": "3d"}]),
        "CurveEditor": declared(curve=["CURVE", POINTS]),
        "ImageCompositor": declared(compositor=["COMPOSITOR", {}]),
    }
)


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
    dynamic = saved(1, "Dynamic", values, [("mode.images.image0", 1), ("mode.images.image1", 2)])
    rows = [[1, 2, 0, 1, 0, "IMAGE"], [2, 2, 0, 1, 1, "IMAGE"]]
    assert queued([dynamic, saved(2, "Source")], rows)["1"] == {
        "mode": "pictures",
        "mode.seed": 7,
        "mode.detail": "high",
        "mode.detail.steps": 30,
        "strength": 0.25,
        "mode.images.image0": ["2", 0],
        "mode.images.image1": ["2", 0],
    }


def test_links_to_inputs_of_other_options_are_dropped() -> None:
    dynamic = saved(
        1, "Dynamic", ["text", "a", 0.25], [("mode.images.image0", 1), ("mode.mask", 2)]
    )
    rows = [[1, 2, 0, 1, 0, "IMAGE"], [2, 2, 1, 1, 1, "MASK"]]
    assert queued([dynamic, saved(2, "Source")], rows)["1"] == {
        "mode": "text",
        "mode.prompt": "a",
        "strength": 0.25,
        "mode.mask": ["2", 1],
    }


def test_an_unknown_option_adds_no_inputs() -> None:
    dynamic = saved(1, "Dynamic", ["of tomorrow", "a", 0.25], [("mode.mask", 1)])
    assert queued([dynamic, saved(2, "Source")], [[1, 2, 1, 1, 0, "MASK"]])["1"] == {
        "mode": "of tomorrow",
        "strength": "a",
    }


@pytest.mark.parametrize("output", range(3))
def test_a_bypassed_node_passes_autogrow_inputs_on_by_position(output: int) -> None:
    # The inputs of the group stand before an input that is declared later.
    names = ["reference", "images.image0", "images.image1", "images.image2"]
    batch = saved(1, "Batch", None, [(name, link) for link, name in enumerate(names, 1)], mode=4)
    sources = [saved(10 + link, "Source") for link in range(1, 5)]
    rows = [[link, 10 + link, 0, 1, link - 1, "IMAGE"] for link in range(1, 5)]
    compare = saved(2, "ImageCompare", None, [("image_a", 9)])
    found = queued([batch, compare, *sources], [*rows, [9, 1, output, 2, 0, "IMAGE"]])
    assert found["2"]["image_a"] == [str(12 + output), 0]


def test_a_custom_combo_queues_its_index_and_its_options() -> None:
    values = ["b", 0, "a", "b", "c", ""]
    options = {"option1": "a", "option2": "b", "option3": "c", "option4": ""}
    found = queued([saved(1, "CustomCombo", values)])["1"]
    assert found == {"choice": "b", "index": 1, **options}
    found = queued([saved(1, "CustomCombo", ["x", 0, "a", "", "c"])])["1"]
    assert found == {"choice": "x", "index": -1, "option1": "a", "option2": ""}
    assert queued([saved(1, "CustomCombo")])["1"] == {"index": -1, "option1": ""}


def test_a_promoted_choice_determines_the_index() -> None:
    choices = saved(5, "CustomCombo", ["a", 0, "a", "b", ""])
    choices["inputs"] = [
        {"name": "choice", "type": "COMBO", "link": 1, "widget": {"name": "choice"}}
    ]
    subgraph = {
        "id": "sub",
        "inputs": [{"name": "choice", "type": "COMBO", "linkIds": [1]}],
        "nodes": [choices],
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
    pictures = {f"mode.images.image{n}": ["1", 0] for n in range(2)}
    detail = {"mode.detail": "high", "mode.detail.steps": 30}
    options = {"option1": "a", "option2": "b", "option3": ""}
    view = dict.fromkeys(("image", "mask", "normal", "recording"), "")
    view |= {"camera_info": {"fov": 20}, "model_3d_info": []}
    curve = {"__type__": "CURVE", "__value__": {"points": [[0, 1]]}}
    graph = {
        "1": node("Source"),
        "2": node(
            "Dynamic", mode="pictures", strength=0.25, **{"mode.seed": 7}, **detail, **pictures
        ),
        "3": node("CustomCombo", choice="b", index=1, **options),
        "4": node("CurveEditor", curve=curve),
        "5": node("Preview3DAdvanced", width=512, viewport_state=view),
    }
    back = ui_to_api(api_to_ui(graph, DEFINITIONS), DEFINITIONS).graph
    inputs = {key: each["inputs"] for key, each in back.items()}
    assert inputs == {key: each["inputs"] for key, each in graph.items()}


def inside_itself(*names: str) -> dict[str, Any]:
    again = combo()
    again[1]["options"] = combo(more=dict.fromkeys(names, again))[1]["options"]
    return {"mode": again}


def growing_inside_itself() -> dict[str, Any]:
    again: list[Any] = ["COMFY_AUTOGROW_V3", {}]
    again[1]["template"] = {"input": {"required": {"again": again}}, "min": 90, "max": 100}
    return {"images": again}


def endless_options() -> dict[str, Any]:
    names = [*map(str, range(100_000))]
    return {"mode": combo(**{key: {} for key in names}), "name": ["COMBO", {"options": names}]}


def grown(template: Any) -> dict[str, Any]:
    return {"images": ["COMFY_AUTOGROW_V3", {"template": template}]}


SLOT = {"input": {"required": {"x": ["INT", {}]}}}
WRONG_DEFINITIONS: dict[str, dict[str, Any]] = {
    "combo inside itself": inside_itself("again"),
    "group inside itself": growing_inside_itself(),
    "combo many times inside itself": inside_itself(*(f"again{n}" for n in range(20))),
    "group without template": {"images": ["COMFY_AUTOGROW_V3", {}]},
    "template of numbers": grown(3),
    "names of numbers": grown({**SLOT, "names": [1, None, {}]}),
    "endless group": grown({**SLOT, "min": 10**9, "max": 10**9}),
    "options of no kind": {"mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [3, {}]}]},
    "options without end": endless_options(),
}


@pytest.mark.slow
@pytest.mark.parametrize("inputs", WRONG_DEFINITIONS.values(), ids=WRONG_DEFINITIONS)
def test_wrong_definitions_cause_no_error(inputs: dict[str, Any]) -> None:
    definitions = NodeDefinitions({"Custom": declared(**inputs)})
    begun = time.process_time()
    converted = ui_to_api({"nodes": [saved(1, "Custom", ["more"] * 50)]}, definitions)
    api_to_ui(converted.graph, definitions)
    assert time.process_time() - begun < 5
    assert len(converted.graph["1"]["inputs"]) <= 10_000


# -- groups of rows, edits of videos and remote combos: ComfyUI 0.38, frontend 1.58.1 -----------

ROW = {"name": ["STRING", {"default": "n"}], "seed": ["INT", {"control_after_generate": True}]}
ROWS = {
    "template": {"required": ROW, "optional": {"weight": ["FLOAT", {"default": 0.5, "max": 1.0}]}},
    "min": 1,
    "max": 3,
    "group_name": "LoRA",
}
TRIM = {"trim": {"start_time": 1.5, "duration": 2}}
NEW = NodeDefinitions(
    {
        "Rows": {
            **declared(rows=["COMFY_DYNAMICGROUP_V3", ROWS], tail=["INT", {}]),
            "output_node": True,
            "api_node": False,
            "deprecated": False,
            "experimental": False,
        },
        "Video": declared(trim=["VIDEO_EDIT", {"default": {}}], strict=["BOOLEAN", {}]),
        "Remote": {
            **declared(voice=["COMBO", {"remote_combo": {"route": "/voices"}}]),
            "output_node": True,
            "api_node": False,
            "deprecated": False,
            "experimental": False,
        },
        "Size": {
            **declared(width=["INT", {}]),
            "input": {
                "required": {"width": ["INT", {}]},
                "optional": {"preview": ["RESOLUTION_PREVIEW", {}]},
            },
        },
    }
)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (
            [2, "a", 5, "fixed", 0.1, "b", 6, "randomize", 0.2, 9],
            {"0.name": "a", "0.seed": 5, "0.weight": 0.1, "1.name": "b", "1.seed": 6},
        ),
        ([0, "a", 5, "fixed", 0.1, 9], {"0.name": "a", "0.seed": 5, "0.weight": 0.1}),
        (None, {"0.name": "n", "0.seed": 0, "0.weight": 0.5}),
        ([1.7, "a", 5, "fixed", 0.1, 9], {"0.name": "a", "0.seed": 5, "0.weight": 0.1}),
        (["2", "a", 5, "fixed", 0.1, 9], {"0.name": "a", "0.seed": 5, "0.weight": 0.1}),
        ([-1, "a", 5, "fixed", 0.1, 9], {"0.name": "a", "0.seed": 5, "0.weight": 0.1}),
        ([None, None, 5, "fixed", 0.1, 9], {"0.name": None, "0.seed": 5, "0.weight": 0.1}),
    ],
    ids=["two", "fewer than allowed", "a new node", "a fraction", "a text", "negative", "null"],
)
def test_rows_of_a_group(stored: Any, wanted: dict[str, Any]) -> None:
    flow = {"nodes": [saved(1, "Rows", stored)], "links": []}
    inputs = ui_to_api(flow, NEW).graph["1"]["inputs"]
    assert {f"rows.{name}" for name in wanted} <= inputs.keys()
    assert {name: inputs[f"rows.{name}"] for name in wanted} == wanted
    assert "rows" not in inputs
    assert inputs["tail"] == (9 if stored else 0)


def test_a_hostile_number_of_rows_costs_little() -> None:
    for count, rows in ((10**9, 1), (1000, 1000)):
        flow = {"nodes": [saved(1, "Rows", [count, "a"])], "links": []}
        assert len(ui_to_api(flow, NEW).graph["1"]["inputs"]) == 3 * rows + 1


@pytest.mark.parametrize(
    ("stored", "queued"), [(None, {}), ([], {}), ([None], {"voice": None}), (["v"], {"voice": "v"})]
)
def test_a_remote_combo_that_was_never_set_is_left_out(stored: Any, queued: dict[str, Any]) -> None:
    """Once the editor has saved it, its value is null."""
    flow = {"nodes": [saved(1, "Remote", stored)], "links": []}
    assert ui_to_api(flow, NEW).graph["1"]["inputs"] == queued


def test_an_edit_is_queued_and_a_preview_is_not() -> None:
    flow = {"nodes": [saved(1, "Video", [TRIM, True]), saved(2, "Size", [64])], "links": []}
    graph = ui_to_api(flow, NEW).graph
    assert graph["1"]["inputs"] == {"trim": TRIM, "strict": True}
    assert graph["2"]["inputs"] == {"width": 64}


@pytest.mark.parametrize(
    ("inputs", "name", "text"),
    [
        ({}, "rows", "DynamicGroup input 'rows' received 0 rows; expected between 1 and 3."),
        ({"rows.3.name": "a"}, "rows.3.name", "exceeds the index limit of 2 (max=3)."),
        *(
            ({f"rows.{key}": 1}, f"rows.{key}", "expected 'rows.<index>.<template field>'.")
            for key in (
                "01.name",
                "+1.name",
                "x.name",
                "\u0661.name",
                "0.other",
                "0",
                "0.name.more",
            )
        ),
        ({"rows.00000000000000000007.name": 1}, "rows.00000000000000000007.name", "expected"),
        ({"rows.99999999999999999999.name": 1}, "rows.99999999999999999999.name", "exceeds"),
    ],
)
def test_wrong_rows_are_the_only_error(inputs: dict[str, Any], name: str, text: str) -> None:
    found = validate_prompt({"1": node("Rows", **inputs)}, NEW)
    (error,) = found.node_errors["1"]["errors"]
    assert (error["type"], error["extra_info"]) == ("invalid_dynamic_input", {"input_name": name})
    assert text in error["details"]


def test_rows_are_checked_and_may_have_gaps() -> None:
    prompt = {"1": node("Rows", tail=1, **{"rows.2.weight": 2.0, "rows.2.seed": 4, "rows": 7})}
    errors = validate_prompt(prompt, NEW).node_errors["1"]["errors"]
    assert [(each["type"], each["details"]) for each in errors] == [
        ("required_input_missing", "name"),
        ("value_bigger_than_max", "rows.2.weight"),
    ]
    prompt["1"]["inputs"].update({"rows.2.weight": 1.0, "rows.2.name": "a"})
    assert validate_prompt(prompt, NEW).valid


@pytest.mark.parametrize("voice", ["any", None, 5, {"__value__": ["a"]}])
def test_a_remote_combo_takes_everything(voice: Any) -> None:
    assert validate_prompt({"1": node("Remote", voice=voice)}, NEW).valid


@pytest.mark.parametrize("voice", ["any", None, 5, 0.5])
def test_a_remote_combo_has_a_field_that_takes_everything(voice: Any) -> None:
    fields = input_form({"1": node("Remote", voice=voice)}, NEW)
    (field,) = fields
    assert (field.kind, field.value, field.options) == ("combo", voice, None)
    assert field.remote == "class_type=Remote&input=voice"
    assert page_value(field, voice) == ("" if voice is None else voice)
    assert "enum" not in property_of(field)
    assert "type" not in property_of(field)


def test_a_list_that_was_not_loaded_is_no_misfit() -> None:
    older = NodeDefinitions({"Old": declared(file=["COMBO", {"remote": {"route": "/files"}}])})
    (field,) = input_form({"1": node("Old", file=None)}, older)
    assert (field.required, field.value) == (False, None)
    assert workflow_form({"1": node("Old", file=None)}, older).mismatches == []


def test_what_is_given_to_a_remote_combo_is_never_refused() -> None:
    lists: dict[str, Any] = {"options": ["a"], "remote_combo": {"route": "/voices"}}
    older: dict[str, Any] = {"options": ["a"], "remote": {"route": "/files"}}
    nodes = NodeDefinitions(
        {
            "Talk": {
                **declared(new=["COMBO", lists], old=["COMBO", older], plain=[["a", "b"], {}]),
                "output_node": True,
            }
        }
    )
    graph = {"1": node("Talk", new="a", old="a", plain="a")}
    for name, refused in (("new", False), ("old", False), ("plain", True)):
        applied = apply_inputs(graph, {f"1.{name}": "z"}, definitions=nodes)
        with pytest.raises(InvalidInputError) if refused else nullcontext():
            check_inputs(graph, applied, nodes)


def test_the_options_of_a_remote_combo_in_an_option_depend_on_it() -> None:
    inner = {"required": {"voice": ["COMBO", {"remote_combo": {"route": "/voices"}}]}}
    options = [{"key": "a & b", "inputs": inner}]
    nodes = NodeDefinitions(
        {"Talk": declared(mode=["COMFY_DYNAMICCOMBO_V3", {"options": options}])}
    )
    graph = {"1": node("Talk", **{"mode": "a & b", "mode.voice": "x"})}
    field = next(f for f in input_form(graph, nodes) if f.key == "1.mode.voice")
    query = dict(parse_qsl(field.remote))
    assert query == {"class_type": "Talk", "input": "mode.voice", "inputs": '{"mode": "a & b"}'}


EDIT = {
    "trim": {"start_time": 1.5, "duration": 2.0},
    "crop": {"x": 1, "y": 2, "width": 8, "height": 8},
}
VIDEOS = NodeDefinitions(
    {
        "Load": {
            "input": {
                "required": {"file": ["COMBO", {"options": ["a.mp4"], "video_upload": True}]},
                "optional": {"edit": ["VIDEO_EDIT", {"features": ["trim", "crop", "spin"]}]},
            },
            "output": ["VIDEO"],
        },
        "Trim": {
            **declared(video=["VIDEO", {}], trim=["VIDEO_EDIT", {"features": ["trim"]}]),
            "output": ["VIDEO"],
            "output_node": True,
        },
    }
)


def edits_of(graph: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {
        field.key: (field.value, field.features, field.video, field.required)
        for field in input_form(graph, VIDEOS)
        if field.kind == "video_edit"
    }


def test_the_edit_of_a_video_has_a_field_and_knows_the_video() -> None:
    graph = {
        "1": node("Load", file="a.mp4"),
        "2": node("Trim", video=["1", 0], trim=EDIT),
        "3": node("Trim", video=["2", 0], trim={}),
        "4": node("Trim", video=["1", 0]),
    }
    assert edits_of(graph) == {
        "1.edit": (None, ("trim", "crop"), "1.file", False),
        "2.trim": (EDIT, ("trim",), "1.file", False),
        "3.trim": ({}, ("trim",), "", False),
        "4.trim": (None, ("trim",), "1.file", True),
    }
    graph["1"]["inputs"]["edit"] = EDIT
    assert edits_of(graph)["2.trim"][2] == "", "its times are those of another part"
    graph["1"]["inputs"]["edit"] = {"trim": {"start_time": 0, "duration": 0.0}}
    assert edits_of(graph)["2.trim"][2] == "1.file"
    graph["2"]["inputs"]["trim"] = ["1", 0]
    assert "2.trim" not in edits_of(graph), "it is a link"


def test_the_edit_of_a_video_is_written_as_a_browser_does_and_checked() -> None:
    graph = {"1": node("Load", file="a.mp4", edit=EDIT)}
    (field,) = (f for f in input_form(graph, VIDEOS) if f.kind == "video_edit")
    text = page_value(field, EDIT)
    crop = '"crop":{"x":1,"y":2,"width":8,"height":8}}'
    assert text == '{"trim":{"start_time":1.5,"duration":2},' + crop
    assert read_value(field, text) is field.value
    later = '{"trim":{"start_time":0.25},"speed":2}'
    assert read_value(field, later) == {"trim": {"start_time": 0.25}, "speed": 2}
    assert property_of(field)["type"] == "object"
    for wrong in (
        *("", "x", "[]", "null", "1", "[" * 5000, '{"trim":5}', '{"crop":[]}'),
        *('{"trim":{"duration":-1}}', '{"trim":{"start_time":"1"}}', '{"trim":{"duration":NaN}}'),
        *('{"crop":{"x":1.5}}', '{"crop":{"width":true}}', '{"crop":{"height":1e12}}'),
    ):
        with pytest.raises(InvalidRequestError, match="Load: edit"):
            read_value(field, wrong)


def test_a_preview_of_a_resolution_has_no_field() -> None:
    graph = {"1": node("Size", width=8)}
    assert [field.key for field in input_form(graph, NEW)] == ["1.width"]
    graph["1"]["inputs"]["preview"] = ""  # as some program may have written it
    assert [f.key for f in input_form(graph, NEW)] == ["1.width"]


def test_the_edit_of_a_video_may_be_given_as_the_text_of_a_page() -> None:
    graph = {"1": node("Load", file="a.mp4"), "2": node("Trim", video=["1", 0], trim={})}
    for given in (EDIT, edit_text(EDIT)):
        for key in ("2.trim", "1.edit"):
            applied = apply_inputs(graph, {key: given}, definitions=VIDEOS)
            node_id, _, name = key.partition(".")
            assert applied.graph[node_id]["inputs"][name] == EDIT
            check_inputs(graph, applied, VIDEOS)
    applied = apply_inputs(graph, {"1.file": "{a}.mp4"}, definitions=VIDEOS)
    assert applied.graph["1"]["inputs"]["file"] == "{a}.mp4", "it is a name"
    for wrong in ("{", "whole", 5, "{1}"):
        applied = apply_inputs(graph, {"2.trim": wrong}, definitions=VIDEOS)
        with pytest.raises(InvalidInputError, match="must be an object, not"):
            check_inputs(graph, applied, VIDEOS)


def test_the_form_shows_the_edit_of_a_video_that_was_given() -> None:
    graph = {"1": node("Load", file="a.mp4", edit={"trim": {"start_time": 0.0}})}
    text = edit_text(EDIT)
    shown = shown_form(graph, VIDEOS, None, {"1.edit": text})
    assert shown["values"]["1.edit"] == text
    assert (shown["others"], shown["problems"]) == ({}, {})
    assert shown["given"] == shown_form(graph, VIDEOS, None, {"edit": EDIT})["given"]
    assert shown["given"] == {"1.edit": text}
    same = {"1.edit": '{"trim":{"start_time":0}}'}
    assert shown_form(graph, VIDEOS, None, same)["given"] == {}
    (row,) = (row for row in shown["rows"] if row["kind"] == "video_edit")
    assert row["original"] == '{"trim":{"start_time":0}}'
    assert row["edit"] == {"features": ["trim", "crop"], "video": "1.file"}
    wrong = shown_form(graph, VIDEOS, None, {"1.edit": {"trim": {"start_time": -1}}})
    problem = "trim: start_time must be a number of seconds, from 0"
    assert wrong["problems"] == {"1.edit": problem}
