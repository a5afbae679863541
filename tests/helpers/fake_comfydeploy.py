"""A small ComfyDeploy: a real HTTP server with the routes and the peculiarities of the service."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.helpers.servers import AppServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]

KEY = "cd-key-of-ada"
GPUS = ("CPU", "T4", "L4", "A10G", "L40S", "A100", "A100-80GB", "H100", "H200", "B200")
MIB = 1024 * 1024


@dataclass
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Workflow:
    id: str
    name: str
    machine_id: str | None
    created_at: datetime
    updated_at: datetime
    versions: list[dict[str, Any]] = field(default_factory=list)


class FakeComfyDeploy(AppServer):
    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.workflows: dict[str, Workflow] = {}
        self.machines: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.sign_ins: dict[str, str] = {}
        self.keys = {KEY}
        self._faults: deque[Respond | None] = deque()
        self.start()
        self.root, self.url = self.url, f"{self.url}/api"

    # -- for tests ---------------------------------------------------------------------------

    def fail(
        self,
        status: int,
        *,
        times: int = 1,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            if isinstance(body, str):
                return web.Response(
                    status=status, text=body, content_type="text/html", headers=headers
                )
            shown = body or {"detail": "injected"}
            return web.json_response(shown, status=status, headers=headers)

        self._faults.extend([answer] * times)

    def answer(self, body: Any) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(body)

        self._faults.append(answer)

    def let_pass(self) -> None:
        """Reply to the next request without an error, before the errors that follow."""
        self._faults.append(None)

    def hang(self) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            return web.Response()

        self._faults.append(answer)

    def cut(self, *, times: int = 1) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        self._faults.extend([answer] * times)

    def approve(self, request_id: str, key: str = KEY) -> None:
        self.sign_ins[request_id] = key

    def paths(self, method: str | None = None) -> list[str]:
        """Return the requested paths, below the API."""
        return [s.path.removeprefix("/api") for s in self.seen if method in (None, s.method)]

    # -- the server --------------------------------------------------------------------------

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._middleware], client_max_size=64 * MIB)
        for method, path, handler in (
            ("POST", "/api/workflow", self._create_workflow),
            ("GET", "/api/workflows", self._list_workflows),
            ("GET", "/api/workflow/{id}", self._get_workflow),
            ("POST", "/api/workflow/{id}/version", self._create_version),
            ("GET", "/api/workflow/{id}/versions", self._list_versions),
            ("GET", "/api/workflow/{id}/version/{number}", self._get_version),
            ("POST", "/api/machine/serverless", self._create_machine),
            ("PATCH", "/api/machine/serverless/{id}", self._update_machine),
            ("GET", "/api/machine/{id}", self._get_machine),
            ("POST", "/api/snapshot-to-docker", self._snapshot),
            ("GET", "/api/latest-hashes", self._hashes),
            ("GET", "/api/platform/comfyui/auth-response", self._auth_response),
            ("POST", "/api/volume/model", self._add_model),
            ("POST", "/api/volume/file/{step}", self._file_step),
            ("GET", "/api/file-upload", self._presign),
            ("PUT", "/bucket/{tail:.*}", self._put),
            ("POST", "/api/native", self._native),
        ):
            app.router.add_route(method, path, handler)
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Respond) -> web.StreamResponse:
        text = await request.read()
        self.seen.append(
            Seen(
                request.method,
                request.path,
                dict(request.query),
                dict(request.headers),
                json.loads(text) if text and request.path.startswith("/api") else text,
            )
        )
        fault = self._faults.popleft() if self._faults else None
        if fault is not None:
            return await fault(request)
        public = ("/api/platform/comfyui/auth-response", "/bucket/")
        if not request.path.startswith(public):
            scheme, _, key = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or key not in self.keys:
                return web.json_response({"detail": "Invalid or expired token"}, status=401)
        try:
            return await handler(request)
        except RefusedError as error:
            return web.json_response(error.body, status=error.status)

    # -- workflows ---------------------------------------------------------------------------

    async def _create_workflow(self, request: web.Request) -> web.Response:
        body = await _body(request, name=str, workflow_json=str)
        now = datetime.now(timezone.utc)
        made = Workflow(str(uuid.uuid4()), body["name"], body.get("machine_id"), now, now)
        self.workflows[made.id] = made
        api = body.get("workflow_api")
        self._add_version(
            made,
            json.loads(body["workflow_json"]),
            json.loads(api) if api is not None else None,
            "initial version",
        )
        return web.json_response({"workflow_id": made.id, "machine_id": made.machine_id})

    async def _create_version(self, request: web.Request) -> web.Response:
        body = await _body(request, workflow=dict, workflow_api=dict)
        found = self.workflows.get(request.match_info["id"])
        if found is None:
            return web.Response(status=500, text="Internal Server Error")
        row = self._add_version(found, body["workflow"], body["workflow_api"], body.get("comment"))
        return web.json_response(row)

    def _add_version(
        self, workflow: Workflow, ui: Any, api: Any, comment: str | None
    ) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        number = len(workflow.versions) + 1
        row = {
            "id": str(uuid.uuid4()),
            "workflow_id": workflow.id,
            "version": number,
            # One column is JSON, and the driver does not always decode it.
            "workflow": ui,
            "workflow_api": json.dumps(api) if number % 2 else api,
            "comment": comment,
            "created_at": _date(now, number),
            "updated_at": _date(now, number + 1),
            "user_id": "user_1",
        }
        workflow.versions.append(row)
        workflow.updated_at = now + timedelta(microseconds=len(self.seen))
        return row

    async def _list_workflows(self, request: web.Request) -> web.Response:
        limit, offset = _page(request)
        search = request.query.get("search", "").lower()
        found = sorted(self.workflows.values(), key=lambda w: w.updated_at, reverse=True)
        rows = [
            {
                "id": w.id,
                "name": w.name,
                "created_at": _date(w.created_at, place),
                "updated_at": _date(w.updated_at, place + 1),
                "pinned": False,
                "cover_image": None,
                "user_name": "Ada",
                "selected_machine_id": w.machine_id,
            }
            for place, w in enumerate(found)
            if search in w.name.lower()
        ]
        return web.json_response(rows[offset : offset + limit])

    async def _get_workflow(self, request: web.Request) -> web.Response:
        found = self._workflow(request)
        limit = int(request.query.get("limit", 1))
        return web.json_response(
            {
                "id": found.id,
                "name": found.name,
                "created_at": _date(found.created_at, 2),
                "updated_at": _date(found.updated_at, 3),
                "selected_machine_id": found.machine_id,
                "pinned": False,
                "versions": [*found.versions[::-1][:limit], None],
            }
        )

    def _workflow(self, request: web.Request) -> Workflow:
        found = self.workflows.get(request.match_info["id"])
        if found is None:
            raise RefusedError(404, {"detail": "Workflow not found"})
        return found

    async def _list_versions(self, request: web.Request) -> web.Response:
        found = self._workflow(request)
        limit, offset = _page(request)
        search = request.query.get("search", "").lower()
        rows = [v for v in found.versions[::-1] if search in (v["comment"] or "").lower()]
        return web.json_response(rows[offset : offset + limit])

    async def _get_version(self, request: web.Request) -> web.Response:
        found = self.workflows.get(request.match_info["id"])
        try:
            number = int(request.match_info["number"])
        except ValueError:
            raise _unprocessable("version", "Input should be a valid integer") from None
        if found is None or not 1 <= number <= len(found.versions):
            return web.json_response({"detail": "Workflow version not found"}, status=404)
        return web.json_response(found.versions[number - 1])

    # -- machines ----------------------------------------------------------------------------

    async def _create_machine(self, request: web.Request) -> web.Response:
        body = await _body(request, name=str, gpu=str)
        if body["gpu"] not in GPUS:
            raise _unprocessable("gpu", f"Input should be one of {', '.join(GPUS)}")
        if any(machine["name"] == body["name"] for machine in self.machines.values()):
            return web.json_response({"error": "Machine name already exists"}, status=409)
        defaults = {"concurrency_limit": 1, "run_timeout": 300, "idle_timeout": 60}
        made = {
            **defaults,
            **body,
            "id": str(uuid.uuid4()),
            "type": "comfy-deploy-serverless",
            "status": "building",
            "endpoint": None,
            "created_at": _date(datetime.now(timezone.utc), 3),
        }
        self.machines[made["id"]] = made
        return web.json_response(made)

    async def _update_machine(self, request: web.Request) -> web.Response:
        found = self._machine(request)
        found.update(json.loads(await request.read()))
        return web.json_response(found)

    def _machine(self, request: web.Request) -> dict[str, Any]:
        found = self.machines.get(request.match_info["id"])
        if found is None:
            raise RefusedError(404, {"error": "Machine not found"})
        return found

    async def _get_machine(self, request: web.Request) -> web.Response:
        found = self._machine(request)
        answer = web.json_response(found)
        if found["status"] == "building":  # the next request finds it ready
            found.update(status="ready", endpoint=f"{self.root}/machine")
        return answer

    async def _snapshot(self, request: web.Request) -> web.Response:
        body = await _body(request, git_custom_nodes=dict, cnr_custom_nodes=dict)
        steps = [
            {
                "id": uuid.uuid4().hex[:8],
                "type": "custom-node",
                "data": {
                    "url": url,
                    "hash": entry["hash"],
                    "name": url.rstrip("/").rsplit("/", 1)[-1],
                    "files": [url],
                    "install_type": "git-clone",
                },
            }
            for url, entry in body["git_custom_nodes"].items()
            if not entry["disabled"]
        ]
        for node_id, version in body["cnr_custom_nodes"].items():
            data = {"node_id": node_id, "version": version}
            step = {"id": uuid.uuid4().hex[:8], "type": "custom-node-manager", "data": data}
            steps.append(step)
        return web.json_response({"steps": steps})

    async def _hashes(self, _: web.Request) -> web.Response:
        release = {"comfyui_hash": "a" * 40, "comfyui_latest_release": "v0.3.75"}
        return web.json_response({**release, "comfydeploy_hash": "b" * 40})

    async def _auth_response(self, request: web.Request) -> web.Response:
        request_id = request.query.get("request_id", "")
        if request_id not in self.sign_ins:
            return web.json_response({"detail": "Auth request not found"}, status=404)
        key, self.sign_ins[request_id] = self.sign_ins[request_id], ""
        if not key:
            return web.json_response({"detail": "Auth request expired"}, status=410)
        return web.json_response({"api_key": key, "name": "Ada"})

    # -- volumes -----------------------------------------------------------------------------

    async def _add_model(self, request: web.Request) -> web.Response:
        body = await _body(request, source=str, folderPath=str)
        name = f"{body['folderPath']}/{body.get('filename')}"
        if name in self.models:
            return web.json_response({"error": "Model already exists"}, status=409)
        self.models[name] = body
        return web.json_response({"message": "Model download started", "model_id": name})

    async def _file_step(self, request: web.Request) -> web.Response:
        body = await _body(request)
        step = request.match_info["step"]
        if step in ("generate-upload-url", "initiate-multipart-upload"):
            await _body(request, filename=str, contentType=str, size=int)
            key = f"volume/{uuid.uuid4().hex}/{body['filename']}"
            if step == "generate-upload-url":
                url = f"{self.root}/bucket/{key}"
                return web.json_response({"uploadUrl": url, "objectKey": key})
            self.uploads[key] = {"uploadId": uuid.uuid4().hex, "parts": {}, "state": "open"}
            upload_id = self.uploads[key]["uploadId"]
            return web.json_response({"uploadId": upload_id, "key": key, "partSize": 5 * MIB})
        await _body(request, uploadId=str, key=str)
        upload = self.uploads.get(body["key"])
        if upload is None or upload["uploadId"] != body["uploadId"]:
            return web.json_response({"error": "Upload not found"}, status=404)
        if step == "generate-part-upload-url":
            await _body(request, partNumber=int)
            url = f"{self.root}/bucket/{body['key']}?partNumber={body['partNumber']}"
            return web.json_response({"uploadUrl": url})
        if step == "complete-multipart-upload":
            reported = {part["partNumber"]: part["eTag"] for part in body["parts"]}
            if reported != {number: tag for number, (tag, _) in upload["parts"].items()}:
                return web.json_response({"error": "Parts do not match"}, status=400)
            upload["state"] = "complete"
            return web.json_response({"status": "ok", "key": body["key"]})
        if step == "abort-multipart-upload":
            upload["state"] = "aborted"
            return web.json_response({"status": "aborted"})
        return web.json_response({"detail": "Not Found"}, status=404)

    async def _presign(self, _: web.Request) -> web.Response:
        url = f"{self.root}/bucket/{uuid.uuid4().hex}"
        return web.json_response({"upload_url": url, "download_url": url, "include_acl": False})

    async def _put(self, request: web.Request) -> web.Response:
        key = request.match_info["tail"]
        content = await request.read()
        tag = f'"{uuid.uuid4().hex}"'
        if "partNumber" in request.query:
            self.uploads[key]["parts"][int(request.query["partNumber"])] = (tag, content)
        else:
            self.uploads[key] = {"state": "complete", "content": content}
        return web.Response(headers={"ETag": tag})

    async def _native(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        return web.json_response({"workflow_api_json": body["workflow_api"], "inputs": {}})


class RefusedError(Exception):
    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.status, self.body = status, body


def _unprocessable(name: str, problem: str) -> RefusedError:
    detail = [{"type": "missing", "loc": ["body", name], "msg": problem}]
    return RefusedError(422, {"detail": detail})


async def _body(request: web.Request, **fields: type) -> dict[str, Any]:
    """Return the body of a request, which must have fields of these types."""
    body = json.loads(await request.read())
    for name, kind in fields.items():
        if name not in body:
            raise _unprocessable(name, "Field required")
        if not isinstance(body[name], kind):
            raise _unprocessable(name, f"Input should be a valid {kind.__name__}")
    return body


def _page(request: web.Request) -> tuple[int, int]:
    return int(request.query.get("limit", 100)), int(request.query.get("offset", 0))


def _date(moment: datetime, form: int) -> str:
    """Write a date in one of the formats of the service."""
    forms = (
        moment.strftime("%Y-%m-%d %H:%M:%S.%f"),
        moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z",
        moment.strftime("%Y-%m-%d %H:%M:%S.%f") + "+00Z",
        moment.isoformat(),
    )
    return forms[form % len(forms)]


@pytest.fixture
def comfydeploy() -> Iterator[FakeComfyDeploy]:
    service = FakeComfyDeploy()
    yield service
    service.close()


@pytest.fixture
def cloud_config(tmp_path, comfydeploy: FakeComfyDeploy, monkeypatch) -> dict[str, Any]:
    """The configuration of a server that uses `comfydeploy`, and has no ComfyUI and no key."""
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    return {
        "comfyui_url": "http://127.0.0.1:9",
        "data_dir": str(tmp_path / "data"),
        "autostart": False,
        "cloud_url": comfydeploy.url,
        "allowed_api_urls": [comfydeploy.root],
    }
