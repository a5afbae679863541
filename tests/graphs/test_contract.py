"""The contract of a workflow: JSON Schema of its inputs and outputs, and the check of values."""

import asyncio
import contextlib

import pytest
from jsonschema import Draft202012Validator

from comfydeploy_jupyter.comfyui.definitions import Definitions
from comfydeploy_jupyter.errors import InvalidInputError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.graphs.inputs import apply_inputs, check_inputs, contract_of
from tests.helpers.graphs import declared, node

SAMPLED = {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal"}
SAMPLER = {
    "1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "2": node("KSampler", "Sampler", **SAMPLED, denoise=1.0, latent_image=["1", 0]),
    "3": node("LoadImage", image="example.png"),
    "4": node("SaveImage", images=["3", 0]),
    "5": node("SaveLatent", samples=["2", 0], filename_prefix="a"),
}
RANGE = {"default_value": 0.5, "min_value": 0, "max_value": 1}
EXTERNAL = {
    "6": node("ComfyUIDeployExternalNumberSlider", input_id="strength", **RANGE),
    "7": node(
        "ComfyUIDeployExternalImage",
        input_id="photo",
        default_value_url="",
        display_name="Your photo",
    ),
    "8": node(
        "ComfyUIDeployExternalEnum", input_id="style", default_value="oil", options='["oil", "ink"]'
    ),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """The bundled definitions of ComfyUI's own nodes."""
    return asyncio.run(Definitions(tmp_path_factory.mktemp("data") / "kept").offline())


def test_types_ranges_choices_and_defaults(known):
    inputs = contract_of(SAMPLER, known.object_info)["inputs"]
    steps = inputs["properties"]["2.steps"]
    wanted = {"type": "integer", "minimum": 1, "maximum": 10000, "default": 20}
    assert steps.items() >= {**wanted, "title": "Sampler: steps"}.items()
    cfg = inputs["properties"]["2.cfg"]
    assert (cfg["type"], cfg["minimum"], cfg["maximum"]) == ("number", 0.0, 100.0)
    sampler = inputs["properties"]["2.sampler_name"]
    assert "euler" in sampler["enum"]
    assert "dpmpp_2m" in sampler["enum"]
    assert "2.latent_image" not in inputs["properties"]
    image = inputs["properties"]["3.image"]
    assert (image["type"], image["x-kind"], "enum" in image) == ("string", "image", False)
    check = Draft202012Validator(inputs)
    assert check.is_valid({"2.steps": 30, "2.sampler_name": "euler", "4.filename_prefix": "x"})
    assert not check.is_valid({"2.steps": 0})
    assert not check.is_valid({"2.sampler_name": "nothing"})
    keys = [field.key for field in workflow_form(SAMPLER, known.object_info).fields]
    assert [key for key in inputs["properties"] if key in keys] == keys


def test_an_input_without_a_value_is_required(known):
    contract = contract_of({**SAMPLER, **EXTERNAL}, known.object_info)
    for schema in (contract["inputs"], contract["outputs"]):
        Draft202012Validator.check_schema(schema)
    inputs = contract["inputs"]
    # Of SaveImage the name is missing; links cannot be typed.
    assert sorted(inputs["required"]) == ["4.filename_prefix", "photo"]
    assert "default" not in inputs["properties"]["photo"]
    assert inputs["properties"]["photo"]["title"] == "Your photo"
    assert inputs["properties"]["style"]["enum"] == ["oil", "ink"]
    more = contract_of({**SAMPLER, "9": node("KSampler")}, known.object_info)["inputs"]
    assert more["required"] == ["4.filename_prefix"]


def test_outputs(known):
    outputs = contract_of(SAMPLER, known.object_info)["outputs"]["properties"]
    assert {key: output.get("x-media") for key, output in outputs.items()} == {
        "4": "image",
        "5": "latent",
    }
    assert all(output["x-shown"] for output in outputs.values())
    app = {
        "nodes": [{"id": 4, "type": "SaveImage"}],
        "links": [],
        "extra": {"linearMode": True, "linearData": {"inputs": [], "outputs": [4]}},
    }
    chosen = contract_of(SAMPLER, known.object_info, app)["outputs"]["properties"]
    assert {key: output["x-shown"] for key, output in chosen.items()} == {"4": True, "5": False}
    validate = Draft202012Validator(contract_of(SAMPLER, known.object_info)["outputs"])
    validate.validate({"4": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"2.steps": 0}, "inputs.Sampler.steps: must be at least 1, not 0"),
        ({"steps": 20000}, "inputs.steps: must be at most 10000, not 20000"),
        ({"Sampler.steps": "many"}, 'inputs.Sampler.steps: must be an integer, not "many"'),
        ({"cfg": None}, "inputs.cfg: must be a number, not null"),
        ({"cfg": "1e999"}, "inputs.cfg: must be at most 100.0, not inf"),
        ({"scheduler": "no"}, "inputs.scheduler: must be one of "),
        ({"strength": 1.5}, "inputs.strength: must be at most 1, not 1.5"),
        ({"style": "chalk"}, 'inputs.style: must be one of "oil", "ink", not "chalk"'),
    ],
)
def test_values_that_break_the_contract(known, inputs, message):
    sampler = {node_id: SAMPLER[node_id] for node_id in ("1", "2", "5")}
    graph = {**sampler, **EXTERNAL}
    applied = apply_inputs(graph, inputs, definitions=known.object_info)
    with pytest.raises(InvalidInputError) as refused:
        check_inputs(graph, applied, known.nodes)
    assert refused.value.message.startswith(message)
    assert refused.value.details["field"] == f"inputs.{next(iter(inputs))}"


