"""The environment of a run in the forms in which it can be made elsewhere."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from comfydeploy_jupyter.proofs.environment import environment_of
from comfydeploy_jupyter.snapshots.snapshot import from_manager
from tests.helpers.bodies import picture
from tests.proofs.test_records import recorded
from tests.snapshots.dockerfile import instructions

COMMIT = "a" * 40
SHA256 = "1" * 64
RECORD = {
    "prompt_id": "r1",
    "environment": {
        "comfyui": {
            "version": "0.3.75",
            "commit": COMMIT,
            "launch_args": ["--cpu", "--output-directory", "/home/anna"],
        },
        "python": "3.12.3 (main, Jun 18 2025) [GCC 13.3.0]",
        "torch": "2.9.0+cpu",
        "packages": {"numpy": "2.2.0", "torch": "2.9.0+cpu", "mine": "1", "flash_attn": "2.7+x"},
        "package_sources": {"mine": "./packages/mine", "flash_attn": "flash_attn==2.7"},
        "package_indexes": ["https://download.pytorch.org/whl/cpu"],
    },
    "node_packs": [
        {"name": "A", "kind": "git", "repository": "https://github.com/x/A", "commit": COMMIT},
        {"name": "B", "kind": "registry", "id": "b", "version": "1.2"},
        {"name": "C.py", "kind": "files", "sha256": SHA256},
        {"name": "D", "reason": "it is not known"},
    ],
    "models": [
        {"folder": "vae", "name": "x.safetensors", "sha256": SHA256, "url": "https://h.co/x"},
        {"folder": "embeddings", "name": "cosy", "file": "cosy.pt", "sha256": SHA256},
        {"folder": "loras", "name": "new.safetensors", "size": 1},
        {"folder": None, "name": "gone.pt", "reason": "it is not there"},
    ],
    "inputs": [{"folder": "input", "name": "cat.png", "sha256": SHA256}],
}


@pytest.fixture
def extension_config(config_with_folders) -> dict:
    return config_with_folders


def test_each_form_has_what_the_run_used_and_says_what_is_not_known():
    found = environment_of(RECORD)
    snapshot = found["snapshot"]
    assert snapshot["comfyui"]["commit"] == COMMIT
    assert [node["name"] for node in snapshot["custom_nodes"]] == ["A", "B"]
    steps = [step["data"] for step in found["docker_command_steps"]["steps"]]
    assert (steps[0]["hash"], steps[1]["version"]) == (COMMIT, "1.2")
    manager = found["manager_snapshot"]
    assert manager["git_custom_nodes"]["https://github.com/x/A"]["hash"] == COMMIT
    assert manager["cnr_custom_nodes"] == {"b": "1.2"}
    assert "numpy==2.2.0" in manager["pips"]
    again, lost = from_manager(json.loads(json.dumps(manager)))
    assert lost == []
    assert {node.name for node in again.custom_nodes} == {"A", "b"}
    from_files = "it was installed from files of the machine of the run"
    nowhere = "it has neither a commit nor a version in the registry"
    assert found["warnings"] == [
        f"the Python package mine 1 is left out: {from_files}",
        "flash_attn 2.7+x is a build of unknown origin: flash_attn==2.7 is used",
        f"the node pack C.py (SHA-256 {SHA256}) is left out: {nowhere}",
        "the node pack D is left out: it is not known",
        "the source of the model cosy is not known",
        "the SHA-256 of the model new.safetensors is not known",
        "the model gone.pt is left out: it is not there",
        "2 of 3 models have no known source; comments name them",
        "launch arguments that are valid only on this machine are left out: --output-directory",
    ]


def test_the_dockerfile_stands_alone():
    text = environment_of(RECORD)["dockerfile"]
    found = instructions(text)
    assert found[0] == ("FROM", "python:3.12-slim-bookworm")
    copied = [rest.partition("\n")[::2] for name, rest in found if name == "COPY"]
    files = dict(copied)
    assert "def get_model(" in files["./get.py"]
    compile(files["./get.py"], "get.py", "exec")
    assert files["./requirements.txt"].splitlines()[1:] == ["numpy==2.2.0", "flash_attn==2.7"]
    runs = [rest for name, rest in found if name == "RUN"]
    assert any(
        rest.endswith(f"model https://h.co/x /opt/comfyui/models/vae/x.safetensors {SHA256}")
        for rest in runs
    )
    assert found[-1] == (
        "CMD",
        '["python", "main.py", "--listen", "0.0.0.0", "--port", "8188", "--cpu"]',
    )
    assert "/home/anna" not in text
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert f"# Input file: input/cat.png, SHA-256 {SHA256}" in comments
    assert "# models/embeddings/cosy.pt has no known source." in comments


@pytest.mark.parametrize("name", ["x\nRUN evil", "x\x1b[0m", "x\ud800", "../../x", "x" * 5000])
def test_names_become_no_instructions(name):
    models = [{"folder": "vae", "name": name, "sha256": SHA256, "url": "https://h.co/x\nRUN evil"}]
    packs = [{"name": name, "kind": "git", "repository": f"https://h.co/{name}", "commit": COMMIT}]
    record = {**RECORD, "models": models, "node_packs": packs, "prompt_id": "r"}
    found = environment_of(record)
    text = found["dockerfile"]
    text.encode()
    assert not [rest for kind, rest in instructions(text) if rest == "evil" or "h.co" in rest]
    assert "\x1b" not in text


def test_of_an_unknown_environment_nothing_is_invented():
    unknown = {"prompt_id": "r", "environment": None, "node_packs": [], "models": [], "inputs": []}
    found = environment_of(unknown)
    assert found["manager_snapshot"]["comfyui"] is None
    assert found["manager_snapshot"]["pips"] == {}
    assert found["docker_command_steps"] == {"steps": []}
    assert found["warnings"][:2] == [
        "the environment of the run is not known",
        "the version of ComfyUI is not known",
    ]
    told = {"comfyui": {"version": "0.33.0"}, "python": "3.13.1", "torch": "2.9.0+cu130"}
    found = environment_of({**unknown, "environment": {**told, "packages": None}})
    runs = [rest for name, rest in instructions(found["dockerfile"]) if name == "RUN"]
    assert "refs/tags/v0.33.0" in " ".join(runs)
    index = "https://download.pytorch.org/whl/cu130"
    assert (
        f"python -m pip install --extra-index-url {index} -r /opt/comfyui/requirements.txt" in runs
    )
    assert "torch==2.9.0+cu130" in found["dockerfile"]
    assert any("versions of most packages are not known" in text for text in found["warnings"])


async def test_the_environment_of_a_run(api):
    run = await api.run(workflow_api=picture("environment"))
    record = await recorded(api, run["prompt_id"])
    route = f"runs/{run['prompt_id']}"
    code, found = await api.get(f"{route}/environment")
    assert code == 200
    torch = f"torch=={record['environment']['torch']}"
    assert torch in found["manager_snapshot"]["pips"]
    reply = await api.raw("GET", f"{route}/environment", params={"file": "dockerfile"})
    assert reply.body.decode() == found["dockerfile"]
    assert reply.headers["Content-Disposition"] == 'attachment; filename="Dockerfile"'
    reply = await api.raw("GET", f"{route}/receipt")
    with zipfile.ZipFile(io.BytesIO(reply.body)) as receipt:
        assert torch in receipt.read("environment/Dockerfile").decode()
        manager = json.loads(receipt.read("environment/snapshot.json"))
        assert manager == found["manager_snapshot"]
        assert json.loads(receipt.read("environment/docker_command_steps.json")) == {"steps": []}
    code, error = await api.get(f"{route}/environment", file="other")
    assert (code, error["details"]["field"]) == (400, "file")
