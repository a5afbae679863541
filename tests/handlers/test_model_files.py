"""The routes that delete and move models, and what uses these."""

import hashlib
import uuid

import pytest
import requests

from tests.helpers.bodies import picture
from tests.helpers.comfyui import free_port
from tests.helpers.comfyui_proxies import aborted, hanging
from tests.helpers.waiting import until_async


@pytest.fixture
def extension_config(comfyui, without_comfyui):
    (comfyui.base_dir / "main.py").touch()
    place = {"comfyui_url": comfyui.url, "comfyui_path": str(comfyui.base_dir)}
    return {**without_comfyui, **place}


@pytest.fixture
def loras(comfyui):
    folder = comfyui.models_dir / "loras"
    (folder / "style").mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def model(loras):
    """The name of a model in ``loras``."""
    name = f"style/{uuid.uuid4().hex}.safetensors"
    (loras / name).write_bytes(uuid.uuid4().bytes)
    return name


def graph(text):
    """Return a graph with a text that a run saves without using it."""
    return {**picture(), "3": {"class_type": "TestText", "inputs": {"text": text}}}


@pytest.fixture
def naming(chain):
    """Return a function that makes a graph which takes long, with the name of a model."""

    def make(model):
        names = {"class_type": "TestText", "inputs": {"text": model}}
        return {**chain(("TestSleep", {"seconds": 600})), "names": names}

    return make


def request(action, name, **fields):
    return {"action": action, "folder": "loras", "filename": name, **fields}


def post_to_comfyui(comfyui, path, body):
    """Send a request to ComfyUI itself."""
    return requests.post(f"{comfyui.url}/{path}", json=body, timeout=30)


async def uses_of(api, name, folder="loras", machine="local"):
    query = {"folder": folder, "filename": name, "machine": machine}
    status, found = await api.get("models/uses", **query)
    assert status == 200, found
    return found


async def refused(api, name, fields=None):
    """Check that a model can be neither deleted nor moved; return its uses."""
    for action in ("delete", "move"):
        body = request(action, name, to_filename="a.safetensors", **(fields or {}))
        status, answer = await api.post("volume/model", body)
        assert (status, answer["code"]) == (409, "conflict"), answer
        assert answer["details"]["field"] == "filename"
    return {**answer["details"]["uses"], "error": answer["error"]}


async def test_uses_are_reported_and_no_model_in_use_is_deleted(api, loras, naming, model):
    path = loras / model
    found = await uses_of(api, model)
    assert found["path"] == str(path.resolve())
    assert (found["in_use"], found["workflows"], found["run_count"]) == (False, [], 0)

    # A workflow of Windows has other separators; another name ends in the same way.
    windows = model.replace("/", "\\")
    for name, text in (("has it", windows), ("has another", f"not-{model}")):
        status, answer = await api.post("workflow", {"name": name, "workflow_api": graph(text)})
        assert status == 200, answer
    ended = await api.run(graph(model))
    running = await api.start(naming(model))
    found = await uses_of(api, model)
    assert [(use["name"], use["versions"]) for use in found["workflows"]] == [("has it", [1])]
    assert (found["in_use"], found["unfinished"], found["run_count"]) == (True, 1, 2)
    ids = [running, ended["prompt_id"]]
    assert [run["prompt_id"] for run in found["runs"]] == ids
    uses = await refused(api, model)
    assert uses["unfinished"] == 1
    assert "1 run uses" in uses["error"]
    assert path.exists()
    status, answer = await api.post("volume/model", request("delete", model, in_use=True))
    assert (status, answer["success"], path.exists()) == (200, True, False)
    await api.post("interrupt", {"prompt_id": running})


async def test_models_in_prompts_of_other_clients_are_in_use(api, comfyui, naming, model):
    answer = post_to_comfyui(comfyui, "prompt", {"prompt": naming(model)}).json()
    try:
        found = await uses_of(api, model)
        assert (found["in_use"], found["queued"], found["unfinished"]) == (True, True, 0)
        assert "1 prompt in ComfyUI's queue uses" in (await refused(api, model))["error"]
    finally:
        post_to_comfyui(comfyui, "queue", {"delete": [answer["prompt_id"]]})
        post_to_comfyui(comfyui, "interrupt", {})


