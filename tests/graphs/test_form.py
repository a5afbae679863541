"""The labels of a form, of which no two are the same, and the choices of its fields."""

import pytest

from comfydeploy_jupyter.graphs.examples import examples
from comfydeploy_jupyter.graphs.export import python_script
from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.graphs.inputs import apply_inputs, contract_of
from tests.helpers.graphs import declared, node

PROMPT = ["STRING", {"multiline": True}]
LYRICS = {"TextEncode": declared("Text Encode", tags=PROMPT, lyrics=PROMPT)}


def song(*node_ids):
    nodes = {i: node("TextEncode", tags="pop", lyrics="la") for i in node_ids}
    return {**nodes, **{f"s{i}": node("Sampler", positive=[i, 0]) for i in node_ids}}


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
        ({i: node("A", width=8) for i in ("1", "2")}, ["A: width (node 1)", "A: width (node 2)"]),
        (
            {
                "1": node("A", "B", x=1),
                "2": node("A", "B", x=1),
                "3": node("PrimitiveInt", "B: x (node 1)", value=1),
            },
            ["B: x (node 1)", "B: x (1.x)", "B: x (node 2)"],
        ),
    ],
)
def test_two_inputs_never_have_the_same_name(graph, labels):
    assert [field.label for field in workflow_form(graph, LYRICS).fields] == labels


def test_examples_need_only_what_a_comfyui_has():
    def classes(*names):
        return {name: {"input": {}} for name in names}

    assert examples(None) == []
    core = ("EmptyImage", "ImageAddNoise", "ImageScale", "ImageBlend", "PreviewImage")
    assert [example.title for example in examples(classes(*core))] == ["Coloured clouds"]
    diffusion = ("CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode", "SaveImage")
    loader = {"CheckpointLoaderSimple": declared(ckpt_name=[["xl.ckpt"]])}
    found = examples({**classes(*core, *diffusion), **loader})
    assert [example.title for example in found] == ["Coloured clouds", "Text to image"]
    assert found[1].graph["1"]["inputs"] == {"ckpt_name": "xl.ckpt"}
    empty = {"CheckpointLoaderSimple": declared(ckpt_name=[[]])}
    assert len(examples({**classes(*core, *diffusion), **empty})) == 1


SAVE = {
    "Save": {
        **declared(
            images=["IMAGE"],
            name=["STRING", {"default": "ComfyUI"}],
            quality=["INT", {"min": 1, "max": 100}],
            lossless=["BOOLEAN"],
        ),
        "output_node": True,
    },
    "LoadImage": declared(image=[["a.png"], {"image_upload": True}]),
}
SAVE["Save"]["input"]["optional"] = {"comment": ["STRING"]}
BARE = {
    "1": node("LoadImage", image="a.png"),
    "2": node("Save", images=["1", 0], comment="no"),
    "3": node("LoadImage"),
}


def test_inputs_without_a_value_are_required_and_come_first():
    form = workflow_form(BARE, SAVE).fields
    assert [(f.key, f.kind, f.required, f.value, f.initial) for f in form] == [
        ("2.name", "text", True, None, "ComfyUI"),
        ("2.quality", "int", True, None, None),
        ("2.lossless", "bool", True, None, False),
        ("1.image", "image", False, "a.png", "a.png"),
        ("2.comment", "text", False, "no", "no"),
    ], "no output needs node 3"
    assert workflow_form({"2": node("Save")}, SAVE).fields[0].kind == "image", (
        "a file can be put there"
    )
    assert not any(f.required for f in workflow_form(BARE).fields), (
        "it is not known without definitions"
    )
    script = python_script(BARE, form)
    assert "# Save: name; required\nname = 'ComfyUI'" in script
    assert "# Save: quality; required; 1 to 100\nquality = None" in script


def test_a_required_input_has_the_authors_position_or_follows_the_others():
    ui = {
        "nodes": [{"id": 1, "type": "LoadImage"}, {"id": 2, "type": "Save"}],
        "links": [],
        "extra": {"linearMode": True, "linearData": {"inputs": [[2, "comment"], [2, "quality"]]}},
    }
    form = workflow_form(BARE, SAVE, ui)
    assert [(f.key, f.chosen, f.required) for f in form.fields] == [
        ("2.comment", True, False),
        ("2.quality", True, True),
        ("2.name", False, True),
        ("2.lossless", False, True),
        ("1.image", False, False),
    ]
    assert form.warnings == []


@pytest.mark.parametrize(
    ("name", "inputs", "required"),
    [
        ("Image", {}, True),
        ("Image", {"default_value_url": "https://example.org/a.png"}, False),
        ("Image", {"default_value": ["1", 0]}, False),
        ("Audio", {"default_value": ["1", 0]}, False),
        ("Number", {"default_value": 0}, False),
        ("Number", {}, True),
        ("Seed", {}, False),
        ("Text", {}, False),
    ],
)
def test_an_external_input_is_required_unless_it_has_a_default(name, inputs, required):
    graph = {"1": node(f"ComfyUIDeployExternal{name}", input_id="x", **inputs)}
    (field,) = workflow_form(graph).fields
    assert field.required == required


def test_a_title_does_not_change_the_direction_of_the_text_after_it():
    (field,) = workflow_form({"1": node("TestText", "שלום \u202e🙂", text="a")}).fields
    assert field.label == "שלום 🙂: text"


def test_the_choices_of_a_custom_combo_are_those_on_its_node():
    definitions = {"CustomCombo": declared(choice=["COMBO", {"options": []}])}
    texts = {"option1": "one", "option2": "two", "option10": "ten", "option3": ""}
    graph = {"1": node("CustomCombo", choice="one", index=0, **texts)}
    contract = contract_of(graph, definitions)
    assert contract["inputs"]["properties"]["1.choice"]["enum"] == ["one", "two", "ten"]
    for values, index in (
        ({"1.choice": "ten"}, 3),
        ({"1.choice": "none of them"}, -1),
        ({"1.choice": "two", "1.index": 7}, 7),
        ({"1.option1": "uno"}, 0),
    ):
        applied = apply_inputs(graph, values, definitions=definitions)
        assert applied.graph["1"]["inputs"]["index"] == index
    assert graph["1"]["inputs"]["index"] == 0