@pytest.mark.parametrize(
    "inputs",
    [
        {"2.steps": "30", "cfg": "7", "denoise": 1},  # ComfyUI converts texts
        {"2.seed": ["1", 0]},  # a link is left to ComfyUI
        {"3.image": "new.png"},  # the node class looks for the file itself
        {"width": 63},  # steps are not checked
        {"photo": "https://example.org/a.png", "strength": 1, "style": "ink"},
    ],
)
def test_values_that_comfyui_accepts(known, inputs):
    graph = {**SAMPLER, **EXTERNAL}
    applied = apply_inputs(graph, inputs, definitions=known.object_info)
    check_inputs(graph, applied, known.nodes)


def test_a_graph_of_which_a_part_can_be_executed_is_left_to_comfyui(known):
    scaled = node("ImageScaleBy", image=["3", 0], upscale_method="area", scale_by=1.0)
    graph = {**SAMPLER, "9": scaled, "4": node("SaveImage", images=["9", 0])}
    for inputs in ({"2.steps": 0}, {"9.scale_by": 0}, {"2.steps": 0, "9.scale_by": 0}):
        applied = apply_inputs(graph, inputs, definitions=known.object_info)
        with pytest.raises(InvalidInputError) if len(inputs) == 2 else contextlib.nullcontext():
            check_inputs(graph, applied, known.nodes)


def test_values_of_custom_nodes_are_left_to_comfyui():
    number = ["INT", {"default": 1, "min": 0, "max": 3}]
    theirs = {"output": [], "output_node": True, "python_module": "custom_nodes.pack"}
    info = {"Theirs": {**declared(n=number), **theirs}}
    graph = {"1": node("Theirs", n=1)}
    known = NodeDefinitions(info)
    check_inputs(graph, apply_inputs(graph, {"n": 9}, definitions=info), known)
    with pytest.raises(InvalidInputError, match="must be an integer"):
        check_inputs(graph, apply_inputs(graph, {"n": "x"}, definitions=info), known)
    assert contract_of(graph, info)["inputs"]["properties"]["1.n"]["maximum"] == 3
