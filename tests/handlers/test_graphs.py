"""The routes that convert and validate workflows."""

import asyncio
import copy
import json
import os

import nbformat
import pytest
import requests

from comfydeploy_jupyter.handlers.workflows import FormField
from tests.helpers.bodies import form

GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 255},
        "_meta": {"title": "Red"},
    },
    "2": {
        "class_type": "ImageScale",
        "inputs": {
            "image": ["1", 0],
            "upscale_method": "bilinear",
            "width": 8,
            "height": 8,
            "crop": "disabled",
        },
    },
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}


def essence(graph):
    return {key: (node["class_type"], node["inputs"]) for key, node in graph.items()}


@pytest.fixture
def connected(api, jp_asyncio_loop):
    """The server knows the definitions of ComfyUI."""
    jp_asyncio_loop.run_until_complete(api.get("object_info"))


needs_definitions = pytest.mark.usefixtures("connected")


def saved(class_type):
    """Return a graph of one node as the editor saves it."""
    node = {"id": 5, "type": class_type, "widgets_values": [7], "inputs": [], "mode": 0}
    return {"nodes": [node], "links": [], "version": 0.4}


@needs_definitions
async def test_a_graph_converted_to_ui_and_back_is_the_same(api):
    code, body = await api.post("workflow/convert", {"workflow_api": GRAPH})
    assert code == 200, body
    assert (body["success"], body["from"], body["to"]) == (True, "api", "ui")
    ui = body["workflow"]
    assert len(ui["nodes"]) == 3
    code, back = await api.post("workflow/convert", {"workflow": ui})
    assert (code, back["from"], back["to"], back["warnings"]) == (200, "ui", "api", [])
    assert essence(back["workflow_api"]) == essence(GRAPH)
    for graph in ({"workflow_api": GRAPH}, {"workflow": ui}):
        code, body = await api.post("workflow/convert", {**graph, "to": "notebook"})
        assert code == 200
        nbformat.validate(nbformat.from_dict(body["notebook"]))
        code, body = await api.post("workflow/convert", {**graph, "to": "python"})
        assert code == 200
        compile(body["python"], "script", "exec")
        assert "comfydeploy_jupyter.connect" in body["python"]


async def test_definitions_of_the_request_are_used(api):
    mine = {"input": {"required": {"x": ["INT", {}]}}, "output": [], "output_node": True}
    body = {"workflow": saved("Mine"), "object_info": {"Mine": mine}}
    code, body = await api.post("workflow/convert", body)
    assert code == 200, body
    assert essence(body["workflow_api"]) == {"5": ("Mine", {"x": 7})}
    code, body = await api.post("workflow/convert", {"workflow": saved("NoSuchNode")})
    assert (code, body["workflow_api"]["5"]["class_type"]) == (200, "NoSuchNode")
    assert "NoSuchNode" in body["warnings"][0]
    for body, field in (
        ({}, "workflow"),
        ({"workflow": 3}, "workflow"),
        ({"workflow": {}}, "workflow"),
        ({"workflow_api": {"1": []}}, "workflow_api"),
        ({"workflow_api": GRAPH, "to": "xml"}, "to"),
        ({"workflow_api": GRAPH, "object_info": []}, "object_info"),
    ):
        code, answer = await api.post("workflow/convert", body)
        assert (code, answer["code"]) == (400, "invalid_request"), body
        assert answer["details"]["field"] == field, body


