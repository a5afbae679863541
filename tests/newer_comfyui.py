"""A replacement for ComfyUI 0.33: a real ComfyUI behind a proxy that adds newer behaviour.

As observed with ComfyUI 0.33.0: ``POST /prompt`` accepts only UUIDs in canonical form as prompt
ids, there is a jobs API, progress is sent at most every 100 ms, and ``/system_stats`` has the
version. If the ComfyUI behind the proxy is a newer one, its behaviour is not changed.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from tests.faulty_comfyui import FaultyComfyUI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.comfyui_server import ComfyUIServer

VERSION = "0.33.0"
PROGRESS_EVERY = 0.1  # seconds
REFUSED_ID = {
    "error": {
        "type": "invalid_prompt_id",
        "message": "prompt_id must be a valid UUID",
        "details": "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
        "omit it to let the server generate one",
        "extra_info": {},
    },
    "node_errors": {},
}


class NewerComfyUI(FaultyComfyUI):
    """The proxy.

    Attributes
    ----------
    prompts : list of dict
        The bodies of the prompts that were queued, oldest first.
    version : str
        The version that it reports.
    lacks : set of str
        Routes that it does not have: ``jobs`` or ``cancel`` (0.3.76 has only the first).
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.prompts: list[dict[str, Any]] = []
        self.lacks: set[str] = set()
        self.version = VERSION

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and request.path == "/prompt":
            body = await request.json()
            if not _is_uuid(body.get("prompt_id")):
                return web.json_response(REFUSED_ID, status=400)
            self.prompts.append(body)
        elif request.path.startswith("/api/jobs/"):
            _, _, _, prompt_id, *action = request.path.split("/")
            if "jobs" not in self.lacks and request.method == "GET" and not action:
                self.requests[f"GET {request.path}"] += 1
                return await self._job(prompt_id)
            if "cancel" not in self.lacks and request.method == "POST" and action == ["cancel"]:
                self.requests[f"POST {request.path}"] += 1
                return await self._cancel(prompt_id)
            raise web.HTTPNotFound
        elif request.path == "/system_stats":
            stats = await self._request("GET", "/system_stats")
            stats["system"]["comfyui_version"] = self.version
            return web.json_response(stats)
        return await super()._pass_on(request)

    async def _job(self, prompt_id: str) -> web.StreamResponse:
        place, entry = await self._find(prompt_id)
        if place is None:
            return web.json_response({"error": "Job not found"}, status=404)
        job = {"id": prompt_id, "status": place, "outputs_count": 0}
        if entry is not None:
            if _has_odd_names(entry["outputs"]):
                raise web.HTTPInternalServerError  # like 0.33.0, which interprets each name as text
            job["outputs"], job["execution_status"] = entry["outputs"], entry["status"]
        return web.json_response(job)

    async def _cancel(self, prompt_id: str) -> web.StreamResponse:
        place, _ = await self._find(prompt_id)
        if place == "pending":
            await self._request("POST", "/queue", {"delete": [prompt_id]})
        elif place == "in_progress":
            await self._request("POST", "/interrupt", {"prompt_id": prompt_id})
        return web.json_response({"cancelled": place in ("pending", "in_progress")})

    async def _find(self, prompt_id: str) -> tuple[str | None, dict[str, Any] | None]:
        entry = (await self._request("GET", f"/history/{prompt_id}")).get(prompt_id)
        if entry is not None:
            names = [name for name, _ in entry["status"]["messages"]]
            done = "completed" if entry["status"]["status_str"] == "success" else "failed"
            return ("cancelled" if "execution_interrupted" in names else done), entry
        queue = await self._request("GET", "/queue")
        for place, key in (("in_progress", "queue_running"), ("pending", "queue_pending")):
            if any(item[1] == prompt_id for item in queue[key]):
                return place, None
        return None, None

    async def _request(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, self.target + path, json=body) as answer:
            text = await answer.text()
            return json.loads(text) if text else None

    def _passer(self) -> Callable[[aiohttp.WSMessage], bool]:
        forwarded_at = 0.0  # time at which progress was last forwarded

        def passes(message: aiohttp.WSMessage) -> bool:
            nonlocal forwarded_at
            if message.type is not aiohttp.WSMsgType.TEXT:
                return True
            event = json.loads(message.data)
            data = event["data"]
            if event["type"] != "progress" or data["value"] == data["max"]:
                return True
            if time.monotonic() - forwarded_at < PROGRESS_EVERY:
                return False
            forwarded_at = time.monotonic()
            return True

        return passes


def _has_odd_names(outputs: dict[str, Any]) -> bool:
    items = (i for node in outputs.values() for listed in node.values() for i in listed)
    return any(isinstance(i, dict) and not isinstance(i.get("filename", ""), str) for i in items)


def _is_uuid(value: Any) -> bool:
    try:
        return value is None or str(uuid.UUID(value)) == value
    except (ValueError, AttributeError, TypeError):
        return False


@pytest.fixture
def newer(comfyui: ComfyUIServer) -> Iterator[NewerComfyUI]:
    """The shared ComfyUI with the behaviour of version 0.33."""
    proxy = NewerComfyUI(comfyui.url)
    proxy.start()
    yield proxy
    proxy.close()
