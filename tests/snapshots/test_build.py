"""``build: true`` starts, follows and ends an engine. The engine here is a small program."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import DockerFailedError
from comfydeploy_jupyter.handlers.machines import SnapshotHandler
from tests.helpers.jupyter import parse_stream
from tests.helpers.waiting import until_async
from tests.snapshots.conftest import names_in, text_of

ENGINE = """#!/bin/sh
if [ "$1" != build ]; then {version}; fi
echo "$0 $@" > {folder}/arguments
env > {folder}/environment
{build}
"""


SNAPSHOT = {"build": True, "snapshot": {"comfyui": {}}}


@pytest.fixture
def extension_config(tmp_path):
    settings = {"comfyui_url": "http://127.0.0.1:9", "autostart": False}
    return {**settings, "huggingface_token": "hf_s3cret", "data_dir": str(tmp_path / "data")}


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


async def test_without_an_engine_that_works_the_context_stays(api, engine, jp_serverapp, capsys):
    request = {**SNAPSHOT, "name": "kept"}
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
    comfy = Comfy(jp_serverapp.connection_url, jp_serverapp.identity_provider.token)
    request.pop("name")
    with pytest.raises(DockerFailedError, match="no space left") as caught:
        await asyncio.to_thread(comfy.snapshot, "kept", **request)
    assert (caught.value.status, caught.value.extra["path"]) == (502, body["path"])
    assert "Building comfyui-snapshot:kept\nERROR: no space left\n" in capsys.readouterr().out


async def test_an_image_is_built(api, engine, monkeypatch):
    """Tokens are build secrets only."""
    monkeypatch.setenv("JUPYTER_TOKEN", "sesame")
    model = {"name": "a.safetensors", "folder": "loras", "source": "https://huggingface.co/a"}
    snapshot = {"comfyui": {}, "models": [model]}
    request = {**SNAPSHOT, "name": "-Built.1", "include_models": True, "snapshot": snapshot}
    for name in ("podman", "docker"):  # docker is preferred
        folder = engine("echo 'step 1'; echo 'step 2' >&2", name=name)
        code, body = await api.post("snapshot-to-docker", request)
        assert code == 200, body
        assert body["image"] == "comfyui-snapshot:_-Built.1"
        program, *arguments = (folder / "arguments").read_text().split()
        assert (Path(program).name, arguments[0]) == (name, "build")
        assert arguments[-3:] == ["--tag", "comfyui-snapshot:_-Built.1", body["path"]]
        assert "id=hf_token,env=COMFYDEPLOY_BUILD_HF_TOKEN" in arguments
        environment = (folder / "environment").read_text()
        assert "BUILDKIT_PROGRESS=plain\n" in environment
        assert "COMFYDEPLOY_BUILD_HF_TOKEN=hf_s3cret\n" in environment
        assert "sesame" not in environment
        assert "hf_s3cret" not in json.dumps(body)
        assert text_of(body["log"]) == "step 1\nstep 2\n"


async def test_the_log_is_reported_as_progress(extension, engine, jp_fetch):
    engine("echo 'step 1'; echo 'step 2'; printf 'last'")
    received = bytearray()
    await jp_fetch(
        *("comfyui-deploy", "snapshot-to-docker"),
        method="POST",
        body=json.dumps({**SNAPSHOT, "name": "streamed"}),
        headers={"Accept": "text/event-stream"},
        streaming_callback=received.extend,
    )
    messages = [message for _, message in parse_stream(bytes(received))]
    lines = [message["data"]["line"] for message in messages if message["event"] == "log"]
    assert lines[-4:] == ["Building comfyui-snapshot:streamed", "step 1", "step 2", "last"]
    assert messages[-1]["event"] == "result"
    assert messages[-1]["data"]["image"] == "comfyui-snapshot:streamed"


async def test_a_disconnected_client_ends_the_build(extension, api, tmp_path, engine, jp_fetch):
    folder = engine(f"echo $$ > {tmp_path}/pid; echo here; exec sleep 600")
    with pytest.raises(HTTPClientError):
        await jp_fetch(
            *("comfyui-deploy", "snapshot-to-docker"),
            method="POST",
            body=json.dumps({**SNAPSHOT, "name": "left"}),
            request_timeout=20,
            connect_timeout=20,
            streaming_callback=_leave_once((tmp_path / "pid").exists),
            headers={"Accept": "text/event-stream"},
        )
    assert (folder / "arguments").exists()
    pid = int((tmp_path / "pid").read_text())
    await until_async(lambda: not _runs(pid), what="the build goes on")
    # and the name is free again
    engine()
    again = {**SNAPSHOT, "name": "left"}
    await until_async(
        lambda: api.post("snapshot-to-docker", again), lambda answer: answer[0] == 200
    )


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_client_that_left_before_the_build_began_ends_it(
    extension, jp_fetch, monkeypatch, accept
):
    works = []
    read = SnapshotHandler.json_body

    async def read_late(self, **options):
        body = await read(self, **options)
        self.request.connection.stream.close()
        await until_async(lambda: self._has_left)
        return body

    def begin(*_):
        works.append(asyncio.ensure_future(asyncio.sleep(600)))
        return works[0]

    monkeypatch.setattr(SnapshotHandler, "json_body", read_late)
    monkeypatch.setattr(SnapshotHandler, "_begin", begin)
    path, headers = ("comfyui-deploy", "snapshot-to-docker"), {"Accept": accept}
    with pytest.raises(HTTPClientError):
        await jp_fetch(*path, method="POST", body=json.dumps(SNAPSHOT), headers=headers)
    await until_async(lambda: works and works[0].cancelled())


async def test_the_end_of_the_server_ends_the_build(api, extension, tmp_path, engine):
    engine(f"echo $$ > {tmp_path}/pid; exec sleep 600")
    request = {**SNAPSHOT, "name": "busy"}
    first = asyncio.ensure_future(api.post("snapshot-to-docker", request))
    await until_async((tmp_path / "pid").exists, what="the build does not begin")
    code, body = await api.post("snapshot-to-docker", request)
    assert (code, body["code"], body["details"]["field"]) == (409, "conflict", "name")
    await extension.stop_extension()
    code, body = await first
    assert (code, body["success"]) == (503, False)
    pid = int((tmp_path / "pid").read_text())
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