SAVING = {**GRAPH, "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}


@pytest.mark.usefixtures("connected")
class TestFilesOfComfyUI:
    """Files that ComfyUI wrote, by name: from the disk and through its API."""

    @pytest.fixture
    def extension_config(self, disk_or_comfyui):
        return disk_or_comfyui

    async def test_workflow_of_an_output(self, api, comfyui):
        inputs = {**SAVING["3"]["inputs"], "filename_prefix": "by_name/carrier"}
        graph = {**SAVING, "3": {"class_type": "SaveImage", "inputs": inputs}}
        _, run = await api.post("run", {"workflow_api": graph})
        (image,) = run["outputs"]["3"]["images"]
        code, answer = await api.post("workflow/convert", {**image, "to": "api"})
        assert (code, answer["from"]) == (200, "api"), answer
        assert essence(answer["workflow_api"]) == essence(graph)
        (comfyui.output_dir / "text.txt").write_text("no workflow")
        for body, expected in (
            ({**image, "subfolder": "none"}, (404, "filename")),
            ({**image, "workflow_api": graph}, (400, "filename")),
            ({**image, "type": "models"}, (400, "type")),
            ({"filename": "text.txt"}, (400, "filename")),
        ):
            assert await api.refusal("workflow/convert", body) == expected
        for name in ("../../etc/passwd", "output/../../x", "/etc/passwd"):
            code, answer = await api.post("workflow/convert", {"filename": name})
            assert code in (403, 404), answer

        path = comfyui.output_dir / image["subfolder"] / image["filename"]
        body, headers = form(("to", None, b"ui"), ("file", "a.png", path.read_bytes()))
        code, answer = await api.post("workflow/convert", body, headers=headers)
        assert (code, answer["from"], answer["to"]) == (200, "api", "ui")
        assert len(answer["workflow"]["nodes"]) == 3
        body, headers = form(("file", "a.png", b"no picture"))
        refused = await api.refusal("workflow/convert", body, headers=headers)
        assert refused == (400, "file")

    async def test_file_below_jupyters_root(self, api, jp_root_dir, comfyui):
        (jp_root_dir / "mine.json").write_text(json.dumps(GRAPH))
        code, answer = await api.post("workflow/convert", {"filename": "mine.json"})
        assert (code, answer["from"], answer["to"]) == (200, "api", "ui"), answer
        (comfyui.output_dir / "theirs.json").write_text(json.dumps({"1": GRAPH["1"]}))
        (jp_root_dir / "theirs.json").write_text(json.dumps(GRAPH))
        for name in ("theirs.json", "output/theirs.json"):  # what ComfyUI wrote comes first
            _, answer = await api.post("workflow/convert", {"filename": name, "to": "api"})
            assert len(answer["workflow_api"]) == 1


def broken(**changes):
    graph = copy.deepcopy(GRAPH)
    for place, value in changes.items():
        node, name = place.split("_", 1)
        graph[node[1:]]["inputs"][name] = value
    return graph


@pytest.mark.thorough
@needs_definitions
async def test_validation_equals_that_of_comfyui(api, comfyui):
    for graph in (
        GRAPH,
        broken(n2_crop="sideways"),
        {"1": {"class_type": "NoSuchNode", "inputs": {}}},
        {"1": {"class_type": "LoadImage", "inputs": {"image": "not-there.png"}}},
    ):
        code, validated = await api.post("workflow/validate", {"workflow_api": graph})
        assert (code, validated["definitions"]["source"]) == (200, "live")
        response = await asyncio.to_thread(
            requests.post, f"{comfyui.url}/prompt", json={"prompt": graph}, timeout=20
        )
        answer = response.json()
        assert validated["valid"] is (response.status_code == 200), graph
        assert validated["error"] == answer.get("error")
        assert validated["node_errors"] == answer["node_errors"]


@needs_definitions
async def test_missing_nodes_and_models_are_named(api):
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "none.safetensors"}},
        "2": {"class_type": "NoSuchNode", "inputs": {"model": ["1", 0]}},
    }
    code, body = await api.post("workflow/validate", {"workflow_api": graph})
    assert (code, body["valid"]) == (200, False)
    assert body["missing_nodes"][0]["class_type"] == "NoSuchNode"
    (model,) = body["missing_models"]
    assert (model["name"], model["folder"]) == ("none.safetensors", "checkpoints")


@pytest.mark.thorough
@needs_definitions
async def test_a_graph_is_validated_the_same_in_either_field_and_format(api):
    graph = broken(n1_width="wide")
    _, converted = await api.post("workflow/convert", {"workflow_api": graph})
    code, body = await api.post("workflow/validate", {"workflow": converted["workflow"]})
    assert (code, body["valid"]) == (200, False)
    assert body["node_errors"]["1"]["errors"][0]["type"] == "invalid_input_type"
    _, validated = await api.post("workflow/validate", {"workflow": graph})
    _, expected = await api.post("workflow/validate", {"workflow_api": graph})
    assert validated == expected
    assert await api.refusal("workflow/validate", {"workflow": {"foo": 1}}) == (400, "workflow")


