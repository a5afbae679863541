"""``build: true`` starts, follows and ends an engine. The engine here is a small program."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError

from tests.helpers.jupyter import parse_stream
from tests.helpers.waiting import until_async
from tests.snapshots.conftest import names_in, text_of

ENGINE = """#!/bin/sh
if [ "$1" != build ]; then {version}; fi
echo "$@" > {folder}/arguments
env > {folder}/environment
{build}
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A function that sets ``PATH`` to a folder with an engine; returns the file of its calls."""
    folder = tmp_path / "engine"
    folder.mkdir()
    programs = [f"/bin/{name}" for name in ("sh", "env", "sleep", "cat", "mkfifo")]
    (folder / "bin").mkdir()
    for program in programs:
        (folder / "bin" / Path(program).name).symlink_to(program)
    monkeypatch.setenv("PATH", str(folder / "bin"))

    def install(build="", *, name="docker", version="exit 0"):
        program = folder / "bin" / name
        program.write_text(ENGINE.format(folder=folder, build=build, version=version))
        program.chmod(0o755)
        return folder

    return install


async def test_without_an_engine_that_works_the_context_stays(api, home, engine):
    request = {"name": "kept", "build": True}
    code, body = await api.post("snapshot-to-docker", request)
    assert (code, body["code"], body["success"]) == (503, "docker_unavailable", False)
    assert (Path(body["path"]) / "Dockerfile").read_text() == body["dockerfile"]
    assert "neither docker nor podman" in body["error"]
    assert body["hint"]
    engine(version="echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    code, body = await api.post("snapshot-to-docker", request)
    assert (code, body["code"]) == (503, "docker_unavailable")
    assert "Cannot connect to the Docker daemon" in body["error"]
    engine("echo 'ERROR: no space left'; exit 17")
    code, body = await api.post("snapshot-to-docker", request)
    assert (code, body["code"]) == (502, "docker_failed")
    assert "no space left" in body["error"]
    assert body["details"]["exit_code"] == 17
    assert body["details"]["log"] == ["ERROR: no space left"]
    assert "Dockerfile" in names_in(body["path"])


@pytest.mark.parametrize("name", ["docker", "podman"])
async def test_an_image_is_built(api, home, engine, name, monkeypatch):
    monkeypatch.setenv("JUPYTER_TOKEN", "sesame")
    folder = engine("echo 'step 1'; echo 'step 2' >&2", name=name)
    code, body = await api.post("snapshot-to-docker", {"name": "-Built.1", "build": True})
    assert code == 200, body
    assert body["image"] == "comfyui-snapshot:_-Built.1"
    arguments = (folder / "arguments").read_text().split()
    assert arguments[0] == "build"
    assert arguments[-3:] == ["--tag", "comfyui-snapshot:_-Built.1", body["path"]]
    environment = (folder / "environment").read_text()
    assert "BUILDKIT_PROGRESS=plain\n" in environment
    assert "sesame" not in environment
    assert text_of(body["log"]) == "step 1\nstep 2\n"


async def test_the_log_is_reported_as_progress(extension, home, engine, jp_fetch):
    engine("echo 'step 1'; echo 'step 2'; printf 'last'")
    received = bytearray()
    await jp_fetch(
        *("comfyui-deploy", "snapshot-to-docker"),
        method="POST",
        body=json.dumps({"name": "streamed", "build": True}),
        headers={"Accept": "text/event-stream"},
        streaming_callback=received.extend,
    )
    messages = [message for _, message in parse_stream(bytes(received))]
    lines = [message["data"]["line"] for message in messages if message["event"] == "log"]
    assert lines[-4:] == ["Building comfyui-snapshot:streamed", "step 1", "step 2", "last"]
    assert messages[-1]["event"] == "result"
    assert messages[-1]["data"]["image"] == "comfyui-snapshot:streamed"


async def test_a_disconnected_client_ends_the_build(extension, api, home, engine, jp_fetch):
    folder = engine(f"echo $$ > {home.path}/pid; echo here; exec sleep 600")
    with pytest.raises(HTTPClientError):
        await jp_fetch(
            *("comfyui-deploy", "snapshot-to-docker"),
            method="POST",
            body=json.dumps({"name": "left", "build": True}),
            request_timeout=20,
            connect_timeout=20,
            streaming_callback=_leave_once((home.path / "pid").exists),
            headers={"Accept": "text/event-stream"},
        )
    assert (folder / "arguments").exists()
    pid = int((home.path / "pid").read_text())
    await until_async(lambda: not _runs(pid), what="the build goes on")
    # and the name is free again
    engine()
    code, _ = await api.post("snapshot-to-docker", {"name": "left", "build": True})
    assert code == 200


async def test_the_end_of_the_server_ends_the_build(api, extension, home, engine):
    engine(f"echo $$ > {home.path}/pid; exec sleep 600")
    request = {"name": "busy", "build": True}
    first = asyncio.ensure_future(api.post("snapshot-to-docker", request))
    await until_async((home.path / "pid").exists, what="the build does not begin")
    code, body = await api.post("snapshot-to-docker", request)
    assert (code, body["code"], body["details"]["field"]) == (409, "conflict", "name")
    await extension.stop_extension()
    code, body = await first
    assert (code, body["success"]) == (503, False)
    pid = int((home.path / "pid").read_text())
    await until_async(lambda: not _runs(pid), what="the build goes on")


def _leave_once(condition):
    def take(_):
        if condition():
            raise ConnectionError("the test has seen enough")

    return take


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_tokens_are_build_secrets_only(api, home, engine, extension_config):
    folder = engine()
    model = {"name": "a.safetensors", "folder": "loras", "source": "https://huggingface.co/a"}
    snapshot = {"comfyui": {}, "models": [model]}
    request = {"name": "s", "build": True, "include_models": True, "snapshot": snapshot}
    code, body = await api.post("snapshot-to-docker", request)
    assert code == 200
    assert (
        "--secret id=hf_token,env=COMFYDEPLOY_BUILD_HF_TOKEN" in (folder / "arguments").read_text()
    )
    assert "COMFYDEPLOY_BUILD_HF_TOKEN=hf_s3cret" in (folder / "environment").read_text()
    assert "hf_s3cret" not in json.dumps(body)


@pytest.fixture
def extension_config(extension_config):
    return {**extension_config, "huggingface_token": "hf_s3cret"}
