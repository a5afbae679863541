"""Where keys are stored: use of known secrets, and a search for these in all files and replies."""

import asyncio
import contextlib
import json
import os
import re
import stat
import sys
import time
from urllib.parse import quote, urlencode

import psutil
import pytest
import requests

from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.comfyui.client import split_address
from comfydeploy_jupyter.comfyui.find import has_gpu, torch_build
from comfydeploy_jupyter.comfyui.install import _ask
from comfydeploy_jupyter.errors import ComfyUIUnavailableError, InvalidRequestError
from comfydeploy_jupyter.machines.hardware import gpus_of_driver
from comfydeploy_jupyter.request_models import RunRequest, parse
from comfydeploy_jupyter.snapshots.docker import find_engine
from comfydeploy_jupyter.snapshots.environment import Environment, read_checkout, read_packages
from comfydeploy_jupyter.util.child import child_environment, plain_environment
from comfydeploy_jupyter.util.secrets import (
    is_secret_value,
    masked_arguments,
    unmasked_arguments,
)
from tests.helpers.jupyter import chain
from tests.helpers.waiting import until

SECRETS = {
    name: f"s3cret-{name}-5f1c9a"
    for name in (
        *("configured", "signed-in", "of-the-run", "in-the-header", "in-a-bad-body", "machine"),
        *("huggingface", "civitai", "signature", "env-of-jupyter", "in-a-query"),
    )
}

STATUS = "comfyui-deploy/check-status"
WITH_FILE = {
    "1": {"class_type": "ComfyUIDeployExternalImage", "inputs": {"input_id": "a", "image": ""}}
}


def test_children_get_no_keys_of_jupyter_and_comfydeploy(monkeypatch):
    ours = (
        *("COMFYDEPLOY_API_KEY", "COMFYDEPLOY_JUPYTER_TOKEN", "COMFYDEPLOY_MACHINE_TOKEN"),
        *("COMFYDEPLOY_HUGGINGFACE_TOKEN", "COMFYDEPLOY_CIVITAI_TOKEN", "COMFY_DEPLOY_API_KEY"),
        *("COMFY_API_KEY", "JPY_API_TOKEN", "JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN"),
        "CONFIGPROXY_AUTH_TOKEN",
    )
    theirs = ("HF_TOKEN", "CIVITAI_API_KEY", "AWS_SECRET_ACCESS_KEY")
    given = {**dict.fromkeys((*ours, *theirs, "COMFYDEPLOY_DATA_DIR"), "x"), **PASSWORDS}
    given["COMFYDEPLOY_LAUNCH_ARGS"] = PASSWORDS["DB_URL"]
    given["GIT_SOURCE"] = "ssh://git@example.org/a"
    given["HTTPS_PROXY"] = "http://user:pw@proxy.example:3128"
    set_all(monkeypatch, given)
    kept = child_environment()
    assert not kept.keys() & {*ours, "COMFYDEPLOY_LAUNCH_ARGS"}
    assert kept.keys() >= {*theirs, *PASSWORDS, "COMFYDEPLOY_DATA_DIR", "PATH"}
    without = child_environment(secrets=False)
    assert not without.keys() & {*ours, *theirs, *PASSWORDS, "COMFYDEPLOY_LAUNCH_ARGS"}
    assert without.keys() >= {"GIT_SOURCE", "HTTPS_PROXY", "PATH"}
    assert not plain_environment().keys() & {*PASSWORDS, "GIT_SOURCE", "HTTPS_PROXY"}


def set_all(monkeypatch, values):
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def make_program(path, script):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


PASSWORDS = {
    "DB_URL": "postgresql+psycopg://ada:p@ss/w0rd@db.example/x",
    "BROKER": "amqp://ada:hunter2@broker.example",
    "SOURCE": "https://sometoken@git.example/a.git",
    "NAMELESS": f"hf_{'a' * 34}",
}


KEYS = {"JUPYTERHUB_API_TOKEN": "s", "COMFY_DEPLOY_API_KEY": "s", "HF_TOKEN": "s", **PASSWORDS}