class TestComfyUIDown:
    """Workflows are validated with the definitions that are known."""

    @pytest.fixture
    def extension_config(self, tmp_path):
        return {"comfyui_url": "http://127.0.0.1:9", "data_dir": str(tmp_path / "data")}

    async def test_definitions_of_core_nodes_are_bundled(self, api):
        code, body = await api.post("workflow/validate", {"workflow_api": GRAPH})
        assert (code, body["valid"]) == (200, True)
        assert body["definitions"]["source"] == "bundled"
        assert body["definitions"]["comfyui_version"]
        code, body = await api.post("workflow/convert", {"workflow_api": GRAPH})
        assert code == 200


@needs_definitions
async def test_the_last_definitions_are_used_while_comfyui_is_down(api, extension):
    await extension.services.machines.get().close()
    graph = {"1": {"class_type": "TestText", "inputs": {"text": "x"}}}
    code, body = await api.post("workflow/validate", {"workflow_api": graph})
    assert (code, body["valid"], body["definitions"]["source"]) == (200, True, "cached")
    code, body = await api.post("workflow/form", {"workflow_api": graph})
    assert (code, body["defined"], body["definitions"]["source"]) == (200, False, "cached")
    assert body["values"] == {"1.text": "x"}


@needs_definitions
async def test_the_contract_of_a_workflow(api):
    code, stored = await api.post("workflow", {"name": "Contract", "workflow_api": GRAPH})
    assert code == 200, stored
    code, kept = await api.get("workflow/schema", workflow_id=stored["workflow_id"])
    assert code == 200, kept
    width = kept["inputs"]["properties"]["1.width"]
    assert (width["type"], width["default"], width["minimum"]) == ("integer", 32, 1)
    assert kept["outputs"]["properties"]["3"]["x-media"] == "image"
    assert (kept["inputs"]["required"], kept["definitions"]["source"]) == ([], "live")
    for fields in (
        {"workflow_api": GRAPH},
        {"workflow_id": stored["workflow_id"], "version": 1},
    ):
        assert await api.post("workflow/schema", fields) == (200, kept)
    code, ui = await api.post("workflow/convert", {"workflow_api": GRAPH})
    code, same = await api.post("workflow/schema", {"workflow": ui["workflow"]})
    assert same["inputs"]["properties"].keys() == kept["inputs"]["properties"].keys()
    body, headers = form(("file", "graph.json", json.dumps(GRAPH).encode()))
    assert await api.post("workflow/schema", body, headers=headers) == (200, kept)
    assert (await api.get("workflow/schema"))[0] == 400
    assert (await api.get("workflow/schema", workflow_id="none"))[0] == 404
    for body, field in (
        ({}, "workflow"),
        ({"workflow_id": "x", "workflow_api": GRAPH}, "workflow_id"),
        ({"workflow_api": {"1": 5}}, "workflow_api"),
    ):
        assert await api.refusal("workflow/schema", body) == (400, field)


