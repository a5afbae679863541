"""A server that answers like a ComfyUI whose nodes take no time, to measure everything around it.

    python -m tests.helpers.instant_comfyui PORT…

Each port is a separate ComfyUI. They have two nodes, ``TestText`` and ``TestPicture``, whose output
is the picture that its text names, and send the events of ComfyUI 0.3.75 for them. A real one takes
some milliseconds of a core for each prompt.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

if TYPE_CHECKING:
    from collections.abc import Sequence

NODE = {
    "input": {"required": {"text": ["STRING", {}], "token": ["STRING", {}]}},
    "input_order": {"required": ["text", "token"]},
    "output": ["STRING"],
    "output_is_list": [False],
    "output_name": ["STRING"],
    "name": "TestText",
    "display_name": "TestText",
    "description": "",
    "python_module": "custom_nodes.tests",
    "category": "tests",
    "output_node": True,
}
SYSTEM = {
    "os": "posix",
    "ram_total": 1,
    "ram_free": 1,
    "comfyui_version": "0.3.75",
    "python_version": "3.11",
    "pytorch_version": "2",
    "embedded_python": False,
    "argv": ["main.py"],
}


class InstantComfyUI:
    """One server: its queue, its history and its WebSockets."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.released.set()
        self.classes = ["TestText", "TestPicture"]
        self.answers_pings = True
        self.fails = False  # whether each prompt fails in its first node
        self.files: dict[str, bytes] = {}
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._waiting: deque[tuple[int, str, str, dict[str, Any]]] = deque()
        self._any_waits = asyncio.Event()
        self._running: list[tuple[int, str]] = []
        self._history: dict[str, dict[str, Any]] = {}
        self.number = 0

    async def serve(self, port: int) -> None:
        app = web.Application()
        app.router.add_get("/ws", self.websocket)
        app.router.add_post("/prompt", self.queue_prompt)
        app.router.add_get("/prompt", self.remaining)
        app.router.add_get("/queue", self.queue)
        app.router.add_get("/history/{prompt_id}", self.history)
        app.router.add_get("/system_stats", self.stats)
        app.router.add_get("/object_info", self.definitions)
        app.router.add_get("/view", self.view)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            while True:
                await self._any_waits.wait()
                while self._waiting:
                    await self._execute(*self._waiting.popleft())
                self._any_waits.clear()
        finally:
            await runner.cleanup()

    @property
    def load(self) -> tuple[int, int]:
        """How many prompts it executes, and how many wait there."""
        return len(self._running), len(self._waiting)

    async def websocket(self, request: web.Request) -> web.WebSocketResponse:
        client_id = request.query.get("clientId", "")
        socket = self._sockets[client_id] = web.WebSocketResponse(autoping=self.answers_pings)
        await socket.prepare(request)
        status = {"status": self._status(), "sid": client_id}
        await socket.send_str(json.dumps({"type": "status", "data": status}))
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
        if self._sockets.get(client_id) is socket:
            del self._sockets[client_id]
        return socket

    async def queue_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        unknown = {node["class_type"] for node in body["prompt"].values()} - {*self.classes}
        if unknown:
            error = {"type": "invalid_prompt", "message": f"Cannot execute because {unknown}"}
            error |= {"details": "", "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        number, prompt_id = self.number, str(body["prompt_id"])
        self.number += 1
        self._waiting.append((number, prompt_id, str(body["client_id"]), body["prompt"]))
        self._any_waits.set()
        await self._send_status()
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": {}})

    async def remaining(self, request: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def queue(self, request: web.Request) -> web.Response:
        """Return the queue, without its graphs."""
        waiting = [[*item[:2], {}, {}, []] for item in self._waiting]
        running = [[*item, {}, {}, []] for item in self._running]
        return web.json_response({"queue_running": running, "queue_pending": waiting})

    async def history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        found = self._history.get(prompt_id)
        return web.json_response({} if found is None else {prompt_id: found})

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({"system": SYSTEM, "devices": []})

    async def definitions(self, request: web.Request) -> web.Response:
        return web.json_response({name: {**NODE, "name": name} for name in self.classes})

    async def view(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.query["filename"]])

    async def _execute(
        self, number: int, prompt_id: str, client_id: str, graph: dict[str, Any]
    ) -> None:
        self._running = [(number, prompt_id)]
        socket = self._sockets.get(client_id)
        outputs: dict[str, Any] = {}

        async def send(kind: str, **data: Any) -> None:
            if socket is not None and not socket.closed:
                message = {"type": kind, "data": {**data, "prompt_id": prompt_id}}
                await socket.send_str(json.dumps(message))

        await send("execution_start", timestamp=int(time.time() * 1000))
        await send("execution_cached", nodes=[], timestamp=int(time.time() * 1000))
        await self.released.wait()
        if self.fails:
            node = next(iter(graph))
            about = {"node_id": node, "node_type": graph[node]["class_type"], "executed": []}
            fault = {"exception_message": "no kernel image", "exception_type": "RuntimeError"}
            error = {**about, **fault, "traceback": [], "timestamp": int(time.time() * 1000)}
            await send("execution_error", **error)
            await self._end(number, prompt_id, {}, [["execution_error", error]])
            await send("executing", node=None)
            return
        for node, content in graph.items():
            state = {"value": 0.0, "max": 1.0, "state": "running", "node_id": node}
            await send("progress_state", nodes={node: {**state, "prompt_id": prompt_id}})
            await send("executing", node=node, display_node=node)
            text = str(content["inputs"].get("text"))
            outputs[node] = {"text": [text]}
            if content["class_type"] == "TestPicture":
                outputs[node] = {"images": [{"filename": text, "subfolder": "", "type": "output"}]}
            await send("executed", node=node, display_node=node, output=outputs[node])
            state = {"value": 1.0, "max": 1.0, "state": "finished", "node_id": node}
            await send("progress_state", nodes={node: {**state, "prompt_id": prompt_id}})
        await send("execution_success", timestamp=int(time.time() * 1000))
        await self._end(number, prompt_id, outputs)
        await send("executing", node=None)

    async def _end(
        self, number: int, prompt_id: str, outputs: dict[str, Any], errors: Sequence[Any] = ()
    ) -> None:
        if len(self._history) > 10_000:
            self._history.clear()
        status = "error" if errors else "success"
        self._history[prompt_id] = {
            "prompt": [number, prompt_id, {}, {}, []],
            "outputs": outputs,
            "status": {"status_str": status, "completed": not errors, "messages": [*errors]},
            "meta": {},
        }
        self._running = []
        await self._send_status()

    def _status(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": len(self._waiting) + len(self._running)}}

    async def _send_status(self) -> None:
        message = json.dumps({"type": "status", "data": {"status": self._status()}})
        for socket in list(self._sockets.values()):
            if not socket.closed:
                await socket.send_str(message)


async def main(ports: list[int]) -> None:
    await asyncio.gather(*(InstantComfyUI().serve(port) for port in ports))


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
