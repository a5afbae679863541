"""``workflow/fetch-models``: which models of a workflow are found, downloaded and rejected."""

import asyncio
import hashlib
import random

import pytest

from tests.helpers.bodies import picture
from tests.helpers.transfer_service import running

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
CLASSES = {"ckpt_name": "CheckpointLoaderSimple", "vae_name": "VAELoader"}


def loader(node_id, chosen, *models, input_name="ckpt_name"):
    """Return a loader as the editor saves it, with the models that it lists."""
    return {
        "id": node_id,
        "type": CLASSES[input_name],
        "widgets_values": [chosen],
        "properties": {"models": list(models)},
    }


def entry(name, url, folder="checkpoints", **more):
    return {"name": name, "url": url, "directory": folder, **more}


def workflow(*nodes, **more):
    return {"last_node_id": 99, "nodes": list(nodes), "links": [], "version": 0.4, **more}


@pytest.fixture
def comfyui_folder(tmp_path):
    """The folder of a ComfyUI that does not run."""
    folder = tmp_path / "comfyui"
    for name in ("checkpoints", "vae", "loras"):
        (folder / "models" / name).mkdir(parents=True)
    (folder / "main.py").touch()
    return folder


@pytest.fixture
def extension_config(comfyui_folder, bare_service, without_comfyui):
    folder = {"comfyui_path": str(comfyui_folder)}
    return {**without_comfyui, **folder, "huggingface_url": bare_service.url}


def by_name(body):
    return {model["name"]: model for model in body["models"]}


async def fetch(api, graph, **fields):
    code, body = await api.post("workflow/fetch-models", {"workflow": graph, **fields})
    assert code == 200, body
    return body


async def test_a_dry_run_downloads_nothing_and_a_real_one_everything(
    api, bare_service, comfyui_folder
):
    content = bare_service.files["a.safetensors"] = random.randbytes(100_000)
    digest = hashlib.sha256(content).hexdigest()
    link = f"{bare_service.url}/files/a.safetensors"
    graph = workflow(
        loader(1, "a.safetensors", entry("a.safetensors", link, hash=digest, hash_type="SHA256")),
        loader(2, "here.pt", entry("here.pt", link, "vae"), input_name="vae_name"),
        loader(3, "unknown.safetensors"),
    )
    (comfyui_folder / "models/vae/here.pt").write_bytes(b"x")
    body = await fetch(api, graph, dry_run=True)
    models = by_name(body)
    assert models["a.safetensors"] == {
        "name": "a.safetensors",
        "folder": "checkpoints",
        "path": "models/checkpoints/a.safetensors",
        "url": link,
        "size": None,
        "sha256": digest,
        "pickle": False,
        "state": "missing",
        "problem": None,
        "nodes": [{"node_id": "1", "input": "ckpt_name"}],
        "transfer": None,
    }
    assert (models["here.pt"]["state"], models["here.pt"]["pickle"]) == ("present", True)
    assert models["unknown.safetensors"]["state"] == "no_link"
    assert (body["transfers"], body["offline"], body["dry_run"]) == ([], False, True)
    assert bare_service.requests == []
    assert not bare_service.sent

    body = await fetch(api, graph)
    found = by_name(body)["a.safetensors"]
    assert found["state"] == "fetching"
    assert [one["id"] for one in body["transfers"]] == [found["transfer"]]
    done = await api.transferred(found["transfer"])
    assert (done["state"], done["error"], done["direction"]) == ("done", None, "down")
    assert (comfyui_folder / "models/checkpoints/a.safetensors").read_bytes() == content
    body = await fetch(api, graph)
    assert (by_name(body)["a.safetensors"]["state"], body["transfers"]) == ("present", [])
    assert len(bare_service.sent["a.safetensors"]) == 1


async def test_the_same_model_is_fetched_once(api, bare_service, comfyui_folder):
    content = bare_service.files["a.safetensors"] = random.randbytes(300_000)
    bare_service.store_delay = 0.05
    link = f"{bare_service.url}/files/a.safetensors"
    graphs = [
        workflow(loader(node_id, "a.safetensors", entry("a.safetensors", link)))
        for node_id in (1, 2)
    ]
    bodies = await asyncio.gather(*(fetch(api, graph) for graph in graphs * 3))
    transfers = {one["id"] for body in bodies for one in body["transfers"]}
    assert len(transfers) == 1
    assert (await api.transferred(transfers.pop()))["state"] == "done"
    assert len(bare_service.sent["a.safetensors"]) == 1
    assert (comfyui_folder / "models/checkpoints/a.safetensors").read_bytes() == content


