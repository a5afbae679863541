"""``comfyui/``: ComfyUI's own page below Jupyter's address, for whom Jupyter has let in.

Everything below it is passed on to the ComfyUI that the routes use, wherever that is. Jupyter's
credentials stay here: ComfyUI, and whoever wrote its custom nodes, get neither cookies nor tokens.
ComfyUI compares ``Origin`` with ``Host`` to keep other web sites out (ComfyUI,
``server.py``); here Jupyter does that, and neither is passed on.

The page itself gets two scripts of ours: ``static/comfyui_page.js`` makes it work in a folder, and
``static/comfyui_xsrf.js`` adds Jupyter's XSRF token to its requests. Everything else is a file that
must not act as a page of Jupyter, whose origin it is in: see `file_headers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
from pathlib import Path
from posixpath import normpath
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, unquote

from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httputil import url_concat
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler
from yarl import URL

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    NotFoundError,
    UnauthorizedError,
)
from ..net import proxy_headers
from .base import ENDLESS, Base, passed_header
from .streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    import aiohttp

    from ..comfyui.client import ComfyUIClient

PAGE = "comfyui"
CHUNKS_AHEAD = 4  # pieces of a body that wait for ComfyUI
START_WITHIN = 1.5  # s that a page waits for ComfyUI before it says that it is starting
SLOW_READER = 60.0  # s that a browser has to take a message; ComfyUI waits for it meanwhile
TRY_AGAIN = 1013  # close code "try again later"

# What only ComfyUI understands, and what its answer for an SVG depends on.
MORE_HEADERS = ("Comfy-User", "Comfy-Usage-Source", "Comfy-Env", "Last-Event-ID", "Sec-Fetch-Dest")

# What a browser shows or plays without obeying it, wherever it is opened. XML of any kind is not.
PASSIVE = re.compile(
    r"(image|audio|video|font|model)/[a-z0-9._-]+|text/(plain|css|csv|event-stream)"
    r"|application/(([a-z0-9._-]+\+)?json|octet-stream|wasm|zip|x-safetensors)"
)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_FILENAME = re.compile(r'filename="?([^";]+)')
# Every type that a browser takes for a script (WHATWG MIME Sniffing, 4.6).
SCRIPT_TYPES = re.compile(
    r"(text|application)/(x-)?(java|ecma)script|text/(javascript1\.[0-5]|jscript|livescript)"
)
# Below these are files that whoever may use ComfyUI can put there.
USER_FILES = re.compile(
    r"(/api)?/(userdata|view|viewvideo|internal|experiment|input|output|temp)(/|$)|/api/assets(/|$)"
)
WORKERS = frozenset({"sharedworker", "worker"})  # browsers start none that is sandboxed
# Parts of a page for which a browser sends no header of the page's choice.
PARTS = frozenset(
    {
        *("audio", "audioworklet", "font", "image", "manifest", "paintworklet", "script"),
        *("sharedworker", "style", "track", "video", "worker"),
    }
)

# What would let ComfyUI answer with less than the page, or with what we cannot read.
CONDITIONS = frozenset({"accept-encoding", "if-none-match", "if-modified-since", "range"})
OUTDATED = frozenset({"content-length", "etag", "last-modified", "accept-ranges"})
LARGEST_PAGE = 8 << 20  # bytes
STATIC = Path(__file__).parent.parent / "static"
SCRIPT = (STATIC / "comfyui_page.js").read_text(encoding="utf-8")
XSRF_SCRIPT = (STATIC / "comfyui_xsrf.js").read_text(encoding="utf-8")

WAITING_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>ComfyUI</title>
<meta http-equiv="refresh" content="{pause}">
<style>body {{ font: 15px system-ui, sans-serif; max-width: 40em; margin: 20vh auto; padding: 0 1em;
color: #333; background: #fff; }} @media (prefers-color-scheme: dark) {{ body {{ color: #ddd;
background: #1c1c1c; }} }}</style></head>
<body role="status"><h1>{title}</h1><p>{text}</p></body></html>
"""