@pytest.fixture
def add_machine(api, tmp_path):
    """Return a function that adds a machine whose ``loras`` are in a folder."""

    async def add(machine, loras, url=None):
        tree = tmp_path / machine
        (tree / "comfy").mkdir(parents=True)
        (tree / "models").mkdir()
        (tree / "main.py").touch()
        (tree / "models" / "loras").symlink_to(loras)
        url = url or f"http://127.0.0.1:{free_port()}"
        body = {"name": machine, "comfyui_url": url, "comfyui_path": str(tree)}
        status, answer = await api.post("machine/create", body)
        assert status == 200, answer

    return add


async def test_models_that_another_machine_with_the_folder_uses_are_in_use(
    api, loras, naming, model, add_machine, tmp_path
):
    path = loras / model
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / path.name).write_bytes(b"another file with the same name")
    await add_machine("sharing", path.parent)
    await add_machine("apart", tmp_path / "own")
    running = await api.start(naming(model))
    try:
        found = await until_async(
            lambda: uses_of(api, path.name, machine="sharing"), lambda found: found["queued"]
        )
        assert (found["path"], found["name"]) == (str(path.resolve()), path.name)
        assert [run["prompt_id"] for run in found["runs"]] == [running]
        assert (found["in_use"], found["unfinished"]) == (True, 1)
        await refused(api, path.name, {"machine": "sharing"})
        assert path.exists()
        found = await uses_of(api, path.name, machine="apart")
        assert (found["in_use"], found["run_count"], found["queued"]) == (False, 0, False)
    finally:
        await api.post("interrupt", {"prompt_id": running})


@pytest.mark.thorough
async def test_uses_of_a_comfyui_that_does_not_answer_are_not_known(
    api, loras, extension, faulty, model, add_machine
):
    path = loras / model
    await add_machine("silent", path.parent, faulty.url)
    machine = extension.services.machines.get("silent")
    await until_async(lambda: machine.connected)
    assert (await uses_of(api, model))["queued"] is False
    faulty.fail("GET", "/queue", aborted)
    found = await uses_of(api, model)
    assert (found["queued"], found["in_use"]) == (None, False)
    uses = await refused(api, model)
    assert (uses["queued"], path.exists()) == (None, True)
    assert "the ComfyUI of 'silent' does not answer" in uses["error"]
    faulty.fail("GET", "/prompt", hanging)
    faulty.drop_sockets()
    await until_async(lambda: machine.hangs and not machine.connected)
    assert (await uses_of(api, model))["queued"] is None
    status, answer = await api.post("volume/model", request("delete", model, in_use=True))
    assert (status, path.exists()) == (200, False), answer


async def test_embeddings_are_found_in_prompts(api, comfyui):
    name = f"neg-{uuid.uuid4().hex}.pt"
    folder = comfyui.models_dir / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    stem = name.removesuffix(".pt")
    for text, number in (
        (f"ugly, (embedding:{stem}:1.2), dark", 1),
        (f"embedding:{name}", 1),
        (f"embedding:{stem}-2", 0),
        (stem, 0),
    ):
        workflow = {"name": f"of {uuid.uuid4().hex}", "workflow_api": graph(text)}
        before = len((await uses_of(api, name, "embeddings"))["workflows"])
        await api.post("workflow", workflow)
        after = len((await uses_of(api, name, "embeddings"))["workflows"])
        assert after - before == number, text


async def test_moved_models_keep_their_hashes(api, comfyui, loras, model):
    path, target = loras / model, comfyui.models_dir / "checkpoints" / "new" / "b.safetensors"
    content = path.read_bytes()
    _, before = await api.get("get-file-hash", filename=f"loras/{model}")
    assert before["cached"] is False
    body = request("move", model, to_folder="checkpoints/new", to_filename="b.safetensors")
    status, answer = await api.post("volume/model", body)
    assert (status, answer["path"]) == (200, str(target.resolve()))
    assert (target.read_bytes(), path.exists()) == (content, False)
    _, after = await api.get("get-file-hash", filename="checkpoints/new/b.safetensors")
    assert (after["cached"], after["file_hash"]) == (True, hashlib.sha256(content).hexdigest())
    path.write_bytes(b"another one")
    body = request("move", model, to_folder="checkpoints", to_filename="new/b.safetensors")
    assert await api.refusal("volume/model", body) == (409, "to_filename")
    assert (path.read_bytes(), target.read_bytes()) == (b"another one", content)
    target.unlink()