def test_pip_git_and_docker_get_only_their_own_credentials(tmp_path, monkeypatch):
    """Docker, and pip with whatever its packages run."""
    theirs = {
        "PIP_INDEX_URL": "https://user:pw@index.example/simple",
        "DOCKER_AUTH_CONFIG": "{}",
        "SSH_AUTH_SOCK": "/x",
    }
    set_all(monkeypatch, {**KEYS, **theirs})
    recorded = tmp_path / "environment"
    make_program(tmp_path / "bin/docker", f"env > {recorded}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    asyncio.run(find_engine())
    names = {line.partition("=")[0] for line in recorded.read_text().splitlines()}
    assert not names & {*KEYS, "PIP_INDEX_URL"}
    assert names >= {"DOCKER_AUTH_CONFIG", "SSH_AUTH_SOCK"}
    packages = json.loads(_ask(sys.executable, "import json, os; print(json.dumps([*os.environ]))"))
    assert not set(packages) & {*KEYS, "DOCKER_AUTH_CONFIG"}
    assert set(packages) >= {"PIP_INDEX_URL", "SSH_AUTH_SOCK"}


def test_queried_programs_get_only_the_environment_they_need(tmp_path, monkeypatch):
    """An interpreter that lists torch and packages, git, nvidia-smi."""
    set_all(monkeypatch, KEYS)
    seen = tmp_path / "seen"
    seen.mkdir()
    for name in ("nvidia-smi", "git", "python"):
        make_program(tmp_path / "bin" / name, f"env > {seen}/{name}.$$")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    git = tmp_path / "pack/.git"
    git.mkdir(parents=True)
    (git / "HEAD").write_text("0" * 40)
    has_gpu()
    gpus_of_driver()
    torch_build(tmp_path / "bin/python")
    with pytest.raises(ComfyUIUnavailableError):
        read_packages(tmp_path / "bin/python", Environment())
    assert read_checkout(tmp_path / "pack") is not None
    environments = {file.name: file.read_text() for file in seen.iterdir()}
    assert {name.partition(".")[0] for name in environments} == {"nvidia-smi", "git", "python"}
    for name, text in environments.items():
        found = [line for line in text.splitlines() if line.partition("=")[0] in KEYS]
        assert not found, name
        assert "PATH=" in text


def test_masked_arguments_keep_their_secrets_when_sent_back():
    given = [
        *("--comfy-api-key=k1", "--cpu", "--api-key", "k2", "--port", "8188"),
        *("--database-url", "postgresql://ada:pw@db.example/x", "--base-directory=/a"),
        *("--extra=https://h.example/?token=t", f"hf_{'a' * 34}"),
    ]
    shown = masked_arguments(given)
    assert shown == [
        *("--comfy-api-key=***", "--cpu", "--api-key", "***", "--port", "8188"),
        *("--database-url", "***", "--base-directory=/a", "--extra=***", "***"),
    ]
    assert unmasked_arguments(shown, given) == given
    changed = ["--lowvram", *shown[2:], "--comfy-api-key=***"]
    assert unmasked_arguments(changed, given) == ["--lowvram", *given[2:], given[0]]
    for unknown in (["--other-key=***"], ["--port", "***"], ["***"]):
        with pytest.raises(KeyError):
            unmasked_arguments(unknown, given)


def test_a_wrong_key_is_refused_without_its_value():
    for name in ("api_key_comfy_org", "auth_token_comfy_org"):
        with pytest.raises(InvalidRequestError, match=f"extra_data: {name} must be") as refused:
            parse(RunRequest, {"extra_data": {name: "s3cret key"}})
        assert "s3cret" not in f"{refused.value} {refused.value.details}"


def test_looking_for_secrets_takes_no_time():
    begin = time.thread_time()
    for text in ("a://" + ":" * 500_000, "://" * 200_000, "a://" + "@:" * 250_000, "x" * 500_000):
        is_secret_value(text)
    assert time.thread_time() - begin < 2


class Flow:
    """A Jupyter with its most detailed log, and its replies."""

    def __init__(self, jupyter):
        self.jupyter = jupyter
        self.replies = []

    def request(self, method, path, headers=None, **kwargs):
        answer = requests.request(
            method,
            f"{self.jupyter.url}{path}",
            headers={"Authorization": f"token {self.jupyter.token}", **(headers or {})},
            timeout=60,
            **kwargs,
        )
        self.replies.append(f"{answer.headers}{answer.text}")
        return answer.json()

    def post(self, path, headers=None, **body):
        return self.request("POST", f"comfyui-deploy/{path}", headers, json=body)


@pytest.fixture
def flow(start_jupyter, comfyui, comfydeploy, bare_service, cloudflared, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY_TOKEN", SECRETS["env-of-jupyter"])
    monkeypatch.setenv("COMFYDEPLOY_CIVITAI_TOKEN", SECRETS["civitai"])
    monkeypatch.setenv("HF_TOKEN", SECRETS["huggingface"])
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    comfydeploy.sign_ins["request"] = SECRETS["signed-in"]
    bare_service.to_store = True
    jupyter = start_jupyter(
        Application={"log_level": "DEBUG"},
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.path),
            "data_dir": str(tmp_path / "data"),
            "cloud_url": comfydeploy.url,
            "comfydeploy_url": comfydeploy.root,
            "allowed_api_urls": [comfydeploy.root],
            "api_key": SECRETS["configured"],
            "machine_token": SECRETS["machine"],
            "cloudflared_path": str(cloudflared.path),
            "huggingface_url": bare_service.url,
            "civitai_url": bare_service.url,
        },
    )
    yield Flow(jupyter)
    jupyter.stop()


