"""Workflows in Python code; the test server replies as the specification of the routes says."""

import copy
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfydeploy_jupyter.client import Comfy, UnknownNameError, Workflow
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.errors import InvalidRequestError, UnknownInputError
from comfydeploy_jupyter.graphs.dependencies import nodes_behind
from comfydeploy_jupyter.graphs.outline import inputs_text, run_order
from tests.golden.record_media import MEDIA, WORKFLOW, prompt_of

API = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "steps": 20, "model": ["4", 0], "positive": ["6", 0]},
        "_meta": {"title": "Paint <b>"},
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a\ncat", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["4", 1]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
}
UI = {
    "nodes": [{"id": int(key), "type": node["class_type"]} for key, node in API.items()],
    "links": [],
}
DEFINITIONS = {
    "KSampler": {
        "input": {
            "required": {
                "seed": ["INT", {"min": 0, "max": 2**64 - 1}],
                "steps": ["INT", {"min": 1, "max": 100}],
                "denoise": ["FLOAT", {"min": 0.0, "max": 1.0}],
            }
        }
    }
}
NOWHERE = Server("http://127.0.0.1:1/")


def answer(request, reply):
    route = request.path.rpartition("comfyui-deploy/")[2]
    if route == "object_info":
        reply.json(DEFINITIONS)
    elif route == "workflow/convert":
        if request.body["to"] == "api":
            reply.json({"workflow_api": API, "warnings": ["node 8 is muted"]})
        else:
            reply.json({"workflow": {**UI, "extra": "laid out"}, "warnings": []})
    elif route == "workflow/validate":
        issue = {
            "type": "value_not_in_list",
            "message": "Value not in list",
            "details": "ckpt_name: 'a.safetensors' not in []",
            "extra_info": {
                "input_name": "ckpt_name",
                "input_config": [[], {}],
                "received_value": "a.safetensors",
            },
        }
        bar = {"class_type": "Bar", "node_ids": ["6"], "pack": "comfy-core"}
        model = {"name": "a.safetensors", "folder": "checkpoints", "node_id": "4", "url": "u"}
        reply.json(
            {
                "valid": False,
                "error": {"message": "Prompt outputs failed validation", "details": ""},
                "node_errors": {"4": {"class_type": "CheckpointLoaderSimple", "errors": [issue]}},
                "missing_nodes": [
                    {"class_type": "Foo", "node_ids": ["5"], "pack": "foo-pack"},
                    {**bar, "needs": "ComfyUI 0.33.0 or newer"},
                ],
                "missing_models": [model],
                "warnings": ["one doubt"],
                "definitions": {"source": "bundled", "comfyui_version": "0.3.75"},
            }
        )
    else:
        reply.accept(request)


@pytest.fixture
def server(small_server):
    return small_server(answer)


@pytest.fixture
def comfy(server):
    return Comfy(server.url)


@pytest.fixture
def workflow(comfy):
    return comfy.load(API)


def test_nodes_are_found_by_id_title_or_class_and_errors_suggest_others(workflow):
    assert workflow["3"].id == workflow[3].id == workflow["Paint <b>"].id == workflow["KSampler"].id
    assert (workflow["3"].class_type, workflow["3"].title) == ("KSampler", "Paint <b>")
    assert list(workflow) == list(API)
    assert len(workflow) == 5
    assert "SaveImage" in workflow
    assert "CLIPTextEncode" not in workflow

    with pytest.raises(UnknownNameError, match=r"'KSample' is no node .* did you mean 'KSampler'"):
        workflow["KSample"]
    with pytest.raises(KeyError, match=r"'CLIPTextEncode' matches several nodes; .* 6, 7$"):
        workflow["CLIPTextEncode"]
    assert "CLIPTextEncode" not in workflow._ipython_key_completions_()
    assert workflow._ipython_key_completions_() == [
        *("Paint <b>", "KSampler", "CheckpointLoaderSimple", "6", "7", "SaveImage")
    ]


