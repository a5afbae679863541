"""Requests made from the specification, to a Jupyter that can accept each safely.

It can reach only servers that the tests started. The values of a reply are valid in the requests to
which its links lead. No reply to a generated request may be an error of the server, and each must
be in the specification.
"""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import requests

from tests.helpers.cloudflared import FakeCloudflared
from tests.helpers.comfyui import free_port
from tests.helpers.fake_comfydeploy import KEY, FakeComfyDeploy
from tests.helpers.jupyter import check_reply
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import THOROUGH

# Addresses in the examples, and the test servers for them.
ELSEWHERE = {
    "https://api.comfydeploy.com": "{comfydeploy}",
    "https://storage.example.com": "{comfydeploy}/bucket",
    "https://example.com": "{comfydeploy}/bucket",
    "http://127.0.0.1:8189": "http://127.0.0.1:{free_port}",
}


class Specified:
    """A server and its own specification, with examples that use the tests' replacements."""

    def __init__(self, jupyter, comfydeploy_root):
        self.jupyter = jupyter
        answer = self.request("GET", "/comfyui-deploy/openapi.json")
        text = answer.text
        for known, here in ELSEWHERE.items():
            text = text.replace(
                known, here.format(comfydeploy=comfydeploy_root, free_port=free_port())
            )
        self.specification = json.loads(text)
        self._name_what_is_there()

    def _name_what_is_there(self):
        """Set the examples of ids to those of a job, an asset and a workflow of this server."""
        graph = {"1": {"class_type": "TestText", "inputs": {"text": "a"}}}
        api = "/comfyui-deploy/api/v2"
        job = self.request("POST", f"{api}/jobs", json={"workflow": graph}).json()
        asset = self.request("POST", f"{api}/assets", files={"file": ("b.txt", b"hello")}).json()
        stored = {"name": "there", "workflow_api": graph}
        workflow = self.request("POST", "/comfyui-deploy/workflow", json=stored).json()
        known = {
            ("path", "job_id"): job["id"],
            ("path", "asset_id"): asset["id"],
            ("path", "hash"): asset["hash"],
            ("query", "workflow_id"): workflow["workflow_id"],
        }
        for item in self.specification["paths"].values():
            for operation in item.values():
                for parameter in operation["parameters"]:
                    place = parameter["in"], parameter["name"]
                    if place in known:
                        parameter["example"] = known[place]

    @property
    def url(self):
        """The address of the server, without a slash at the end."""
        return self.jupyter.url.rstrip("/")

    def request(self, method, path, **kwargs):
        """Request a path of the specification."""
        headers = {"Authorization": f"token {self.jupyter.token}"}
        return requests.request(method, f"{self.url}{path}", headers=headers, timeout=120, **kwargs)


@pytest.fixture(scope="module")
def specified(start_jupyter, comfyui, tmp_path_factory):
    """A Jupyter that uses the real ComfyUI, with replacements for ComfyDeploy and Cloudflare."""
    checkpoints = comfyui.models_dir / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    (checkpoints / "a.safetensors").write_bytes(bytes(1024 * 1024))
    (comfyui.input_dir / "a.png").write_bytes(b"a")
    comfydeploy = FakeComfyDeploy()
    jupyter = start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.path),
            "data_dir": str(tmp_path_factory.mktemp("data")),
            "cloud_url": comfydeploy.url,
            "comfydeploy_url": comfydeploy.root,
            "allowed_api_urls": [comfydeploy.root],
            "api_key": KEY,
            "cloudflared_path": str(FakeCloudflared(tmp_path_factory.mktemp("cloudflared")).path),
            "huggingface_url": comfydeploy.root,
            "civitai_url": comfydeploy.root,
        }
    )
    yield Specified(jupyter, comfydeploy.root)
    comfydeploy.close()


JSON = "application/json"
FORM = "multipart/form-data"
EXPRESSION = re.compile(r"\$response\.body#/(\w+)")
ROOTS = (
    *("run", "uploadFile", "changeModels", "saveWorkflow", "createMachine", "startTunnel"),
    *("createJob", "uploadAsset", "createBatch"),
)
ADDED = {
    "action": "add",
    "source": "local",
    "path": "input/a.png",
    "folder": "checkpoints",
    "filename": "b.safetensors",
}
# What has ended cannot be cancelled, and what has not failed not be retried.
NOT_200 = {"interruptRun": 409, "cancelBatch": 409, "retryUploads": 409, "deleteAsset": 204}