def test_no_reply_log_or_file_has_a_secret(flow, comfydeploy, bare_service, cloudflared, tmp_path):
    signed = f"{bare_service.url}/files/gone?X-Amz-Signature={SECRETS['signature']}"
    bare_service.replacements["files"].extend([403, (302, {"Location": f"file:///x?{signed}"})] * 3)
    started = flow.post("tunnel/start")
    secret = started["access_url"].split("access=")[1]
    run = flow.post(
        "run",
        workflow_api_raw=chain(),
        prompt_id="5f1c9a00-0000-4000-8000-000000000001",
        status_endpoint=f"{bare_service.url}/status?Signature={SECRETS['signature']}",
        file_upload_endpoint=f"{bare_service.url}/upload",
        cd_token=SECRETS["of-the-run"],
        wait=True,
    )
    assert run["status"] == "success", run
    until(lambda: any(body.get("status") == "success" for _, body in bare_service.callbacks))
    assert {token for token, _ in bare_service.callbacks} == {SECRETS["of-the-run"]}
    image = {"class_type": "ComfyUIDeployExternalImage", "inputs": {"input_id": "image"}}
    for request in (
        {"workflow_api": {"1": image}, "inputs": {"image": signed}},
        {"workflow_api": chain(), "cd_token": [SECRETS["in-a-bad-body"]]},
        {"workflow_api": chain(), "machine": "none", "cd_token": SECRETS["in-a-bad-body"]},
    ):
        assert flow.post("run", **request)["success"] is False
    for token in (SECRETS["machine"], f"{SECRETS['machine']}-wrong"):
        flow.request("POST", "comfyui-deploy/run", {"authorizationheader": token}, json={})
    for source, url in (
        ("link", signed),
        ("huggingface", f"{bare_service.url}/a/b/resolve/main/c.ckpt"),
        ("civitai", f"{bare_service.url}/models/1"),
    ):
        flow.post("volume/model", source=source, url=url, folder="loras", filename=f"{source}.ckpt")
    flow.request("GET", "comfyui-deploy/auth-response?request_id=request")
    flow.request("GET", "comfyui-deploy/workflows?target=cloud")
    header = {"X-ComfyDeploy-Token": SECRETS["in-the-header"]}
    flow.request("GET", "comfyui-deploy/workflows?target=cloud", header)
    sent = [seen.headers["Authorization"] for seen in comfydeploy.seen[-2:]]
    assert sent == [f"Bearer {SECRETS[name]}" for name in ("signed-in", "in-the-header")]
    flow.request("GET", f"comfyui-deploy/runs?token={flow.jupyter.token}&limit=x")
    with requests.Session() as visitor:
        visitor.trust_env = False
        answer = visitor.get(f"{cloudflared.edge}/system_stats?access={secret}")
        assert answer.status_code == 200
    for path in ("check-status", "upload-queue-status", "machine", "machines"):
        flow.request("GET", f"comfyui-deploy/{path}")

    data = tmp_path / "data"
    assert stat.S_IMODE((data / "comfydeploy.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "credentials.json").stat().st_mode) == 0o600
    children = psutil.Process(flow.jupyter.pid).children(recursive=True)
    assert len(children) >= 4, "the gate and cloudflared, each with its reaper"
    command_lines = "".join(map(_started_with, children))
    replies = "".join(flow.replies)
    assert secret in replies, "the user who started the tunnel gets the link"
    flow.jupyter.stop()
    kept = "".join(
        path.read_bytes().decode("latin-1")
        for path in data.rglob("*")
        if path.is_file() and path.name != "credentials.json"
    )
    log = flow.jupyter.log()
    assert "/comfyui-deploy/run" in log
    found = f".{{0,120}}(?:{'|'.join(SECRETS.values())})"
    assert not re.findall(found, command_lines + replies + log)
    unfinished = SECRETS["signature"]  # of downloads that failed, which may be tried again
    assert not re.findall("|".join({*SECRETS.values()} - {unfinished}), kept)
    assert secret not in command_lines + log + kept
    assert flow.jupyter.token not in command_lines + kept


def _started_with(process):
    with contextlib.suppress(psutil.Error):
        return f"{process.cmdline()} {process.environ()}"
    return ""


class TestAddresses:
    """Addresses with a user and a password, in the configuration and in requests."""

    @pytest.fixture
    def settings(self):
        return {
            "comfyui_url": "http://ada:hush@127.0.0.1:9",
            "api_key": "a-key",
            "cloud_url": "http://ada:hush@127.0.0.1:9/api",
            "comfydeploy_url": "http://ada:hush@127.0.0.1:9",
            "allowed_api_urls": ["http://ada:hush@127.0.0.1:9/api", "http://127.0.0.1:9"],
        }

    async def test_no_reply_or_log_has_their_password(
        self, call, jp_auth_header, jp_serverapp, caplog
    ):
        jp_serverapp.log.addHandler(caplog.handler)
        addresses = ("http://ada:hush@127.0.0.1:9", "ada:hush@host", "http://ada:hu/hush@host:1")
        replies = []
        try:
            for address in addresses:
                asked = urlencode({"is_cloud": "true", "api_url": address})
                for path in ("workflows", "machines", "auth-response", "object_info", "nothing"):
                    path = f"comfyui-deploy/{path}?{asked}&request_id=a"
                    replies.append(await call("GET", path, dict(jp_auth_header)))
                    replies.append(await call("GET", path, {}))
                bodies = (
                    ("workflow", {"is_cloud": True, "api_url": address, "name": "a"}),
                    ("run", {"workflow_api": {}, "status_endpoint": address}),
                    ("run", {"is_native_run": True, "native_run_api_endpoint": address}),
                    ("machine/create", {"name": "a", "comfyui_url": address}),
                    ("volume/model", {"source": "link", "url": address, "folder": "loras"}),
                    ("run", {"workflow_api": WITH_FILE, "inputs": {"1.image": address}}),
                )
                for path, body in bodies:
                    path = f"comfyui-deploy/{path}"
                    replies.append(await call("POST", path, dict(jp_auth_header), body))
            paths = ("comfydeploy/", "comfyui/", f"comfyui/api/a?u={quote(addresses[0])}", STATUS)
            replies += [await call("GET", path, dict(jp_auth_header)) for path in paths]
        finally:
            jp_serverapp.log.removeHandler(caplog.handler)
        texts = [reply.body.decode() for reply in replies] + caplog.text.splitlines()
        assert [text for text in texts if "hush" in text] == []
        assert "api_url=***" in caplog.text

    def test_a_password_with_a_slash_is_refused(self):
        """The rest of the address would be its path, which is shown."""
        with pytest.raises(InvalidRequestError, match="%2F") as refused:
            split_address("http://ada:12/hush@gpu:8188")
        assert "hush" not in str(refused.value)

    def test_the_client_shows_no_password_and_no_token(self):
        server = Server("http://ada:hush@127.0.0.1:9/lab?token=hush2")
        assert (server.url, server.token) == ("http://127.0.0.1:9/", "hush2")
        for address, why in (
            ("ada:hush@127.0.0.1:9/lab?token=hush", "must start with http"),
            ("http://ada:hu/sh@127.0.0.1:9", "is not an address"),
            ("http://[::1?token=hush", "is not an address"),
        ):
            with pytest.raises(InvalidRequestError, match=f"url: {why}") as refused:
                Server(address)
            assert "hu" not in str(refused.value)