def file_headers(path: str, answer: aiohttp.ClientResponse, policy: str) -> dict[str, str]:
    """Return the headers that keep a file of ComfyUI from acting as a page of Jupyter.

    Parameters
    ----------
    path : str
        Its path below ``comfyui``.
    answer : aiohttp.ClientResponse
        ComfyUI's answer.
    policy : str
        Jupyter's own ``Content-Security-Policy``.

    Returns
    -------
    dict
        A policy that allows no script and no origin. Unless the browser can only show the file,
        also a ``Content-Disposition`` that has it saved. A script among the files of users, and
        what ComfyUI gives no type or several, becomes mere bytes; browsers are told by
        ``X-Content-Type-Options``, which all of Jupyter's answers have, not to guess.
    """
    headers = {"Content-Security-Policy": f"sandbox; {policy}"}
    if answer.status in {204, 304}:
        return headers  # the browser has the rest
    types = answer.headers.getall("Content-Type", [])
    kind = types[0].partition(";")[0].strip().lower() if len(types) == 1 else ""
    is_script = SCRIPT_TYPES.fullmatch(kind) is not None
    if not _MEDIA_TYPE.fullmatch(kind) or (is_script and USER_FILES.match(normpath(unquote(path)))):
        headers["Content-Type"] = kind = "application/octet-stream"
    if not (PASSIVE.fullmatch(kind) or is_script):
        name = _FILENAME.search(answer.headers.get("Content-Disposition", ""))
        named = f"; filename*=UTF-8''{quote(name[1], errors='surrogateescape')}" if name else ""
        headers["Content-Disposition"] = f"attachment{named}"
    return headers


class PageBase(Base):
    """What the page and its socket have in common."""

    auth_action = "execute"

    @property
    def path(self) -> str:
        """The path below ``comfyui``, as the browser has written it."""
        return str(self.request.path)[len(url_path_join(self.base_url, PAGE)) :]

    @property
    def target(self) -> str:
        """The path and query to ask ComfyUI for, without what Jupyter knows its users by."""
        query = proxy_headers.without_credentials(self.request.query)
        return f"{self.path}?{query}" if query else self.path

    async def admit(self) -> None:
        """Let in who may run workflows, unless the page is turned off."""
        if not self.extension.comfyui_page:
            raise NotFoundError("ComfyUI's page is turned off here (ComfyDeploy.comfyui_page)")
        await super().admit()


