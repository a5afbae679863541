"""Dynamic combos and groups of inputs of variable number: setting them, and their form fields."""

import copy

import pytest

from comfydeploy_jupyter.errors import UnknownInputError
from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.graphs.inputs import apply_inputs, load_files
from tests.helpers.graphs import combo, declared, group, node

CRF = ["FLOAT", {"default": 23.0, "min": 0.0, "max": 51.0}]
MODE = combo(
    small={
        "size": ["INT", {"default": 64, "min": 1, "max": 128}],
        "seed": ["INT", {"default": 0, "control_after_generate": True}],
        "image": ["IMAGE", {}],
    },
    large={"size": ["INT", {"default": 1024}], "codec": combo(auto={}, h264={"crf": CRF})},
    plain={},
)
DEFINITIONS = {
    "Make": declared(
        "Make it",
        mode=MODE,
        strength=["FLOAT", {"default": 1.0}],
        values=group("STRING", names=["a", "b", "c"], min=1),
        pictures=group("IMAGE", prefix="picture", min=0, max=4),
    )
}
SMALL = {"mode.size": 100, "mode.seed": 7, "mode.image": ["9", 0]}
GRAPH = {"5": node("Make", mode="small", strength=0.5, **SMALL, **{"values.a": "first"})}


def apply(inputs, **kwargs):
    before = copy.deepcopy(GRAPH)
    applied = apply_inputs(GRAPH, inputs, definitions=DEFINITIONS, **kwargs)
    assert before == GRAPH
    return applied


def test_an_added_input_is_removed_with_its_option():
    graph = {"5": node("Make", mode="small")}
    with pytest.raises(UnknownInputError):
        apply_inputs(graph, {"5.mode.seed": 3, "5.mode": "plain"}, definitions=DEFINITIONS)


LOADER = declared(image=[["a.png", "b.png"], {"image_upload": True}])
WITH_LOADER = {**DEFINITIONS, "LoadImage": LOADER}


def test_pictures_are_added_to_a_group_and_removed():
    _, pictures = workflow_form(GRAPH, WITH_LOADER).groups
    assert (pictures.key, pictures.count, pictures.last) == ("5.pictures", 0, ())
    assert pictures.next == {"5.pictures.picture0": ""}
    applied = apply({"5.pictures.picture0": "b.png"})
    form = workflow_form(applied.graph, WITH_LOADER)
    (field,) = (field for field in form.fields if field.key == "5.pictures.picture0")
    assert (field.kind, field.value, field.options) == ("image", "b.png", ["a.png", "b.png"])
    assert form.groups[1].last == ("5.pictures.picture0",)


def test_a_loader_is_put_before_an_input_that_was_given_a_file():
    inputs = {"5.pictures.picture1": "b.png", "5.mode.image": "a.png", "5.values.b": "c.png"}
    graph = load_files(apply(inputs), WITH_LOADER).graph
    assert graph["5"]["inputs"] == {
        **GRAPH["5"]["inputs"],
        "mode.image": ["5.mode.image", 0],
        "pictures.picture1": ["5.pictures.picture1", 0],
        "values.b": "c.png",
    }
    loader = node("LoadImage", "Make it: pictures: picture1", image="b.png")
    assert graph["5.pictures.picture1"] == loader
    assert graph["5.mode.image"]["inputs"] == {"image": "a.png"}
    empty = load_files(apply({"5.pictures.picture0": ""}), WITH_LOADER).graph
    assert empty == GRAPH
    linked = apply({"5.pictures.picture0": ["9", 0]}).graph
    assert load_files(apply({"5.pictures.picture0": ["9", 0]}), WITH_LOADER).graph == linked
    without = apply({"5.pictures.picture0": "a.png"})
    assert load_files(without, DEFINITIONS).graph["5"]["inputs"]["pictures.picture0"] == "a.png"