def test_inputs_of_nodes_are_attributes_and_items(workflow):
    node = workflow["KSampler"]
    node.steps = 8
    node["seed"] = np.int64(2**40)
    assert (node["steps"], node.seed, node.model) == (8, 2**40, ["4", 0])
    graph = workflow.to_api()
    assert graph["3"]["inputs"] == {**API["3"]["inputs"], "steps": 8, "seed": 2**40}
    assert type(graph["3"]["inputs"]["seed"]) is int
    assert {"steps", "seed", "class_type"} <= set(dir(node))
    assert "Paint <b>" in repr(node)
    assert "model ← CheckpointLoaderSimple.0" in repr(node)
    colours = {"color": 0x2B3A8F, "bg_color": 255, "colour": -1, "colors": 7, "color_": True}
    assert inputs_text(colours, {}) == (
        "color=2833039 (#2b3a8f), bg_color=255 (#0000ff), colour=-1, colors=7, color_=True"
    )


def test_wrong_names_of_inputs_change_nothing(workflow):
    node = workflow["3"]
    with pytest.raises(AttributeError, match=r"'stepz' is no input of node \"Paint.* 'steps'"):
        node.stepz = 8
    with pytest.raises(UnknownNameError, match="did you mean 'steps'"):
        node["step"] = 8
    with pytest.raises(AttributeError, match="did you mean 'steps'"):
        _ = node.step
    with pytest.raises(AttributeError, match=r"id cannot be set; .* node\['id'\]"):
        node.id = "4"
    with pytest.raises(AttributeError):
        workflow.steps = 8
    assert workflow.to_api() == API


def test_declared_inputs_can_be_added_and_lists_are_kept_apart_from_links(workflow):
    workflow["KSampler"].denoise = 0.5
    workflow.set({"3.denoise": 0.6})
    assert workflow.to_api()["3"]["inputs"]["denoise"] == 0.6
    workflow["4"].ckpt_name = ["a", 1]
    workflow["3"].model = ("4", 1)
    assert workflow["4"].ckpt_name == ["a", 1]
    assert workflow.to_api()["4"]["inputs"]["ckpt_name"] == {"__value__": ["a", 1]}
    assert workflow.to_api()["3"]["inputs"]["model"] == ["4", 1]


def test_a_loaded_graph_is_a_copy(comfy):
    given = copy.deepcopy(API)
    workflow = comfy.load(given)
    again = comfy.load(workflow)
    workflow["3"].steps = 5
    workflow.to_api()["3"]["inputs"]["steps"] = 6
    assert given == again.to_api() == API
    assert workflow["3"].steps == 5


def test_inputs_are_a_mapping_that_can_be_set(workflow):
    inputs = workflow.inputs
    assert dict(inputs) == {
        "6.text": "a\ncat",
        "7.text": "dog",
        "3.steps": 20,
        "3.seed": 1,
        "4.ckpt_name": "a.safetensors",
        "9.filename_prefix": "x",
        "3.denoise": None,
    }
    assert "required; 0.0 to 1.0" in repr(inputs)
    inputs["3.denoise"] = 1.0
    assert "required" not in repr(inputs)
    inputs["6.text"] = "<i>"
    workflow.set({"Paint <b>.steps": 7}, seed=5)
    assert (inputs["6.text"], inputs["3.steps"], inputs["3.seed"]) == ("<i>", 7, 5)
    assert "'<i>'" in repr(inputs)
    assert "1 to 100" in repr(inputs)
    assert "<i>" not in inputs._repr_html_()
    with pytest.raises(UnknownNameError, match=r"'3\.step' is no .*'Paint <b>\.steps'"):
        inputs["3.step"]
    with pytest.raises(UnknownInputError, match=r"6\.text, 7\.text"):
        workflow.set(text="which?", seed=9)
    assert inputs["3.seed"] == 5, "nothing is set when one name is wrong"


