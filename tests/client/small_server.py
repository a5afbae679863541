"""A small HTTP server whose replies a test defines, for errors that Jupyter does not make."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = "/user/a%40b/"


@dataclass
class Request:
    """One received request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Reply:
    """Writes the reply of one request."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler

    def json(self, value: object, status: int = 200) -> None:
        self.raw(json.dumps(value).encode(), status, "application/json")

    def raw(
        self,
        content: bytes,
        status: int = 200,
        content_type: str = "text/html",
        headers: dict[str, str] | None = None,
    ) -> None:
        self._handler.send_response(status)
        for key, value in {"Content-Type": content_type, **(headers or {})}.items():
            self._handler.send_header(key, value)
        self._handler.send_header("Content-Length", str(len(content)))
        self._handler.end_headers()
        self._handler.wfile.write(content)

    def start_stream(self, *, chunked: bool = True) -> None:
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "text/event-stream")
        if chunked:
            self._handler.send_header("Transfer-Encoding", "chunked")
        else:
            self._handler.send_header("Connection", "close")
        self._handler.end_headers()
        self._chunked = chunked

    def write(self, data: bytes) -> None:
        if self._chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def event(self, number: int, content: object) -> None:
        text = f"id: {number}\nevent: event_update\ndata: {json.dumps(content)}\n\n"
        self.write(text.encode())

    def accept(self, request: Request) -> None:
        """Reply to the start of a run: ComfyUI has queued it."""
        self.start_stream()
        self.event(1, {"prompt_id": request.body["prompt_id"], "number": 1, "node_errors": {}})
        self.end_stream()

    def end_stream(self) -> None:
        if self._chunked:
            self._handler.wfile.write(b"0\r\n\r\n")
        self._handler.wfile.flush()

    def cut(self) -> None:
        """Close the connection without a reply."""
        self._handler.close_connection = True


class SmallServer:
    """Calls ``answer(request, reply)`` for every request; stores the requests."""

    def __init__(self, answer: Callable[[Request, Reply], None]) -> None:
        self.requests: list[Request] = []
        small = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                content = self.rfile.read(length)
                request = Request(
                    self.command,
                    parts.path,
                    {key: values[0] for key, values in parse_qs(parts.query).items()},
                    dict(self.headers),
                    json.loads(content) if content[:1] in (b"{", b"[") else None,
                )
                small.requests.append(request)
                answer(request, Reply(self))

            do_GET = do_POST = _answer  # noqa: N815 - the names that the base class requires

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}{BASE}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