@pytest.mark.thorough
async def test_models_of_subgraphs_and_of_the_whole_workflow(api):
    inner = loader(7, "inner.safetensors", entry("inner.safetensors", "https://example.com/inner"))
    graph = workflow(
        loader(1, "outer.safetensors"),
        definitions={"subgraphs": [{"id": "s", "nodes": [inner], "links": []}]},
        models=[entry("outer.safetensors", "https://example.com/outer")],
    )
    models = by_name(await fetch(api, graph, dry_run=True))
    assert models["inner.safetensors"]["url"] == "https://example.com/inner"
    assert models["outer.safetensors"]["url"] == "https://example.com/outer"
    assert {model["state"] for model in models.values()} == {"missing"}
    node = {"id": 1, "type": "X"}
    for malformed in (
        {"nodes": [{**node, "properties": {"models": {"name": "a"}}}]},
        {"nodes": [{**node, "properties": {"models": [1, None, {"name": 3}]}}]},
        {"nodes": [{**node, "properties": []}], "models": "none"},
    ):
        assert (await fetch(api, {"links": [], "version": 0.4, **malformed}))["models"] == []


async def test_models_of_replaced_choices_are_left_out(api, bare_service):
    bare_service.files["old.safetensors"] = b"old"
    link = f"{bare_service.url}/files/old.safetensors"
    graph = workflow(loader(1, "new.safetensors", entry("old.safetensors", link)))
    body = await fetch(api, graph)
    assert by_name(body)["old.safetensors"]["state"] == "unused"
    assert body["transfers"] == []
    body = await fetch(api, graph, models=["old.safetensors"])
    (transfer,) = body["transfers"]
    assert (await api.transferred(transfer["id"]))["state"] == "done"
    request = {"workflow": graph, "models": ["none.safetensors"]}
    code, body = await api.post("workflow/fetch-models", request)
    assert (code, body["code"], body["details"]["field"]) == (400, "invalid_request", "models")
    assert body["details"]["candidates"] == ["new.safetensors", "old.safetensors"]


async def test_subfolder_that_a_loader_names_is_kept(api, bare_service, comfyui_folder):
    bare_service.files["a.safetensors"] = b"a"
    link = f"{bare_service.url}/files/a.safetensors"
    graph = workflow(loader(1, "Flux\\a.safetensors", entry("a.safetensors", link)))
    (transfer,) = (await fetch(api, graph))["transfers"]
    await api.transferred(transfer["id"])
    assert (comfyui_folder / "models/checkpoints/Flux/a.safetensors").read_bytes() == b"a"
    evil = workflow(loader(1, "../../a.safetensors", entry("a.safetensors", link)))
    body = await fetch(api, evil)
    assert [model["state"] for model in body["models"]] == ["refused"]
    assert not (comfyui_folder / "a.safetensors").exists()


async def test_entries_that_must_not_be_fetched(api):
    names = ("a/b.safetensors", "..\\b.safetensors", ".hidden.safetensors", "a.py", "a", "a.zip")
    for changes, problem in (
        ({"url": "http://127.0.0.1:1/a"}, "inside this machine"),
        ({"url": "file:///etc/passwd"}, "not an http"),
        ({"url": "ftp://example.com/a"}, "not an http"),
        ({"url": "http://[oops/a"}, "not a valid address"),
        ({"url": "https:///a"}, "not an http"),
        ({"directory": "../outside"}, "not the name of a folder"),
        ({"directory": "/etc"}, "not the name of a folder"),
        ({"directory": "checkpoints/../../x"}, "not the name of a folder"),
        ({"directory": "custom_nodes"}, "no model folder 'custom_nodes'"),
        ({"directory": "nonsense"}, "no model folder 'nonsense'"),
        ({"directory": None}, "into which folder"),
        ({"hash": "abc", "hash_type": "SHA256"}, "not a SHA-256"),
        *(({"name": name}, "") for name in names),
    ):
        listed = {**entry("a.safetensors", "https://example.com/a"), **changes}
        # Its class is unknown, so that no loader determines the folder.
        node = {**loader(1, listed["name"], listed), "type": "SomebodysLoader"}
        body = await fetch(api, workflow(node))
        (model,) = body["models"]
        assert (model["state"], body["transfers"]) == ("refused", []), changes
        assert problem in model["problem"], changes


async def test_a_redirect_from_a_mirror_to_a_private_address_is_refused(api, bare_service):
    with running() as inside:
        inside.files["secret.ckpt"] = b"secret"
        secret = f"{inside.url}/files/secret.ckpt"
        bare_service.pages["o/r/resolve/main/a.safetensors"] = (302, {"Location": secret})
        link = "https://huggingface.co/o/r/resolve/main/a.safetensors"
        graph = workflow(loader(1, "a.safetensors", entry("a.safetensors", link)))
        body = await fetch(api, graph, dry_run=True, sizes=True)
        assert "inside this machine" in body["models"][0]["problem"]
        (transfer,) = (await fetch(api, graph))["transfers"]
        done = await api.transferred(transfer["id"])
        assert (done["state"], done["attempts"]) == ("failed", 1)
        assert "inside this machine" in done["error"]
        assert not inside.sent
        # A link of the user may lead there.
        code, body = await api.post("volume/model", {"url": secret, "folder": "loras"})
        assert (code, (await api.transferred(body["id"]))["state"]) == (200, "done")