def test_inputs_are_read_and_set_by_titles_and_labels():
    def number(title):
        return {"class_type": "PrimitiveInt", "inputs": {"value": 64}, "_meta": {"title": title}}

    workflow = Workflow(NOWHERE, {**API, "1": number("Width"), "2": number("A"), "5": number("A")})
    inputs = workflow.inputs
    assert workflow.to_python(), "without a server"
    assert inputs["Width"] == inputs["Width.value"] == inputs["1.value"] == 64
    inputs["Width"] = 65
    assert workflow.to_api()["1"]["inputs"]["value"] == 65
    inputs["Positive prompt"] = "a dog"
    assert inputs["6.text"] == "a dog"
    names = inputs._ipython_key_completions_()
    assert {"Width.value", "2.value", "5.value", "Paint <b>.seed", "6.text"} <= {*names}
    assert "1.value" not in names
    assert re.search(r"^Width\.value +Width +65$", repr(inputs), re.MULTILINE)
    with pytest.raises(UnknownNameError, match=r"'A' matches several inputs: 2\.value, 5\.value"):
        inputs["A"]
    with pytest.raises(UnknownInputError, match=r"A: matches several inputs.*2\.value, 5\.value"):
        inputs["A"] = 3
    with pytest.raises(UnknownNameError, match=r"did you mean 'Width\.value'\?"):
        inputs["Widht.value"]
    with pytest.raises(UnknownInputError, match=r"did you mean Width\.value"):
        inputs["Widht"] = 3


def test_a_workflow_of_the_editor_is_converted(comfy, server):
    with pytest.warns(UserWarning, match="node 8 is muted") as caught:
        workflow = comfy.load(UI)
    assert caught[0].filename == __file__
    assert server.requests[-1].body == {"workflow": UI, "to": "api"}
    assert workflow.to_api() == API
    assert workflow.to_ui() == UI
    workflow["3"].steps = 8
    assert workflow.to_ui()["extra"] == "laid out"
    assert server.requests[-1].body == {"workflow_api": workflow.to_api(), "to": "ui"}


@pytest.mark.parametrize("name", ["image.png", "animation.webp", "video.mp4", "sound.opus"])
def test_files_that_comfyui_saved_are_loaded(comfy, name):
    by_path, by_content = comfy.load(MEDIA / name), comfy.load((MEDIA / name).read_bytes())
    assert by_path.to_api() == by_content.to_api() == prompt_of(name)
    assert by_path.to_ui() == WORKFLOW
    assert (by_path.title, by_content.title) == (Path(name).stem, "")


def test_files_without_a_workflow_are_refused(comfy, tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InvalidRequestError, match=r"workflow: .*a\.png contains no workflow"):
        comfy.load(tmp_path / "a.png")
    with pytest.raises(InvalidRequestError, match=r"workflow: .*a\.txt is not a kind of file"):
        comfy.load(str(tmp_path / "a.txt"))
    with pytest.raises(InvalidRequestError, match="workflow: is an empty object"):
        comfy.load({})


def sent(server):
    body = dict(server.requests[-1].body)
    return {key: body.get(key) for key in ("workflow_api", "workflow", "inputs")}


def test_every_source_can_be_run(comfy, server, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(API))
    for source in (API, json.dumps(API), tmp_path / "a.json", comfy.load(API)):
        comfy.submit(source)
        assert sent(server) == {"workflow_api": API, "workflow": None, "inputs": None}
    comfy.submit(UI)
    assert sent(server) == {"workflow_api": None, "workflow": UI, "inputs": None}
    comfy.submit(MEDIA / "image.png")
    assert sent(server)["workflow_api"] == prompt_of("image.png")
    assert sent(server)["workflow"] == WORKFLOW