@needs_definitions
async def test_the_form_of_a_workflow(api):
    code, stored = await api.post("workflow", {"name": "Formed", "workflow_api": GRAPH})
    assert code == 200, stored
    body = {"workflow_id": stored["workflow_id"], "fresh": True}
    code, made = await api.post("workflow/form", body)
    assert code == 200, made
    assert (made["title"], made["defined"], made["notes"]) == ("Formed", True, [])
    rows = {row["key"]: row for row in made["rows"]}
    assert (rows["1.width"]["kind"], rows["1.width"]["names"][-1]) == ("int", "Red.width")
    assert rows["1.height"]["width"] == "1.width"
    assert "area" in made["choices"][rows["2.upscale_method"]["choices"]]
    code, same = await api.post("workflow/form", {"workflow_api": GRAPH})
    assert (code, same) == (200, {**made, "title": ""})
    body, headers = form(("file", "portrait.json", json.dumps(GRAPH).encode()))
    assert await api.post("workflow/form", body, headers=headers) == (
        200,
        {**made, "title": "portrait"},
    )
    code, brief = await api.post("workflow/form", {"workflow_api": GRAPH, "brief": True})
    whole = []
    for row in map(dict, brief["rows"]):
        facts = {n: f.default for n, f in FormField.model_fields.items() if not f.is_required()}
        number, alike = row.pop("section", None), brief["alike"][row.pop("alike")]
        key = row.get("key", f"{row['node']}.{alike['input']}")
        label = row.get("label") or "".join(row["parts"])
        own = {"key": key, "keys": [key], "label": label, "parts": ["", label, ""]}
        own |= {"original": brief["values"][key], "names": rows[key]["names"]}
        if number is not None:
            own["section"] = {**rows[key]["section"], "title": brief["sections"][number]}
        whole.append({**facts, **own, **alike, **row})
    lists = {name: brief[name] for name in ("alike", "sections")}
    assert (code, {**brief, "rows": whole}) == (200, {**same, **lists})
    assert len(json.dumps(brief)) < len(json.dumps(made)) * 0.5
    asked = {"workflow_api": GRAPH, "to": "api", "text": True, "form": True}
    code, opened = await api.post("workflow/convert", asked)
    assert (code, opened["form"]) == (200, brief)
    assert (json.loads(opened["workflow_api"]), opened["workflow_api"].count("\n")) == (GRAPH, 1)
    assert await api.refusal("workflow/convert", {**asked, "inputs": {}}) == (400, "form")
    code, ui = await api.post("workflow/convert", {"workflow_api": GRAPH})
    drawn = {"workflow": ui["workflow"], "to": "api", "form": True}
    assert (await api.post("workflow/convert", drawn))[1]["form"]["rows"] == brief["rows"]
    ui["workflow"]["nodes"][0]["widgets_values"] = ["wide", 16, 1, 255]
    inputs = {"Red.height": "0", "3.images": ["2", 0], "nowhere": 1}
    code, given = await api.post("workflow/form", {"workflow": ui["workflow"], "inputs": inputs})
    assert code == 200, given
    problems = {"1.width": "must be an integer", "1.height": "must be at least 1"}
    assert (given["problems"], given["values"]["1.height"]) == (problems, "0")
    assert (given["others"], list(given["unknown"])) == (
        {"3.images": "['2', 0]"},
        ["nowhere"],
    )
    assert [note["about"] for note in given["notes"]] == ["types"]
    for body, field in (
        ({}, "workflow"),
        ({"workflow_id": "x", "workflow_api": GRAPH}, "workflow_id"),
        ({"workflow_api": {"1": 5}}, "workflow_api"),
        ({"workflow_api": GRAPH, "inputs": [1]}, "inputs"),
        ({"workflow_api": GRAPH, "inputs": "1.width"}, "inputs"),
        ({"workflow_api": GRAPH, "fresh": 1}, "fresh"),
        ({"workflow_api": GRAPH, "brief": 1}, "brief"),
    ):
        assert await api.refusal("workflow/form", body) == (400, field)


@needs_definitions
async def test_a_run_keeps_the_contract(api):
    inputs = {"1.width": 0, "Red.height": "tall"}
    code, body = await api.post("run", {"workflow_api": GRAPH, "inputs": inputs})
    assert (code, body["code"]) == (400, "invalid_input")
    invalid = {
        "1.width": "must be at least 1, not 0",
        "Red.height": 'must be an integer, not "tall"',
    }
    assert body["details"] == {"field": "inputs.1.width", "invalid": invalid}
    assert (await api.get("runs"))[1] == []


LARGE_SEED = 2**64 - 1


async def test_a_missing_node_class_is_told_once(api):
    """Its box says it, with what can be done; no note about the conversion repeats that."""
    nodes = [{"id": 1, "type": "NobodyHasThis", "inputs": [], "outputs": [], "widgets_values": [3]}]
    workflow = {"nodes": nodes, "links": [], "version": 0.4}
    _, form = await api.post("workflow/form", {"workflow": workflow})
    assert "NobodyHasThis" not in str(form["notes"])
    _, found = await api.post("workflow/fetch-models", {"workflow": workflow, "dry_run": True})
    assert [node["class_type"] for node in found["missing_nodes"]] == ["NobodyHasThis"]
    assert found["warnings"] == []


