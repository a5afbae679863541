"""The route ``snapshot-to-docker``: what is read, what is written, what is left out."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.helpers.comfyui import comfyui_version
from tests.helpers.fake_comfydeploy import KEY
from tests.helpers.waiting import until_async
from tests.snapshots.conftest import git, names_in, text_of
from tests.snapshots.dockerfile import instructions

FIELDS = {
    "manager_snapshot",
    "success",
    "path",
    "dockerfile",
    "docker_command_steps",
    "snapshot",
    "warnings",
}


@pytest.fixture
def extension_config(extension_config, comfydeploy, monkeypatch):
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    addresses = {"cloud_url": comfydeploy.url, "allowed_api_urls": [comfydeploy.root]}
    return {**extension_config, **addresses}


async def test_the_environment_is_read_for_real(api, home, extension_config):
    model = home.path / "models/checkpoints/a b.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    (home.path / "models/loras").mkdir()
    (home.path / "models/loras/new.safetensors").write_bytes(b"never hashed")
    code, _ = await api.get("get-file-hash", filename="checkpoints/a b.safetensors")
    assert code == 200
    code, body = await api.post("snapshot-to-docker", {"name": "here"})
    assert (code, set(body)) == (200, FIELDS)
    snapshot = body["snapshot"]
    assert snapshot["comfyui"]["version"] == comfyui_version()
    assert snapshot["comfyui"]["launch_args"] == ["--base-directory", str(home.path), "--cpu"]
    nodes = {node["name"]: node for node in snapshot["custom_nodes"]}
    assert {name: node["kind"] for name, node in nodes.items()} == {
        "comfyui-pack": "git",
        "registered-pack": "registry",
        "test_nodes": "files",
        "my nodes": "files",
        "single.py": "files",
        "off": "files",
    }
    assert nodes["comfyui-pack"]["repository"] == "https://github.com/someone/comfyui-pack.git"
    assert nodes["comfyui-pack"]["commit"] == home.commit
    assert nodes["registered-pack"]["id"] == "registered-pack"
    assert nodes["registered-pack"]["version"] == "1.2.3"
    assert [name for name, node in nodes.items() if node["disabled"]] == ["off"]
    models = {entry["name"]: entry for entry in snapshot["models"]}
    assert models["a b.safetensors"]["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert models["a b.safetensors"]["size"] == 7
    assert models["new.safetensors"]["sha256"] is None
    packages = {package["name"]: package for package in snapshot["python"]["packages"]}
    assert packages["torch"]["requirement"] == f"torch=={packages['torch']['version']}"
    assert "pip" not in packages

    path = Path(body["path"])
    assert path == Path(extension_config["data_dir"]) / "snapshots/here"
    assert (path / "Dockerfile").read_text() == body["dockerfile"]
    assert json.loads((path / "snapshot.json").read_text()) == snapshot
    pins = (path / "requirements-torch.txt").read_text()
    assert f"torch=={packages['torch']['version']}\n" in pins
    steps = body["docker_command_steps"]["steps"]
    assert [step["type"] for step in steps] == ["custom-node", "custom-node-manager"]
    assert steps[0]["data"] == {
        "name": "comfyui-pack",
        "url": "https://github.com/someone/comfyui-pack.git",
        "hash": home.commit,
        "files": ["https://github.com/someone/comfyui-pack.git"],
        "install_type": "git-clone",
    }
    assert steps[1]["data"] == {"node_id": "registered-pack", "version": "1.2.3"}

    # A snapshot gives the same context, which is replaced completely.
    folder = Path(extension_config["data_dir"]) / "snapshots"
    (folder / "here~new").mkdir()
    (folder / "here~new/half").write_text("what a killed server left")
    (path / "stale").write_text("")
    code, again = await api.post("snapshot-to-docker", {"name": "here", "snapshot": snapshot})
    assert code == 200
    assert again["dockerfile"] == body["dockerfile"]
    assert again["snapshot"] == snapshot
    assert not names_in(again["path"]) & {"stale", "half"}
    assert names_in(folder) == {"here", "here~lock"}


async def test_secrets_are_left_out(api, home):
    (home.pack / "__init__.py").write_text("changed")
    code, body = await api.post("snapshot-to-docker", {"name": "clean"})
    assert code == 200
    path = Path(body["path"])
    assert names_in(path / "custom_nodes/my nodes") == {"__init__.py"}
    everything = json.dumps(body) + text_of(path)
    assert "s3cret" not in everything
    assert "sk-aaaa" not in everything
    warnings = "\n".join(body["warnings"])
    for name in ("my nodes/.env", "my nodes/notes.txt", "my nodes/outside", "comfyui-pack has"):
        assert name in warnings
    assert "off" not in body["dockerfile"]


@pytest.mark.thorough
async def test_models_with_a_source_are_downloaded_where_asked_for(api, home):
    folder = home.path / "models/checkpoints"
    folder.mkdir(parents=True)
    (folder / "known.safetensors").write_bytes(b"known")
    (folder / "unknown.safetensors").write_bytes(b"unknown")
    link = "https://huggingface.co/a/b/resolve/main/known.safetensors?token=s3cret"
    models = [{"name": "known.safetensors", "url": link, "directory": "checkpoints"}]
    node = {"id": 1, "type": "CheckpointLoaderSimple", "properties": {"models": models}}
    workflow = {"nodes": [node], "links": [], "version": 0.4}
    api_graph = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {}}}
    code, _ = await api.post(
        "workflow", {"name": "w", "workflow": workflow, "workflow_api": api_graph}
    )
    assert code == 200
    code, body = await api.post("snapshot-to-docker", {"name": "m", "include_models": True})
    assert code == 200
    sha256 = hashlib.sha256(b"known").hexdigest()
    downloads = [rest for _, rest in instructions(body["dockerfile"]) if "get.py model" in rest]
    assert len(downloads) == 1
    assert downloads[0].endswith(
        "model https://huggingface.co/a/b/resolve/main/known.safetensors"
        f" /opt/comfyui/models/checkpoints/known.safetensors {sha256}"
    )
    assert all(model["sha256"] for model in body["snapshot"]["models"])
    assert any("1 of 2 models have no known source" in warning for warning in body["warnings"])


@pytest.mark.thorough
async def test_a_model_that_was_downloaded_here_has_its_source(api, home, registry):
    request = {"action": "add", "folder": "loras", "filename": "got.safetensors"}
    url = f"{registry.url}/files/got.safetensors"
    code, body = await api.post("volume/model", {**request, "url": f"{url}?v=1&key=s3cret"})
    assert code == 200, body
    await until_async(
        (home.path / "models/loras/got.safetensors").exists,
        what=lambda: api.get("upload-queue-status"),
    )

    async def source():
        code, body = await api.post("snapshot-to-docker", {"name": "got"})
        assert code == 200
        return body["snapshot"]["models"][0]["source"]

    assert await until_async(source) == f"{url}?v=1"


BAD = [
    *(({"name": name}, "name") for name in ("", "..", "a/b", "a" * 65, "ä", "a\n", "a b")),
    *(
        ({"snapshot": snapshot}, field)
        for snapshot, field in (
            ({}, "snapshot"),
            ("just text", "snapshot"),
            ("[1]", "snapshot"),
            ({"comfyui": {}, "custom_nodes": [{"name": "../x", "kind": "files"}]}, "name"),
            ({"comfyui": {}, "custom_nodes": [{"name": "x", "kind": "registry"}]}, "id"),
            ({"comfyui": {"repository": "ext::sh -c x"}}, "repository"),
            ({"comfyui": {"repository": "--upload-pack=x"}}, "repository"),
            ({"comfyui": {"commit": "main; rm"}}, "commit"),
            ({"comfyui": {}, "models": [{"name": "../../x", "folder": "loras"}]}, "name"),
            ({"comfyui": {}, "python": {"packages": [{"name": "a", "requirement": "-e"}]}}, "requ"),
            ({"comfyui": "x"}, "snapshot.comfyui"),
            ({"git_custom_nodes": {"file:///etc": {"hash": "a" * 40}}}, "git_custom_nodes"),
            ({"git_custom_nodes": {"https://x.org/a": {"hash": "main"}}}, "git_custom_nodes"),
            ({"cnr_custom_nodes": {"a/b": "1"}}, "cnr_custom_nodes"),
            ({"git_custom_nodes": {f"https://x.org/{'a' * 256}": {"hash": "a" * 40}}}, "git_cus"),
            ({"file_custom_nodes": ["../../etc/passwd"]}, "file_custom_nodes"),
            ({"file_custom_nodes": ["a" * 256]}, "file_custom_nodes"),
            ({"file_custom_nodes": [" "]}, "file_custom_nodes"),
        )
    ),
]


async def test_bad_names_and_snapshots(api):
    for request, field in BAD:
        code, body = await api.post("snapshot-to-docker", request)
        assert (code, body["code"]) == (400, "invalid_request"), request
        assert field in body["details"]["field"], request


async def test_a_snapshot_of_comfyui_manager(api, home):
    snapshot = {
        "comfyui": "c" * 40,
        "git_custom_nodes": {
            "https://bob:pw@github.com/x/Some-Pack.git": {"hash": "a" * 40, "disabled": False},
            "https://github.com/x/off": {"hash": "b" * 40, "disabled": True},
        },
        "cnr_custom_nodes": {"impact-pack": "8.1.2"},
        "file_custom_nodes": [{"filename": "single.py", "disabled": False}],
        "pips": {
            "torch==2.5.1+cu124": "",
            "numpy==1.26.4": "",
            "sam2": "git+https://github.com/x/sam2@" + "d" * 40,
            "broken @ file:///tmp/x.whl": "",
        },
    }
    code, body = await api.post("snapshot-to-docker", {"name": "m", "snapshot": snapshot})
    assert code == 200
    commands = [rest for name, rest in instructions(body["dockerfile"]) if name == "RUN"]
    get = "python /opt/snapshot/get.py"
    nodes = "/opt/comfyui/custom_nodes"
    repository = "https://github.com/comfyanonymous/ComfyUI"
    assert f"{get} git {repository} {'c' * 40} /opt/comfyui" in commands
    address = "https://github.com/x/Some-Pack.git"
    assert f"{get} git {address} {'a' * 40} {nodes}/Some-Pack" in commands
    assert f"{get} node impact-pack 8.1.2 {nodes}/impact-pack" in commands
    assert "github.com/x/off" not in body["dockerfile"]
    path = Path(body["path"])
    assert (path / "custom_nodes/single.py").is_file()
    assert (path / "requirements-torch.txt").read_text().splitlines() == [
        "--extra-index-url https://download.pytorch.org/whl/cu124",
        "torch==2.5.1+cu124",
    ]
    requirements = (path / "requirements.txt").read_text()
    assert "numpy==1.26.4\n" in requirements
    assert f"sam2 @ git+https://github.com/x/sam2@{'d' * 40}\n" in requirements
    assert any("broken" in warning for warning in body["warnings"])
    # and out again, as a file that ComfyUI-Manager restores
    out = json.loads((path / "manager-snapshot.json").read_text())
    assert out["comfyui"] == snapshot["comfyui"]
    assert out["cnr_custom_nodes"] == snapshot["cnr_custom_nodes"]
    assert out["git_custom_nodes"][address] == {"hash": "a" * 40, "disabled": False}
    assert out["pips"]["sam2"] == snapshot["pips"]["sam2"]
    # which gives the same context again, also as YAML with everything below custom_nodes
    lines = f"custom_nodes:\n  comfyui: {'c' * 40}\n  cnr_custom_nodes: {{impact-pack: 8.1.2}}\n"
    code, again = await api.post("snapshot-to-docker", {"name": "y", "snapshot": lines})
    assert code == 200
    assert f"{get} node impact-pack 8.1.2 {nodes}/impact-pack" in again["dockerfile"]


async def test_names_with_shell_syntax_cannot_become_commands(api, home):
    odd = 'a$(touch x)`"\n#&;'
    node = {"name": odd, "kind": "git", "repository": "https://x.org/a;b", "commit": "a" * 40}
    snapshot = {"comfyui": {}, "custom_nodes": [node]}
    code, body = await api.post("snapshot-to-docker", {"name": "odd", "snapshot": snapshot})
    assert code == 200
    commands = [rest for name, rest in instructions(body["dockerfile"]) if name == "RUN"]
    command = next(rest for rest in commands if rest.startswith("["))
    assert json.loads(command)[3:] == [
        "https://x.org/a;b",
        "a" * 40,
        f"/opt/comfyui/custom_nodes/{odd}",
    ]


async def test_for_comfydeploy(api, home, comfydeploy, extension_config):
    for where in ({"target": "cloud"}, {"api_url": comfydeploy.root}):
        code, body = await api.post("snapshot-to-docker", {**where, "cd_token": KEY})
        assert code == 200, body
        assert body["steps"] == body["docker_command_steps"]["steps"]
        steps = body["docker_command_steps"]["steps"]
        assert [step["type"] for step in steps] == ["custom-node", "custom-node-manager"]
        pack = {"hash": git(home.pack, "rev-parse", "HEAD"), "disabled": False}
        assert comfydeploy.seen[-1].body == {
            "git_custom_nodes": {"https://github.com/someone/comfyui-pack.git": pack},
            "cnr_custom_nodes": {"registered-pack": "1.2.3"},
        }
        assert KEY not in json.dumps(body)
    assert not (Path(extension_config["data_dir"]) / "snapshots").exists()
    comfydeploy.answer({"steps": None})
    for request, status, error in (
        ({"target": "cloud", "cd_token": KEY}, 502, "cloud_error"),
        ({"target": "cloud"}, 401, "no_api_key"),
        ({"api_url": "https://evil.example", "cd_token": KEY}, 403, "forbidden_api_url"),
    ):
        code, body = await api.post("snapshot-to-docker", request)
        assert (code, body["code"]) == (status, error)