@pytest.mark.thorough
async def test_sizes_and_hashes_are_returned_when_requested(api, bare_service):
    content = bare_service.files["blob"] = random.randbytes(5000)
    digest = hashlib.sha256(content).hexdigest()
    bare_service.pages["o/r/resolve/main/a.safetensors"] = (
        302,
        {"Location": f"{bare_service.url}/files/blob", "X-Linked-ETag": f'"{digest}"'},
    )
    bare_service.pages["o/gated/resolve/main/b.safetensors"] = 401
    at = "https://huggingface.co/o"
    graph = workflow(
        loader(1, "a.safetensors", entry("a.safetensors", f"{at}/r/blob/main/a.safetensors")),
        loader(2, "b.safetensors", entry("b.safetensors", f"{at}/gated/blob/main/b.safetensors")),
    )
    models = by_name(await fetch(api, graph, dry_run=True, sizes=True))
    assert models["a.safetensors"]["problem"] is None
    assert (models["a.safetensors"]["size"], models["a.safetensors"]["sha256"]) == (5000, digest)
    assert "HF_TOKEN" in models["b.safetensors"]["problem"]
    assert models["b.safetensors"]["state"] == "missing"


async def test_stored_workflow(api, bare_service):
    link = f"{bare_service.url}/files/a.safetensors"
    graph = workflow(loader(1, "a.safetensors", entry("a.safetensors", link)))
    _, saved = await api.post("workflow", {"name": "Kept", "workflow": graph})
    stored = {"workflow_id": saved["workflow_id"]}
    code, body = await api.post("workflow/fetch-models", {**stored, "dry_run": True})
    assert (code, body["models"][0]["state"]) == (200, "missing")
    for request, expected in (
        ({"workflow_id": "none"}, (404, "workflow_id")),
        ({**stored, "workflow": graph}, (400, "workflow_id")),
        ({}, (400, "workflow")),
    ):
        assert await api.refusal("workflow/fetch-models", request) == expected


class TestOffline:
    """With the setting ``offline`` nothing is downloaded."""

    @pytest.fixture
    def extension_config(self, extension_config):
        return {**extension_config, "offline": True, "cloudflared_download": True}

    async def test_models(self, api, bare_service):
        link = f"{bare_service.url}/files/a.safetensors"
        graph = workflow(loader(1, "a.safetensors", entry("a.safetensors", link)))
        body = await fetch(api, graph, dry_run=True, sizes=True)
        assert (body["offline"], body["models"][0]["state"]) == (True, "missing")
        assert "offline" in body["warnings"][0]
        model = {"folder": "vae", "filename": "a"}
        civitai = "https://civitai.com/models/1"
        for route, request in (
            ("workflow/fetch-models", {"workflow": graph}),
            ("volume/model", {**model, "url": link}),
            ("volume/model", {**model, "source": "huggingface", "url": "o/r"}),
            ("volume/model", {**model, "source": "civitai", "url": civitai}),
        ):
            code, body = await api.post(route, request)
            assert (code, body["code"], body["details"]) == (403, "offline", {"setting": "offline"})
            assert "COMFYDEPLOY_OFFLINE" in body["hint"]
        assert not bare_service.sent
        assert bare_service.requests == []

    async def test_local_files_may_be_copied(self, api, jp_root_dir):
        (jp_root_dir / "a.safetensors").write_bytes(b"a")
        body = {"source": "local", "path": "a.safetensors", "folder": "loras"}
        code, answer = await api.post("volume/model", body)
        assert code == 200
        assert (await api.transferred(answer["id"]))["state"] == "done"

    async def test_cloudflared(self, api, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        code, body = await api.post("tunnel/start", {"target": "jupyter"})
        assert (code, body["code"]) == (403, "offline")


class TestOfflineRuns:
    """Runs where the setting ``offline`` is set."""

    @pytest.fixture
    def extension_config(self, comfyui, tmp_path):
        return {"comfyui_url": comfyui.url, "offline": True, "data_dir": str(tmp_path / "data")}

    async def test_input_files_are_not_fetched(self, api, bare_service):
        inputs = {"input_id": "photo", "default_value": ""}
        graph = {**picture(), "1": {"class_type": "ComfyUIDeployExternalImage", "inputs": inputs}}
        body = {"workflow_api": graph, "inputs": {"photo": f"{bare_service.url}/files/a.png"}}
        code, answer = await api.post("run", body)
        assert (code, answer["code"]) == (403, "offline")
        assert "inputs.photo" in answer["error"]
        assert (await api.get("runs"))[1] == []
        body["inputs"]["photo"] = PIXEL
        code, answer = await api.post("run", body)
        assert (code, answer["status"]) == (200, "success"), answer