async def test_a_graph_as_text_keeps_large_integers_and_values_are_set(api):
    graph = {"1": {**GRAPH["1"], "inputs": {**GRAPH["1"]["inputs"], "color": LARGE_SEED}}}
    text = json.dumps({**GRAPH, **graph})
    body = {"workflow_api": text, "to": "api", "text": True}
    code, converted = await api.post("workflow/convert", body)
    assert code == 200, converted
    assert json.loads(converted["workflow_api"]) == json.loads(text)
    code, set_ = await api.post("workflow/convert", {**body, "inputs": {"1.width": 96}})
    assert json.loads(set_["workflow_api"])["1"]["inputs"]["width"] == 96
    assert json.loads(set_["workflow_api"])["1"]["inputs"]["color"] == LARGE_SEED
    code, refused = await api.post("workflow/convert", {**body, "inputs": {"none": 1}})
    assert (code, refused["code"]) == (400, "unknown_input")
    ui = (await api.post("workflow/convert", {"workflow_api": GRAPH}))[1]["workflow"]
    body = {"workflow": ui, "to": "api", "text": True}
    _, converted = await api.post("workflow/convert", body)
    assert json.loads(converted["workflow"]) == ui
    assert json.loads(converted["workflow_api"])["1"]["class_type"] == "EmptyImage"
    fields = (("to", None, b"api"), ("text", None, b"true"))
    sent, headers = form(*fields, ("file", "mine.json", text.encode()))
    code, converted = await api.post("workflow/convert", sent, headers=headers)
    assert (code, converted["title"]) == (200, "mine"), converted
    assert json.loads(converted["workflow_api"]) == json.loads(text)
    for bad in ("{ no json", "[]"):
        code, refused = await api.post("workflow/convert", {"workflow_api": bad, "to": "api"})
        assert (code, refused["details"]["field"]) == (400, "workflow_api")


async def test_the_outline_has_the_nodes_in_words_and_a_picture(api):
    code, found = await api.post("workflow/outline", {"workflow_api": GRAPH})
    assert code == 200, found
    assert [node["id"] for node in found["nodes"]] == list(GRAPH)
    assert "width=" in found["nodes"][0]["inputs"]
    assert len(found["picture"]["graph"]["nodes"]) == len(GRAPH)
    _, saved = await api.post("workflow", {"workflow_api": GRAPH, "name": "outlined"})
    named = {"workflow_id": saved["id"]}
    _, stored = await api.post("workflow/outline", named)
    assert (stored["title"], stored["nodes"]) == ("outlined", found["nodes"])
    code, runs = await api.get("runs", like=saved["id"])
    assert (code, runs) == (200, [])
    code, valid = await api.post("workflow/validate", named)
    assert (code, valid["valid"], valid["by_node"]) == (200, True, {})


async def test_workflow_files_in_a_folder_are_listed_and_opened(api, extension, tmp_path):
    await api.get("check-status")
    root = extension.root_dir
    folder = root / f"files {tmp_path.name}"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "mine.json").write_text(json.dumps(GRAPH))
    (folder / "other.json").write_text('{"a": 1}')
    os.mkfifo(folder / "pipe.json")
    for given in (str(folder), folder.name):
        code, (found,) = await api.get("workflow/files", folder=given)
        assert (code, found["title"]) == (200, "deep/mine.json")
    body = {"filename": found["filename"], "type": "file", "to": "api"}
    code, opened = await api.post("workflow/convert", body)
    assert (code, opened["title"], opened["workflow_api"]) == (200, "mine", GRAPH)
    for name in ("/etc", "../..", "/etc/passwd"):
        assert (await api.get("workflow/files", folder=name))[0] in (403, 404)
    code, _ = await api.post("workflow/convert", {"filename": "/etc/passwd", "type": "file"})
    assert code == 403


async def test_templates_and_examples_are_listed_and_opened(api):
    code, found = await api.get("workflow/templates")
    assert code == 200, found
    for kind in ("example", "template"):
        each = next(entry for entry in found if entry["type"] == kind)
        body = {"filename": each["filename"], "type": kind, "to": "api", "text": True}
        code, opened = await api.post("workflow/convert", body)
        assert code == 200, opened
        assert json.loads(opened["workflow_api"])
    for name in ("templates/../../etc/passwd", "templates/none.json", "object_info", "api/x"):
        code, _ = await api.post("workflow/convert", {"filename": name, "type": "template"})
        assert code in (400, 404)
    for name in ("../comfy.settings.json", "x/../../a.json", "a.txt"):
        code, _ = await api.post("workflow/convert", {"filename": name, "type": "editor"})
        assert code == 400


