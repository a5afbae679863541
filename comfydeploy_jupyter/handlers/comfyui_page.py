"""``comfyui/``: ComfyUI's own page below Jupyter's address, for whom Jupyter has let in.

Everything below it is passed on to the ComfyUI that the routes use, wherever that is. Jupyter's
credentials stay here: ComfyUI, and whoever wrote its custom nodes, get neither cookies nor tokens.
ComfyUI compares ``Origin`` with ``Host`` to keep other web sites out (ComfyUI 0.3.75,
``server.py``); here Jupyter does that, and neither is passed on.

The page itself gets a script of ours, ``static/comfyui_page.js``, which tells why.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlencode

from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import url_path_join
from tornado.httputil import url_concat
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    NotFoundError,
    UnauthorizedError,
)
from .base import ENDLESS, FOREIGN_PAGE, STRANGER, Base, passed_header
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

# What is between two neighbours only (RFC 9110, 7.6.1), or between Jupyter and its user.
NOT_SENT = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te"),
        *("trailer", "transfer-encoding", "upgrade", "proxy-connection", "expect"),
        *("host", "origin", "referer", "cookie", "authorization", "x-xsrftoken"),
        *("sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user"),
        *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"),
    }
)
NOT_RETURNED = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "trailer", "transfer-encoding"),
        *("upgrade", "set-cookie", "server", "date", "location"),
        # These would speak for all of Jupyter's address.
        *("access-control-allow-origin", "access-control-allow-credentials", "alt-svc"),
        *("clear-site-data", "nel", "report-to", "reporting-endpoints", "service-worker-allowed"),
        *("strict-transport-security", "public-key-pins"),
    }
)

# What would let ComfyUI answer with less than the page, or with what we cannot read.
CONDITIONS = frozenset({"accept-encoding", "if-none-match", "if-modified-since", "range"})
OUTDATED = frozenset({"content-length", "etag", "last-modified", "accept-ranges"})
LARGEST_PAGE = 8 << 20  # bytes
SCRIPT = (Path(__file__).parent.parent / "static" / "comfyui_page.js").read_text(encoding="utf-8")

WAITING_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>ComfyUI</title>
<meta http-equiv="refresh" content="{pause}">
<style>body {{ font: 15px system-ui, sans-serif; max-width: 40em; margin: 20vh auto; padding: 0 1em;
color: #333; background: #fff; }} @media (prefers-color-scheme: dark) {{ body {{ color: #ddd;
background: #1c1c1c; }} }}</style></head>
<body role="status"><h1>{title}</h1><p>{text}</p></body></html>
"""


class PageBase(Base):
    """What the page and its socket have in common."""

    auth_action = "execute"

    @property
    def path(self) -> str:
        """The path below ``comfyui``, as the browser has written it."""
        return str(self.request.path)[len(url_path_join(self.base_url, PAGE)) :]

    @property
    def target(self) -> str:
        """The path and query to ask ComfyUI for; Jupyter's token is no longer in it."""
        query = self.request.query
        if "token=" in query:
            pairs = parse_qsl(query, keep_blank_values=True)
            query = urlencode([(key, value) for key, value in pairs if key != "token"])
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
            raise UnauthorizedError(STRANGER)
        return str(super().get_login_url())

    def check_xsrf_cookie(self) -> None:
        """Take the browser's word for where a request is from; ComfyUI's page sends no token."""
        if not self.request.headers.get("Origin"):
            super().check_xsrf_cookie()
        elif hasattr(self, "_jupyter_current_user") and not self.check_origin():
            raise UnauthorizedError(FOREIGN_PAGE)

    async def begin(self) -> None:
        """Check who asks, find ComfyUI, and begin to pass the request on."""
        self.is_activity = self.request.method not in {"GET", "HEAD", "OPTIONS"}
        if not self.current_user and self._is_visit:
            self.redirect(url_concat(self.get_login_url(), {"next": self.request.uri or ""}))
            return
        await self.admit()
        if self.path == "":
            self.redirect(f"{url_path_join(self.base_url, PAGE)}/")
            return
        client = self._client = await self._find()
        if client is None:
            return
        headers = {
            name: value
            for name, value in self.request.headers.get_all()
            if name.lower() not in NOT_SENT and not (self._is_page and name.lower() in CONDITIONS)
        }
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

    head = post = put = patch = delete = options = get

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
        return self._is_visit and self.path in {"", "/"}

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
        for name, value in answer.headers.items():
            if name.lower() not in NOT_RETURNED:
                self.add_header(name, passed_header(value))
        location = answer.headers.get("Location")
        if location is not None:
            location = passed_header(location)
            home = url_path_join(self.base_url, PAGE)
            self.set_header("Location", home + location if location[:1] == "/" else location)
        is_html = answer.headers.get("Content-Type", "").startswith("text/html")
        if self._is_page and is_html and answer.status == 200:
            await self._return_page(client, answer)
        elif self.request.method != "HEAD" and answer.status not in {204, 304}:
            async for chunk in client.pieces(answer):
                self.write(chunk)
                await self.flush()
        await self.finish()

    async def _return_page(self, client: ComfyUIClient, answer: aiohttp.ClientResponse) -> None:
        """Write the page with our script as the first thing in it."""
        for name in OUTDATED:
            self.clear_header(name)
        page = bytearray()
        async for chunk in client.pieces(answer):
            page += chunk
            if len(page) > LARGEST_PAGE:
                raise client.unavailable("its page is too large to be one")
        head, tag, rest = bytes(page).partition(b"<head>")
        self.write(head + tag + f"<script>{SCRIPT}</script>".encode() * bool(tag) + rest)


class PageSocket(WebSocketMixin, PageBase, WebSocketHandler):
    """``comfyui/ws``: the page's WebSocket, message by message."""

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
