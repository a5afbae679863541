"""Passes requests of a page that does not reach the routes by itself on to the server."""

from __future__ import annotations

import re
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import requests

from ..client.files import UPLOAD_TIMEOUT, Form
from ..client.server import READ_TIMEOUT, chunks_of, interrupt, send_any, unreachable
from ..errors import ComfyDeployError, InvalidRequestError
from .page import STATIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..client import Comfy

METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})
PATH = re.compile(r"[a-z][\w-]*(/[\w-]+)*")
"""The routes that are passed on: those below the prefix of this package, without ``..``."""

SCRIPTS = frozenset(f"viewers/{path.name}" for path in (STATIC / "viewers").glob("*.js"))
"""The scripts that panels load when they need them."""

MAX_OPEN = 8
"""How many streams and uploads a page may have open."""

REQUESTS = 4
"""How many requests are sent at the same time."""

CHUNK = 256 * 1024

Message = dict[str, Any]


@dataclass
class _ArrivingFile:
    file: IO[bytes]
    missing: int
    message: Message


class Bridge:
    """Answers the messages of ``ThroughKernel`` in ``js/src/transport.ts``.

    The token is added here, so the page never gets it. Contents are binary parts of messages,
    which no notebook stores.
    """

    def __init__(
        self, comfy: Callable[[], Comfy], send: Callable[[Message, list[bytes]], object]
    ) -> None:
        self._comfy = comfy
        self._send = send
        self._pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="comfydeploy-requests")
        self._lock = threading.Lock()
        self._asked: dict[str, Future[None]] = {}
        self._arriving: dict[str, _ArrivingFile] = {}
        self._open: dict[str, requests.Response | None] = {}  # None until there is a response
        self._closed = False

    def receive(self, message: Message, buffers: Sequence[memoryview]) -> None:
        """Handle a message of the page; do not wait."""
        handle = getattr(self, f"_on_{message.get('kind')}", None)
        if handle is not None and not self._closed:
            handle(message, buffers)

    def close(self) -> None:
        """End all requests."""
        with self._lock:
            self._closed = True
            ids = {*self._open, *self._arriving}
        for each in ids:
            self._on_abort({"id": each}, [])
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _on_request(self, message: Message, _: object) -> None:
        key = str(message["id"])
        self._asked[key] = asked = self._pool.submit(self._attempt, self._request, message)
        asked.add_done_callback(lambda _: self._asked.pop(key, None))

    def _on_script(self, message: Message, _: object) -> None:
        self._pool.submit(self._attempt, self._script, message)

    def _on_ping(self, message: Message, _: object) -> None:
        self._send({"kind": "pong", "id": message["id"]}, [])

    def _on_stream(self, message: Message, _: object) -> None:
        self._start(self._stream, message)

    def _on_upload(self, message: Message, _: object) -> None:
        file = tempfile.TemporaryFile(prefix="comfydeploy-")  # noqa: SIM115 - closed by _upload
        arriving = _ArrivingFile(file, int(message["size"]), message)
        with self._lock:
            self._arriving[str(message["id"])] = arriving
        self._took(arriving)

    def _on_piece(self, message: Message, buffers: Sequence[memoryview]) -> None:
        """Write a piece of a file.

        JupyterLab sends the first messages of a widget to the kernel's main thread and later ones
        to a subshell, so the pieces come in any order, and two at the same time.
        """
        with self._lock:
            arriving = self._arriving.get(str(message["id"]))
            if arriving is None:
                return  # the page has given it up
            arriving.file.seek(int(message["offset"]))
            arriving.file.write(buffers[0])
            arriving.missing -= len(buffers[0])
        self._took(arriving)

    def _took(self, arriving: _ArrivingFile) -> None:
        """Confirm a part, and send the file on when it is complete."""
        key = str(arriving.message["id"])
        self._send({"kind": "took", "id": key}, [])
        with self._lock:
            complete = arriving.missing <= 0 and self._arriving.pop(key, None) is not None
        if complete:
            self._start(self._upload, arriving.message, arriving.file)

    def _on_abort(self, message: Message, _: object) -> None:
        key = str(message["id"])
        if (asked := self._asked.get(key)) is not None:
            asked.cancel()  # if it has not been sent yet
        with self._lock:
            arriving, response = self._arriving.pop(key, None), self._open.pop(key, None)
        if arriving is not None:
            arriving.file.close()
        if response is not None:
            interrupt(response)

    def _start(self, task: Callable[..., object], message: Message, *more: object) -> None:
        """Do something in a thread that may take long, and that the page can end."""
        with self._lock:
            is_full = len(self._open) >= MAX_OPEN
            if not is_full:
                self._open[str(message["id"])] = None
        if is_full:
            self._fail(message, "The panel has too many requests open at the same time")
            return
        threading.Thread(
            target=self._attempt,
            args=(task, message, *more),
            name="comfydeploy-page",
            daemon=True,
        ).start()

    # -- in threads ----------------------------------------------------------------------------

    def _attempt(self, task: Callable[..., object], message: Message, *more: object) -> None:
        try:
            task(message, *more)
        except ComfyDeployError as error:
            self._fail(message, error.message)
        except (requests.RequestException, OSError, ValueError, AttributeError) as error:
            # urllib3 raises any of these if a connection is ended while it is read
            self._fail(message, unreachable(self._comfy().server.url, error).message)
        finally:
            with self._lock:
                self._open.pop(str(message["id"]), None)

    def _fail(self, message: Message, text: str) -> None:
        self._send({"kind": "failed", "id": message["id"], "error": text}, [])

    @contextmanager
    def _response(self, message: Message, **content: Any) -> Iterator[requests.Response]:
        method, path = str(message.get("method", "POST")), str(message["path"])
        if method not in METHODS or not PATH.fullmatch(path):
            raise InvalidRequestError.of_field("path", f"is not that of a route: {path}")
        if message.get("body") is not None:
            content["data"] = str(message["body"]).encode()
            content["headers"] = {"Content-Type": "application/json"}
        server = self._comfy().server
        address = server.address(path, dict(parse_qsl(str(message["query"]))))
        timeout = UPLOAD_TIMEOUT if message["kind"] == "upload" else READ_TIMEOUT
        key = str(message["id"])
        with (
            server.session() as session,
            send_any(session, method, address, timeout=timeout, **content) as response,
        ):
            with self._lock:
                if key in self._open:
                    self._open[key] = response
            yield response

    def _reply(self, message: Message, response: requests.Response) -> None:
        headers = response.headers
        facts = {
            "status": response.status_code,
            "type": headers.get("Content-Type", ""),
            "size": int(headers.get("Content-Length", -1)),
        }
        self._send({"kind": "reply", "id": message["id"], **facts}, [response.content])

    def _request(self, message: Message) -> None:
        with self._response(message) as response:
            self._reply(message, response)

    def _script(self, message: Message) -> None:
        """Send a script of the package, which a page that has no server cannot get elsewhere."""
        name = str(message["name"])
        if name not in SCRIPTS:
            raise InvalidRequestError.of_field("name", f"is not that of a script: {name}")
        reply = {"kind": "reply", "id": message["id"], "status": 200, "type": "text/javascript"}
        self._send(reply, [(STATIC / name).read_bytes()])

    def _stream(self, message: Message) -> None:
        with self._response(message) as response:
            if not response.ok:
                self._reply(message, response)
                return
            for chunk in chunks_of(response):
                self._send({"kind": "data", "id": message["id"]}, [chunk])
        self._send({"kind": "end", "id": message["id"]}, [])

    def _upload(self, message: Message, file: IO[bytes]) -> None:
        with file:
            file.seek(0)
            name = PurePosixPath(str(message["name"]).replace("\\", "/")).name or "file"
            fields = {str(key): str(value) for key, value in message["fields"].items()}
            form = Form(fields, name, int(message["size"]), iter(lambda: file.read(CHUNK), b""))
            headers = {"Content-Type": form.content_type}
            with self._response(message, data=form, headers=headers) as response:
                self._reply(message, response)
