"""Inputs that depend on values: wrong definitions, remote combos, rows, and edits of videos."""

from contextlib import nullcontext
from urllib.parse import parse_qsl

import pytest

from comfydeploy_jupyter.errors import InvalidInputError, InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.form import page_value, workflow_form
from comfydeploy_jupyter.graphs.inputs import apply_inputs, check_inputs, property_of
from comfydeploy_jupyter.graphs.layout import api_to_ui
from comfydeploy_jupyter.graphs.shown_form import read_value, shown_form
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from comfydeploy_jupyter.graphs.video_edit import edit_text
from tests.helpers.graphs import SMALL_CLASSES, declared, node

DEFINITIONS, NEW = (NodeDefinitions(SMALL_CLASSES[name]) for name in ("dynamic", "0.38"))


def test_dynamic_inputs_are_converted_to_the_ui_format():
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


# -- groups of rows, edits of videos and remote combos: ComfyUI 0.38, frontend 1.58.1 -----------


@pytest.mark.parametrize("voice", ["any", None, 5, 0.5])
def test_a_remote_combo_has_a_field_that_takes_everything(voice):
    fields = workflow_form({"1": node("Remote", voice=voice)}, NEW).fields
    (field,) = fields
    assert (field.kind, field.value, field.options) == ("combo", voice, None)
    assert field.remote == "class_type=Remote&input=voice"
    assert page_value(field, voice) == ("" if voice is None else voice)
    assert "enum" not in property_of(field)
    assert "type" not in property_of(field)


def test_a_list_that_was_not_loaded_is_no_misfit():
    older = NodeDefinitions({"Old": declared(file=["COMBO", {"remote": {"route": "/files"}}])})
    (field,) = workflow_form({"1": node("Old", file=None)}, older).fields
    assert (field.required, field.value) == (False, None)
    assert workflow_form({"1": node("Old", file=None)}, older).mismatches == []


def test_what_is_given_to_a_remote_combo_is_never_refused():
    lists = {"options": ["a"], "remote_combo": {"route": "/voices"}}
    older = {"options": ["a"], "remote": {"route": "/files"}}
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


def test_the_options_of_a_remote_combo_in_an_option_depend_on_it():
    inner = {"required": {"voice": ["COMBO", {"remote_combo": {"route": "/voices"}}]}}
    options = [{"key": "a & b", "inputs": inner}]
    nodes = NodeDefinitions(
        {"Talk": declared(mode=["COMFY_DYNAMICCOMBO_V3", {"options": options}])}
    )
    graph = {"1": node("Talk", **{"mode": "a & b", "mode.voice": "x"})}
    field = next(f for f in workflow_form(graph, nodes).fields if f.key == "1.mode.voice")
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


def edits_of(graph):
    return {
        field.key: (field.value, field.features, field.video, field.required)
        for field in workflow_form(graph, VIDEOS).fields
        if field.kind == "video_edit"
    }


def test_the_edit_of_a_video_has_a_field_and_knows_the_video():
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


def test_the_edit_of_a_video_is_written_as_a_browser_does_and_checked():
    graph = {"1": node("Load", file="a.mp4", edit=EDIT)}
    (field,) = (f for f in workflow_form(graph, VIDEOS).fields if f.kind == "video_edit")
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


def test_a_preview_of_a_resolution_has_no_field():
    graph = {"1": node("Size", width=8)}
    assert [field.key for field in workflow_form(graph, NEW).fields] == ["1.width"]
    graph["1"]["inputs"]["preview"] = ""  # as some program may have written it
    assert [f.key for f in workflow_form(graph, NEW).fields] == ["1.width"]


def test_the_edit_of_a_video_may_be_given_as_the_text_of_a_page():
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


def test_the_form_shows_the_edit_of_a_video_that_was_given():
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