async def test_the_inputs_in_front_are_chosen_in_the_editors_format(api, extension, tmp_path):
    ui = (await api.post("workflow/convert", {"workflow_api": GRAPH}))[1]["workflow"]
    front = [{"key": "1.height", "label": "How high"}, {"key": "1.width"}]
    body = {"workflow": ui, "workflow_api": GRAPH, "to": "ui", "front": front}
    code, made = await api.post("workflow/convert", body)
    assert code == 200, made
    entries = [[1, "height"], [1, "width"]]
    assert made["workflow"]["extra"]["linearData"]["inputs"] == entries
    assert "workflow_api" not in made
    _, as_text = await api.post("workflow/convert", {**body, "text": True})
    assert json.loads(as_text["workflow"]) == made["workflow"]
    assert json.loads(as_text["workflow_api"]) == GRAPH
    code, form = await api.post("workflow/form", {"workflow": made["workflow"]})
    assert [row["label"] for row in form["rows"] if not row["more"]] == ["How high", "Red: width"]
    # a stored graph in API format is laid out
    _, stored = await api.post("workflow", {"name": "Chosen", "workflow_api": GRAPH})
    named = {"workflow_id": stored["workflow_id"], "to": "ui", "front": front}
    code, made = await api.post("workflow/convert", named)
    assert (code, made["title"]) == (200, "Chosen")
    assert made["workflow"]["extra"]["linearData"]["inputs"] == entries
    # a file is changed as it is now
    path = extension.root_dir / f"chosen {tmp_path.name}.json"
    path.write_text(json.dumps({**ui, "extra": {"mine": LARGE_SEED}}))
    file = {"filename": str(path), "type": "file", "path": str(path), "replace": True}
    code, written = await api.post("workflow/export", {**file, "to": "ui", "front": front})
    assert code == 200, written
    extra = json.loads(path.read_text())["extra"]
    assert (extra["mine"], extra["linearData"]["inputs"]) == (LARGE_SEED, entries)
    for wrong, field in (
        ({**body, "to": "api"}, "front"),
        ({**body, "front": [{"key": "9.nothing"}]}, "front"),
        ({**body, "front": [{"label": "x"}]}, "front"),
        ({**body, "front": "1.width"}, "front"),
    ):
        assert await api.refusal("workflow/convert", wrong) == (400, field)


async def test_two_versions_are_compared_in_words(api):
    _, saved = await api.post("workflow", {"workflow_api": GRAPH, "name": "compared"})
    changed = json.loads(json.dumps(GRAPH))
    changed["1"]["inputs"]["width"] += 8
    await api.post("workflow", {"workflow_api": changed, "workflow_id": saved["id"]})
    code, found = await api.get("workflow/diff", workflow_id=saved["id"], old=1, new="latest")
    assert (code, [each["kind"] for each in found["changes"]]) == (200, ["changed"])
    assert "width" in found["text"]
    _, same = await api.get("workflow/diff", workflow_id=saved["id"], old=2, new=2)
    assert (same["changes"], same["text"]) == ([], "no differences")


async def test_a_workflow_is_written_below_jupyters_root(api, extension, tmp_path):
    await api.get("check-status")
    root = extension.root_dir
    name = f"written {tmp_path.name}.json"
    body = {"workflow_api": GRAPH, "inputs": {"1.width": "96", "1.height": "x"}, "path": name}
    code, written = await api.post("workflow/export", body)
    assert (code, written["path"]) == (200, str(root / name))
    assert json.loads((root / name).read_text())["1"]["inputs"]["width"] == 96
    assert "height" in written["warnings"][0]
    code, refused = await api.post("workflow/export", {**body, "to": "ui"})
    assert (code, refused["details"]["field"]) == (409, "path")
    code, _ = await api.post("workflow/export", {**body, "to": "python", "replace": True})
    assert code == 200
    assert "import comfydeploy_jupyter" in (root / name).read_text()
    assert [path.name for path in root.glob("*.part")] == []
    for path in ("/etc/x.json", "../x.json", "x.txt", "none/x.json"):
        code, refused = await api.post("workflow/export", {**body, "path": path})
        assert code in (400, 403, 404), path