async def test_links_are_moved_and_deleted_instead_of_their_targets(api, comfyui, loras, tmp_path):
    elsewhere = tmp_path / "cache" / "blob"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"weights")
    name = f"{uuid.uuid4().hex}.safetensors"
    (loras / name).symlink_to(elsewhere)
    body = request("move", name, to_folder="vae", to_filename=f"deep/er/{name}")
    status, answer = await api.post("volume/model", body)
    moved = comfyui.models_dir / "vae" / "deep" / "er" / name
    assert (status, moved.read_bytes()) == (200, b"weights"), answer
    assert not (loras / name).is_symlink()
    delete = {"action": "delete", "folder": "vae/deep", "filename": f"er/{name}"}
    assert (await api.post("volume/model", delete))[0] == 200
    assert not moved.is_symlink()
    link = loras / uuid.uuid4().hex
    link.symlink_to(elsewhere.parent)
    try:
        for action in ("delete", "move"):
            body = request(action, link.name, to_filename="b.safetensors", in_use=True)
            status, answer = await api.post("volume/model", body)
            assert (status, answer["details"]["field"]) == (400, "filename"), answer
            assert "is a link to a folder" in answer["error"]
    finally:
        link.unlink()
    assert elsewhere.read_bytes() == b"weights"


async def test_uses_by_the_name_in_a_linked_folder_count(api, loras, model):
    linked = loras / uuid.uuid4().hex
    linked.symlink_to(loras / "style")
    try:
        names = (model, f"{linked.name}/{model.removeprefix('style/')}")
        for name in names:
            status, answer = await api.post("workflow", {"name": name, "workflow_api": graph(name)})
            assert status == 200, answer
        for name in names:
            found = await uses_of(api, name)
            assert {use["name"] for use in found["workflows"]} == set(names)
    finally:
        linked.unlink()


async def test_models_that_are_being_downloaded_are_in_use(api, loras, bare_service):
    bare_service.files["slow.safetensors"] = bytes(10_000_000)
    bare_service.store_delay = 5
    name = f"{uuid.uuid4().hex}.safetensors"
    (loras / name).write_bytes(b"an earlier version")
    url = f"{bare_service.url}/files/slow.safetensors"
    status, added = await api.post("volume/model", request("add", name, url=url))
    assert status == 200, added
    status, answer = await api.post("volume/model", request("delete", name))
    assert (status, answer["code"]) == (409, "conflict")
    assert [use["id"] for use in answer["details"]["uses"]["transfers"]] == [added["id"]]
    bare_service.store_delay = 0
    await api.post("cancel-uploads", {"id": added["id"]})

    async def is_used():
        return (await uses_of(api, name))["in_use"]

    await until_async(is_used, lambda used: not used)
    assert (await api.post("volume/model", request("delete", name)))[0] == 200


async def test_bad_requests_change_nothing(api, comfyui, model):
    before = sorted(comfyui.models_dir.rglob("*"))
    for fields, code, field in (
        ({"filename": "../../../etc/passwd"}, 403, "filename"),
        ({"filename": "/etc/passwd"}, 404, "filename"),
        ({"filename": "none.safetensors"}, 404, "filename"),
        ({"filename": "style"}, 400, "filename"),
        ({"filename": ".."}, 400, "filename"),
        ({"filename": "a\0b"}, 404, "filename"),
        ({"filename": "x" * 300}, 404, "filename"),
        ({"folder": "custom_nodes"}, 400, "folder"),
        ({"folder": "nothing"}, 400, "folder"),
        ({"folder": ".."}, 400, "folder"),
        ({"in_use": "perhaps"}, 400, "in_use"),
        ({"to_folder": "custom_nodes"}, 400, "to_folder"),
        ({"to_filename": "../../../a.safetensors"}, 403, "to_filename"),
        ({"to_filename": "a.txt"}, 400, "to_filename"),
        ({"to_filename": "a\nb.safetensors"}, 400, "to_filename"),
        ({"to_filename": "con.safetensors"}, 400, "to_filename"),
        ({"to_filename": " "}, 400, "to_filename"),
        ({"to_filename": f"{'x' * 300}.safetensors"}, 400, "to_filename"),
    ):
        for action in ("move",) if field.startswith("to_") else ("move", "delete"):
            body = {**request(action, model, to_filename="b.safetensors"), **fields}
            status, answer = await api.post("volume/model", body)
            assert (status, answer["success"]) == (code, False), answer
            assert answer["details"]["field"] == field, answer
    assert sorted(comfyui.models_dir.rglob("*")) == before
    for query, code, field in (
        ({"folder": "loras"}, 400, "filename"),
        ({"folder": "loras", "filename": "none"}, 404, "filename"),
        ({"folder": "loras", "filename": "a", "machine": "none"}, 404, "machine"),
    ):
        status, answer = await api.get("models/uses", **query)
        assert (status, answer["details"]["field"]) == (code, field), answer