class PageHandler(Streamed, PageBase):
    """Everything below ``comfyui/`` but the WebSocket, streamed in both directions."""

    _answer: asyncio.Task[aiohttp.ClientResponse] | None = None
    _body: asyncio.Queue[bytes | None] | None = None
    _client: ComfyUIClient | None = None

    def get_login_url(self) -> str:
        """Send nobody but the visitors of a page to the page for logging in."""
        if not self._is_visit:
            raise self._stranger()
        return str(super().get_login_url())

    def check_xsrf_cookie(self) -> None:
        """Check as all routes do, but for what a browser loads as a part of a page of this server.

        JupyterHub asks for the token with each GET that tells no page, and there a script that is
        a module cannot bring it. What loads it as a part cannot read it as a file.
        """
        headers = self.request.headers
        is_part = (
            self.request.method in {"GET", "HEAD"}
            and headers.get("Sec-Fetch-Dest") in PARTS
            and self.is_part_of_own_page
        )
        if not is_part:
            super().check_xsrf_cookie()

    async def begin(self) -> None:
        """Check who asks, find ComfyUI, and begin to pass the request on."""
        self.is_activity = self.request.method not in {"GET", "HEAD", "OPTIONS"}
        if not self.current_user and self._is_visit:
            self.redirect(url_concat(self.get_login_url(), {"next": self.request.uri or ""}))
            return
        await self.admit()
        if self._is_service_worker:
            raise UnauthorizedError("Nothing below comfyui/ may be a service worker")
        if self.path == "":
            self.redirect(f"{url_path_join(self.base_url, PAGE)}/")
            return
        client = self._client = await self._find()
        if client is None:
            return
        headers = proxy_headers.request_headers(self.request.headers, MORE_HEADERS)
        if self._is_page:
            headers = {k: v for k, v in headers.items() if k.lower() not in CONDITIONS}
        connection: Any = self.request.connection
        connection.set_max_body_size(ENDLESS)
        given = self.request.headers
        if given.get("Transfer-Encoding") or given.get("Content-Length", "0") != "0":
            self._body = asyncio.Queue(CHUNKS_AHEAD)
        body = None if self._body is None else self._pieces(self._body)
        self._answer = asyncio.ensure_future(
            client.forward(str(self.request.method), self.target, headers, body)
        )

    async def take(self, chunk: bytes) -> None:
        """Hand a piece of the body on, no faster than ComfyUI takes it."""
        await self._put(chunk)

    async def get(self) -> None:
        """Pass ComfyUI's answer on."""
        self.check_body()
        if self._answer is None or self._client is None:
            return
        self.note_activity()
        await self._put(None)
        try:
            answer = await self._answer
        except asyncio.CancelledError:  # the browser has left
            return
        try:
            await self._return(self._client, answer)
        except StreamClosedError:
            self.log.debug("A browser left before it had all of %s", self.request.path)
        except ComfyUIUnavailableError as fault:
            self.log.warning("%s", fault.message)
            self.detach().close()  # so that the browser does not take a part for the whole
        finally:
            answer.close()

    head = post = put = patch = delete = get
    options = web.authenticated(get)

    def on_connection_close(self) -> None:
        """Stop what nobody waits for."""
        super().on_connection_close()
        if self._answer is not None and not self._answer.cancel():
            with contextlib.suppress(asyncio.CancelledError, ComfyDeployError):
                self._answer.result().close()

    @property
    def _is_visit(self) -> bool:
        """Whether a browser opens this as a page."""
        accepted = self.request.headers.get("Accept", "")
        return self.request.method in {"GET", "HEAD"} and "text/html" in accepted

    @property
    def _is_page(self) -> bool:
        """Whether this is the page itself, not one of its parts."""
        return self.request.method == "GET" and self.path in {"/", "/index.html"}

    @property
    def is_link(self) -> bool:
        """Whether another site may lead here: to the page itself. Some nodes do things on GET."""
        headers = self.request.headers
        return (
            self._is_visit
            and self.path in {"", "/"}
            and headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
        )

    @property
    def _is_service_worker(self) -> bool:
        headers = self.request.headers
        return "Service-Worker" in headers or headers.get("Sec-Fetch-Dest") == "serviceworker"

    async def _find(self) -> ComfyUIClient | None:
        """Return ComfyUI once it answers; a visitor meanwhile gets a page that says so."""
        machine = self.services.machines.get()
        client = machine.reachable_client()
        if client is not None:
            return client
        if not (self._is_visit and self.path == "/"):
            return await machine.ready()
        ready = asyncio.ensure_future(machine.ready())
        await asyncio.wait({ready}, timeout=START_WITHIN)
        if not ready.done():
            ready.cancel()
            self._say("ComfyUI is starting", "This page opens by itself when it is there.", 2)
            return None
        try:
            return ready.result()
        except ComfyUIUnavailableError as fault:
            hint = str(fault.extra.get("hint") or "")
            self._say("ComfyUI is not there", f"{fault.message}. {hint}", 10)
            return None

    def _say(self, title: str, text: str, pause: int) -> None:
        self.set_status(503)
        self.set_header("Retry-After", str(pause))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            WAITING_PAGE.format(title=html.escape(title), text=html.escape(text), pause=pause)
        )

    async def _put(self, chunk: bytes | None) -> None:
        """Put a piece where `_pieces` takes it, unless ComfyUI has answered already."""
        if self._body is None or self._answer is None or self._answer.done():
            return
        putting = asyncio.ensure_future(self._body.put(chunk))
        await asyncio.wait({putting, self._answer}, return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()

    @staticmethod
    async def _pieces(body: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        while (chunk := await body.get()) is not None:
            yield chunk

    async def _return(self, client: ComfyUIClient, answer: aiohttp.ClientResponse) -> None:
        self.set_status(answer.status)
        self.clear_header("Content-Type")
        headers = proxy_headers.response_headers(answer.headers)
        is_html = answer.headers.get("Content-Type", "").startswith("text/html")
        is_page = self._is_page and is_html and answer.status == 200
        if is_page:
            for policy in answer.headers.getall("Content-Security-Policy", []):
                self.add_header("Content-Security-Policy", passed_header(policy))
        else:
            headers.update(file_headers(self.path, answer, self.content_security_policy))
            if self.request.headers.get("Sec-Fetch-Dest") in WORKERS:
                del headers["Content-Security-Policy"]
        for name, value in headers.items():
            self.set_header(name, passed_header(value))
        location = self._location(client, answer)
        if location is not None:
            self.set_header("Location", passed_header(location))
        if is_page:
            await self._return_page(client, answer)
        elif self.request.method != "HEAD" and answer.status not in {204, 304}:
            async for chunk in client.pieces(answer):
                self.write(chunk)
                await self.flush()
        await self.finish()

    def _location(self, client: ComfyUIClient, answer: aiohttp.ClientResponse) -> str | None:
        """Return where a redirect leads: below the page, or to another web site.

        A script is not sent to another site, since it would take the XSRF token along.
        """
        found = answer.headers.get("Location")
        if found is None:
            return None
        try:
            target = answer.url.join(URL(found, encoded=True))
        except ValueError:
            return None
        if target.scheme not in {"http", "https"} or not target.host:
            return None
        if target.origin() == answer.url.origin():
            path = str(target.relative()).removeprefix(URL(client.url).raw_path.rstrip("/"))
            if proxy_headers.leads_upwards(path):
                return None
            return url_path_join(self.base_url, PAGE) + path
        host = target.host if target.is_default_port() else f"{target.host}:{target.port}"
        is_here = host == self.request.host.lower()
        return None if is_here or "X-XSRFToken" in self.request.headers else str(target)

    async def _return_page(self, client: ComfyUIClient, answer: aiohttp.ClientResponse) -> None:
        """Write the page with our script as the first thing in it."""
        for name in OUTDATED:
            self.clear_header(name)
        self.set_header("Cache-Control", "private, no-cache")  # the XSRF token is in it
        page = bytearray()
        async for chunk in client.pieces(answer):
            page += chunk
            if len(page) > LARGEST_PAGE:
                raise client.unavailable("its page is too large to be one")
        head, tag, rest = bytes(page).partition(b"<head>")
        cookie = self.get_cookie(self.settings.get("xsrf_cookie_name", "_xsrf"))
        tokens = json.dumps([self.xsrf_token.decode(), *([cookie] if cookie else [])])
        xsrf = XSRF_SCRIPT.replace("TOKENS", tokens.replace("<", "\\u003c"))
        scripts = f"<script>{SCRIPT}</script><script>{xsrf}</script>"
        self.write(head + tag + scripts.encode() * bool(tag) + rest)


class PageSocket(WebSocketMixin, PageBase, WebSocketHandler):
    """``comfyui/ws``: the page's WebSocket, message by message."""

    xsrf_on_get = True  # a page of another user on the same host can open it with this cookie
    _remote: aiohttp.ClientWebSocketResponse[bool] | None = None
    _pump: asyncio.Task[None] | None = None
    _closing: asyncio.Task[bool] | None = None

    @property
    def max_message_size(self) -> int:
        """Largest message of a browser, in bytes."""
        return self.extension.max_json_size

    async def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Check who asks before the handshake."""
        await cast("Awaitable[None]", super().prepare(*args, **kwargs))
        await self.admit()

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Shake hands."""
        await super().get(*args, **kwargs)

    async def open(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket to ComfyUI; no message is read before that is done."""
        super().open(*args, **kwargs)
        try:
            client = await self.services.machines.get().ready()
            self._remote = await client.open_socket(self.target)
        except ComfyUIUnavailableError as fault:
            self.close(TRY_AGAIN, fault.message[:100])
            return
        if self.ws_connection is None:  # the browser has left meanwhile
            await self._remote.close()
            return
        self._pump = asyncio.ensure_future(self._pass_on(self._remote))

    async def on_message(self, message: str | bytes) -> None:
        """Pass a message of the browser on."""
        remote = self._remote
        if remote is None:
            return
        with contextlib.suppress(ConnectionError):  # the pump sees it too, and closes
            if isinstance(message, bytes):
                await remote.send_bytes(message)
            else:
                await remote.send_str(message)

    def on_close(self) -> None:
        """Close the socket to ComfyUI."""
        super().on_close()
        if self._remote is not None:
            # This ends `_pass_on` too. Cancelled before its first step, that would close nothing.
            self._closing = asyncio.ensure_future(self._remote.close())

    async def _pass_on(self, remote: aiohttp.ClientWebSocketResponse[bool]) -> None:
        """Pass ComfyUI's messages on until one side closes."""
        try:
            async for message in remote:
                if isinstance(message.data, (str, bytes)):
                    sent = self.write_message(message.data, isinstance(message.data, bytes))
                    await asyncio.wait_for(sent, SLOW_READER)
        except (WebSocketClosedError, StreamClosedError, asyncio.TimeoutError):
            self.log.debug("A browser left ComfyUI's page, or is too slow for it")
        finally:
            self.close(TRY_AGAIN, "ComfyUI has closed the connection")
            await remote.close()