def test_values_that_were_set_are_not_redrawn_by_seed_controls(comfy, server):
    with pytest.warns(UserWarning, match="not exact"):
        workflow = comfy.load(UI)
    workflow["3"].seed = 5
    comfy.submit(workflow, {"6.text": "a dog"})
    assert sent(server)["inputs"] == {"3.seed": 5, "6.text": "a dog"}
    assert sent(server)["workflow"] == UI
    comfy.submit(workflow, seed=6)
    assert sent(server)["inputs"] == {"3.seed": 6}
    comfy.submit(workflow, seed_mode="random")
    assert sent(server)["inputs"] is None
    workflow["3"].model = ["4", 1]
    comfy.submit(workflow)
    assert sent(server)["workflow"] is None, "the editor's graph has other links"


def test_validation_reads_well(workflow, server):
    found = workflow.validate()
    assert server.requests[-1].body == {"workflow_api": API}
    assert found.valid is found["valid"] is False
    missing = "a.safetensors is not on this ComfyUI (models/checkpoints); it is at u"
    assert found.problems == [
        "ComfyUI has no node class Foo (id 5); it is in the node pack foo-pack",
        "ComfyUI has no node class Bar (id 6); it needs ComfyUI 0.33.0 or newer",
        f"node CheckpointLoaderSimple: {missing}",
        "one doubt",
    ]
    assert repr(found).startswith("The workflow is not valid, by bundled node definitions")


def test_notebooks_scripts_and_graphs_are_written(workflow, tmp_path):
    workflow.title = "Cats"
    made = workflow.to_notebook(tmp_path / "a.ipynb")
    assert json.loads((tmp_path / "a.ipynb").read_text(encoding="utf-8")) == made
    nbformat.validate(made)
    assert made["cells"][0]["source"].startswith("# Cats\n")
    assert workflow.to_python(tmp_path / "a.py") == (tmp_path / "a.py").read_text(encoding="utf-8")
    assert "steps; 1 to 100" in workflow.to_python(), "the server's definitions are used"
    for suffix in (".json", ".ipynb", ".py"):
        path = workflow.save(tmp_path / f"b{suffix}")
        assert path.stat().st_size > 100
        assert path.stat().st_mode & 0o777 == (tmp_path / "a.py").stat().st_mode & 0o777
    assert json.loads((tmp_path / "b.json").read_text()) == API
    with pytest.raises(InvalidRequestError, match=r"must end with \.json, \.ipynb or \.py"):
        workflow.save(tmp_path / "b.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a.ipynb", "a.py", "b.ipynb", "b.json", "b.py")
    ]


def test_the_graph_reads_well(workflow):
    workflow.title = "Cats & <dogs>"
    title, *lines = repr(workflow).splitlines()
    assert title == "Workflow 'Cats & <dogs>': 5 nodes"
    sampler = "seed=1, steps=20, model ← CheckpointLoaderSimple.0, positive ← 6.0"
    assert lines[2] == f"  Paint <b>               KSampler                3  {sampler}"
    page = workflow._repr_html_()
    assert "Paint &lt;b&gt;" in page
    assert "&lt;dogs&gt;" in page
    assert "<b>" not in page.replace("<div><b>", "")


IDS = st.sampled_from("abcdefg")


@given(st.dictionaries(IDS, st.lists(IDS, max_size=4)))
def test_the_run_order_has_every_node_once_and_sources_first(links):
    graph = {
        node_id: {"class_type": "A", "inputs": {str(i): [s, 0] for i, s in enumerate(sources)}}
        for node_id, sources in links.items()
    }
    order = run_order(graph)
    assert sorted(order) == sorted(graph)
    for place, node_id in enumerate(order):
        upstream = nodes_behind(links[node_id], links)
        if node_id not in upstream:
            assert upstream & graph.keys() <= set(order[:place])


def test_a_long_chain_has_an_order():
    graph = {str(n): {"class_type": "A", "inputs": {"x": [str(n + 1), 0]}} for n in range(20_000)}
    assert run_order(graph)[:2] == ["19999", "19998"]