class Walk:
    """Sends all requests to which links lead."""

    def __init__(self, server):
        self.server = server
        self.operations = {
            operation["operationId"]: (method, path, operation)
            for path, item in server.specification["paths"].items()
            for method, operation in item.items()
        }
        self.followed = set()

    def links(self):
        """Return where links lead from and to."""
        return {(source, target) for source in self.operations for target in self._links(source)}

    def begin(self, name):
        """Send the example of an operation, and follow its links."""
        contents = self.operations[name][2]["requestBody"]["content"]
        if FORM in contents:
            example = dict(contents[FORM]["example"])
            files = {"file": ("a.txt", example.pop("file"))}
            answer = self._request(name, files=files, data=example)
        else:
            body = ADDED if name == "changeModels" else contents[JSON]["example"]
            answer = self._request(name, json=body)
        assert answer.status_code in (200, 201), answer.text
        self._follow(name, answer.json())

    def _links(self, name):
        replies = self.operations[name][2]["responses"]
        found = [replies.get(status, {}).get("links", {}) for status in ("200", "201")]
        return {**found[0], **found[1]}

    def _follow(self, source, answered):
        for target, link in self._links(source).items():
            if (source, target) in self.followed:
                continue
            self.followed.add((source, target))
            given = _filled(link.get("parameters", {}), answered)
            path = self.operations[target][1]
            in_path = {name: given.pop(name) for name in list(given) if f"{{{name}}}" in path}
            request = {"params": given, "in_path": in_path}
            if "requestBody" in link:
                request["json"] = _filled(link["requestBody"], answered)
            answer = self._request(target, **request)
            expected = NOT_200.get(target, 200)
            assert answer.status_code == expected, (source, target, answer.text)
            if answer.ok and JSON in answer.headers.get("Content-Type", ""):
                self._follow(target, answer.json())

    def _request(self, name, *, in_path=None, **kwargs):
        method, path, _ = self.operations[name]
        path = path.format(**in_path or {})
        answer = self.server.request(method.upper(), path, **kwargs)
        kind = answer.headers.get("Content-Type", "")
        check_reply(method, path, answer.status_code, kind, answer.content)
        return answer


def _filled(template, answered):
    """Return a template with the values of its runtime expressions."""
    if isinstance(template, dict):
        return {key: _filled(value, answered) for key, value in template.items()}
    if not isinstance(template, str):
        return template
    whole = EXPRESSION.fullmatch(template)
    if whole is not None:
        return answered[whole[1]]
    return re.sub(r"\{([^}]+)\}", lambda part: str(_filled(part[1], answered)), template)


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_every_link_of_a_reply_can_be_followed(specified):
    walk = Walk(specified)
    for name in ROOTS:
        walk.begin(name)
    assert walk.followed == walk.links()


CONFIGURATION = Path(__file__).with_name("fuzz.toml")
# Parameters whose examples would send all requests to ComfyDeploy, or change to a WebSocket.
MISLEADING = ("api_url", "X-ComfyDeploy-Token", "Upgrade")


@pytest.mark.timeout(600)
def test_no_reply_is_a_server_error_or_unspecified(specified, tmp_path):
    known = [o for item in specified.specification["paths"].values() for o in item.values()]
    for operation in known:
        for parameter in operation["parameters"]:
            if parameter["name"] in MISLEADING:
                del parameter["example"]
    document, notes = tmp_path / "openapi.json", tmp_path / "notes.jsonl"
    document.write_text(json.dumps(specified.specification))
    phases = "examples,coverage,fuzzing" if THOROUGH else "examples"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
            *("run", str(document), "--url", specified.url, "--phases", phases),
            *("--header", f"Authorization: token {specified.jupyter.token}"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "SCHEMATHESIS_HOOKS": "tests.openapi.hooks",
            "FUZZ_NOTES": str(notes),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = defaultdict(set)
    for line in notes.read_text().splitlines():
        noted = json.loads(line)
        statuses[noted["operation"]].add(noted["status"])
    ours = {operation["operationId"] for operation in known if operation["tags"] != ["ComfyUI"]}
    if not THOROUGH:  # not all routes have examples
        assert len(statuses) > 0.9 * len(ours)
        return
    assert set(statuses) == ours
    # It got further than to the checks of the requests.
    without = {name for name, seen in statuses.items() if not seen & {200, 201, 202, 204}}
    assert without <= {"openSocket", "getSiteRoot", "getSitePage"}
