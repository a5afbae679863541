"""``comfyui/``: a proxy of ComfyUI's own page, for users who are authenticated by Jupyter.

All requests below it are forwarded to the ComfyUI that the routes use, also on another machine.
Jupyter's credentials are not forwarded: ComfyUI and its custom nodes get neither cookies nor
tokens. ComfyUI compares ``Origin`` with ``Host`` to reject requests of other web sites (ComfyUI,
``server.py``). Here, Jupyter does that, and neither header is forwarded.

Two scripts are added to the page: with ``static/comfyui_page.js`` it
works below a path, and ``static/comfyui_xsrf.js`` adds Jupyter's XSRF
token to its requests. In style sheets, and in styles that scripts set, addresses at the root of
the host are changed to addresses below the page. All responses except the page are files that must
not act as pages of Jupyter, whose origin they have: see `file_headers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import html
import json
import re
from base64 import b64encode
from pathlib import Path
from posixpath import normpath, splitext
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from jupyter_server.utils import url_path_join
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError
from yarl import URL

from ..errors import ComfyUIUnavailableError, NotFoundError, UnauthorizedError
from ..util import proxy
from . import route
from .auth import PageAuth
from .base import Base, passed_header
from .route import BINARY, Content
from .streamed import ProxyHandler
from .ws import SocketHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import aiohttp

    from ..comfyui.client import ComfyUIClient

PAGE = "comfyui"
OPENED = "comfydeploy_workflow"  # the field of the page's query that names a file to open
START_TIMEOUT = 1.5  # seconds to wait for ComfyUI; then a page shows that it is starting

# ComfyUI's own headers, and the one that determines its response for an SVG.
MORE_HEADERS = ("Comfy-User", "Comfy-Usage-Source", "Comfy-Env", "Last-Event-ID", "Sec-Fetch-Dest")

WORKERS = frozenset({"sharedworker", "worker"})  # browsers start no sandboxed worker
# Parts of a page for whose requests the page cannot set headers.
PARTS = frozenset(
    {
        *("audio", "audioworklet", "font", "image", "manifest", "paintworklet", "script"),
        *("sharedworker", "style", "track", "video", "worker"),
    }
)

# Headers with which ComfyUI may send the page in part, not at all, or compressed.
CONDITIONS = frozenset({"accept-encoding", "if-none-match", "if-modified-since", "range"})
WHOLE = frozenset({"accept-encoding", "range"})
OUTDATED = frozenset({"content-length", "etag", "last-modified", "accept-ranges"})
MAX_PAGE = 8 << 20  # bytes
# Addresses at the root of the host, such as those of the cursors of the editor's masks; in style
# sheets, and in texts of scripts that are the value of a style.
AT_ROOT = {
    ".css": re.compile(rb"""((?:url\(["']?|@import ["'])/)(?!/)""", re.IGNORECASE),
    ".js": re.compile(rb"""(["'`]url\(["']?/)(?!/)"""),
}
MAX_MATCH = 16  # bytes, including the one that must not follow
STATIC = Path(__file__).parent.parent / "static"
SCRIPT = (STATIC / "comfyui_page.js").read_text(encoding="utf-8")
XSRF_SCRIPT = (STATIC / "comfyui_xsrf.js").read_text(encoding="utf-8")

# Types that browsers show or play without running scripts. Any kind of XML may contain scripts.
PASSIVE = re.compile(
    r"(image|audio|video|font|model)/[a-z0-9._-]+|text/(plain|css|csv|event-stream)"
    r"|application/(([a-z0-9._-]+\+)?json|octet-stream|wasm|zip|x-safetensors)"
)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
# With one of these, browsers ignore 'unsafe-inline'.
_HASHES = re.compile(r"'(nonce|sha256|sha384|sha512)-|'strict-dynamic'")
_FILENAME = re.compile(r'filename="?([^";]+)')
# All types that browsers treat as scripts (WHATWG MIME Sniffing, 4.6).
SCRIPT_TYPES = re.compile(
    r"(text|application)/(x-)?(java|ecma)script|text/(javascript1\.[0-5]|jscript|livescript)"
)
# Paths of files of users: everybody who may use ComfyUI can store files there.
USER_FILES = re.compile(
    r"(/api)?/(userdata|view|viewvideo|internal|experiment|input|output|temp)(/|$)|/api/assets(/|$)"
)
READER_TIMEOUT = 60.0  # seconds that a browser has to receive a message; ComfyUI waits meanwhile
TRY_AGAIN = 1013  # close code "try again later"
_CONTENT = Content("*/*", BINARY)

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
    """Base of the page and its WebSocket."""

    tag = "ComfyUI"
    auth_action = "execute"

    @property
    def path(self) -> str:
        """The path below ``comfyui``, as the browser has sent it."""
        return str(self.request.path)[len(url_path_join(self.base_url, PAGE)) :]

    @property
    def target(self) -> str:
        """Path and query for the request to ComfyUI, without Jupyter's credentials."""
        query = proxy.without_credentials(self.request.query)
        return f"{self.path}?{query}" if query else self.path

    async def authorize(self) -> None:
        """Allow users who may run workflows, unless the page is turned off."""
        if not self.extension.comfyui_page:
            raise NotFoundError("ComfyUI's page is turned off here (ComfyDeploy.comfyui_page)")
        await super().authorize()


class PageHandler(PageAuth, ProxyHandler, PageBase):
    """Everything below ``comfyui/`` except the WebSocket, streamed in both directions."""

    chunks_ahead = 4
    _client: ComfyUIClient | None = None

    def check_xsrf_cookie(self) -> None:
        """Check as all routes do, except for parts of this server's own page.

        JupyterHub requires the token for each GET without ``Referer``, and a browser cannot send it
        when it loads a script as a module. A page that loads such a part cannot read its content.
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
        """Check credentials and permission, find ComfyUI, and start to forward the request."""
        self.is_activity = self.request.method not in {"GET", "HEAD", "OPTIONS"}
        if self.sends_to_login():
            return
        await self.authorize()
        if self._is_service_worker:
            raise UnauthorizedError("Service workers are not allowed below comfyui/")
        if self.path == "":
            self.redirect(f"{url_path_join(self.base_url, PAGE)}/")
            return
        client = self._client = await self._find()
        if client is None:
            return
        headers = proxy.request_headers(self.request.headers, MORE_HEADERS)
        dropped = CONDITIONS if self._is_page else WHOLE if self._at_root else frozenset()
        headers = {k: v for k, v in headers.items() if k.lower() not in dropped}
        given = self.request.headers
        method, target = str(self.request.method), self.target
        self.forward(
            lambda body: client.forward(method, target, headers, body),
            has_body="Transfer-Encoding" in given or given.get("Content-Length", "0") != "0",
        )

    @route.mount("GET HEAD POST PUT PATCH DELETE", "/comfyui/{tail}", "ComfyUIPage")
    @route.mount("OPTIONS", "/comfyui/{tail}")
    @route.mount("GET HEAD POST PUT PATCH DELETE OPTIONS", "/comfyui")
    @route.takes(_CONTENT)
    @route.replies(_CONTENT, "The response of ComfyUI, with its status.", status="default")
    @route.errors(NotFoundError, ComfyUIUnavailableError)
    async def show(self) -> None:
        """ComfyUI's own page with all its routes, through a proxy.

        The tail may have any number of parts. Needs `execute`.
        """
        self.check_body()
        client = self._client
        if self.response is None or client is None:
            return
        self.note_activity()
        await self.send_chunk(None)
        try:
            response = await self.response
        except asyncio.CancelledError:  # the browser has left
            return
        if response.status < 300:
            self.services.editing.note(client, str(self.request.method), self.path)
        await self._return(client, response)

    @property
    def _is_page(self) -> bool:
        """Whether the request is for the page itself, not for one of its parts."""
        return self.request.method == "GET" and self.path in {"/", "/index.html"}

    @property
    def _at_root(self) -> re.Pattern[bytes] | None:
        """The pattern of addresses to change in the file; None for files of users and others."""
        is_users = USER_FILES.match(normpath(unquote(self.path)))
        if self.request.method != "GET" or is_users:
            return None
        return AT_ROOT.get(splitext(self.path)[1])

    @property
    def is_link(self) -> bool:
        """Whether links of other sites may lead here: only to the page; some nodes act on GET."""
        headers = self.request.headers
        return (
            self.is_visit
            and self.path in {"", "/"}
            and headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
        )

    @property
    def _is_service_worker(self) -> bool:
        headers = self.request.headers
        return "Service-Worker" in headers or headers.get("Sec-Fetch-Dest") == "serviceworker"

    async def _find(self) -> ComfyUIClient | None:
        """Return ComfyUI's client once it answers; None if a page about its start was sent."""
        machine = self.services.machines.get()
        client = machine.reachable_client()
        if client is not None:
            return client
        if not (self.is_visit and self.path == "/"):
            return await machine.ready()
        ready = asyncio.ensure_future(machine.ready())
        await asyncio.wait({ready}, timeout=START_TIMEOUT)
        if not ready.done():
            ready.cancel()
            self._send_page(
                "ComfyUI is starting", "This page opens automatically when ComfyUI is ready.", 2
            )
            return None
        try:
            return ready.result()
        except ComfyUIUnavailableError as exc:
            hint = str(exc.extra.get("hint") or "")
            self._send_page("ComfyUI is not available", f"{exc.message}. {hint}", 10)
            return None

    def _send_page(self, title: str, text: str, pause: int) -> None:
        self.set_status(503)
        self.set_header("Retry-After", str(pause))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            WAITING_PAGE.format(title=html.escape(title), text=html.escape(text), pause=pause)
        )

    async def _return(self, client: ComfyUIClient, answer: aiohttp.ClientResponse) -> None:
        self.set_status(answer.status)
        self.clear_header("Content-Type")
        headers = proxy.response_headers(answer.headers)
        is_html = answer.headers.get("Content-Type", "").startswith("text/html")
        is_page = self._is_page and is_html and answer.status == 200
        scripts = self._scripts() if is_page else []
        if is_page:
            for policy in answer.headers.getall("Content-Security-Policy", []):
                allowed = allow_scripts(passed_header(policy), scripts)
                self.add_header("Content-Security-Policy", allowed)
        else:
            headers.update(file_headers(self.path, answer, self.content_security_policy))
            if self.request.headers.get("Sec-Fetch-Dest") in WORKERS:
                del headers["Content-Security-Policy"]
        self.pass_headers(headers, self._location(client, answer))
        is_whole = answer.status == 200 and "Content-Encoding" not in answer.headers
        at_root = self._at_root if is_whole else None
        chunks: AsyncIterator[bytes] | None = client.chunks(answer)
        if is_page:
            chunks = self._with_scripts(client, client.chunks(answer), scripts)
        elif self.request.method == "HEAD" or answer.status in {204, 304}:
            chunks = None
        elif at_root is not None:
            self.clear_header("Content-Length")
            self.clear_header("Accept-Ranges")
            folder = url_path_join(self.base_url, PAGE).lstrip("/").encode() + b"/"
            chunks = in_folder(client.chunks(answer), at_root, folder)
        await self.stream(chunks)

    def _location(self, client: ComfyUIClient, answer: aiohttp.ClientResponse) -> str | None:
        """Return the target of a redirect: below the page, or on another web site.

        Requests of scripts are not redirected to other sites, because they contain the XSRF token.
        """
        target = proxy.redirect_target(answer, URL(client.url), url_path_join(self.base_url, PAGE))
        if target is None or target.startswith("/"):
            return target
        other = URL(target, encoded=True)
        host = other.host if other.is_default_port() else f"{other.host}:{other.port}"
        is_here = host == self.request.host.lower()
        return None if is_here or "X-XSRFToken" in self.request.headers else target

    def _scripts(self) -> list[str]:
        """Return the scripts that are added to the page."""
        cookie = self.get_cookie(self.settings.get("xsrf_cookie_name", "_xsrf"))
        tokens = json.dumps([self.xsrf_token.decode(), *([cookie] if cookie else [])])
        return [SCRIPT, XSRF_SCRIPT.replace("TOKENS", tokens.replace("<", "\\u003c"))]

    async def _with_scripts(
        self, client: ComfyUIClient, chunks: AsyncIterator[bytes], scripts: Sequence[str]
    ) -> AsyncIterator[bytes]:
        """Yield the page with the scripts of this package as its first ones."""
        for name in OUTDATED:
            self.clear_header(name)
        self.set_header("Cache-Control", "private, no-cache")  # it contains the XSRF token
        page = bytearray()
        async for chunk in chunks:
            page += chunk
            if len(page) > MAX_PAGE:
                raise client.unavailable("its page is too large")
        head, tag, rest = bytes(page).partition(b"<head>")
        added = "".join(f"<script>{script}</script>" for script in scripts)
        yield head + tag + added.encode() * bool(tag) + rest


def allow_scripts(policies: str, scripts: Sequence[str]) -> str:
    """Return a ``Content-Security-Policy`` that allows some inline scripts, by their hashes.

    A policy that allows all inline scripts, or says nothing about scripts, stays as it is.
    """
    return ", ".join(_allow_scripts(policy, scripts) for policy in policies.split(","))


def _allow_scripts(policy: str, scripts: Sequence[str]) -> str:
    directives = [words for part in policy.split(";") if (words := part.split())]
    known = {words[0].lower(): words for words in reversed(directives)}  # the first one counts
    names = ("script-src-elem", "script-src", "default-src")
    found = next((known[name] for name in names if name in known), None)
    if found is None:
        return policy.strip()
    sources = [source for source in found[1:] if source.lower() != "'none'"]
    lowered = " ".join(sources).lower()
    if "'unsafe-inline'" in lowered and not _HASHES.search(lowered):
        return policy.strip()
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    sources += [f"'sha256-{b64encode(digest).decode()}'" for digest in digests]
    if found is known.get("default-src"):
        directives.append(["script-src", *sources])
    else:
        found[1:] = sources
    return "; ".join(" ".join(words) for words in directives)


async def in_folder(
    chunks: AsyncIterator[bytes], at_root: re.Pattern[bytes], folder: bytes
) -> AsyncIterator[bytes]:
    """Yield a file in which addresses at the root of the host are changed to ones below a path.

    Group 1 of ``at_root`` is the start of such an address up to its first slash; ``folder`` is the
    path without it.
    """
    rest = b""
    async for chunk in chunks:
        text = rest + chunk
        end = max(len(text) - MAX_MATCH, 0)  # a match that starts later may not be complete
        done = 0
        for found in at_root.finditer(text):
            if found.start() >= end:
                break
            yield text[done : found.end()] + folder
            done = found.end()
        end = max(end, done)
        yield text[done:end]
        rest = text[end:]
    yield at_root.sub(lambda found: found[1] + folder, rest)


def file_headers(path: str, answer: aiohttp.ClientResponse, policy: str) -> dict[str, str]:
    """Return the headers with which a file of ComfyUI cannot act as a page of Jupyter.

    They are a ``Content-Security-Policy`` that allows no scripts and gives the file an opaque
    origin, and a ``Content-Disposition`` with which browsers save the file, unless it is of a type
    that they only show. Scripts among the files of users, and files without a type or with several,
    get the type of arbitrary bytes; with ``X-Content-Type-Options``, which all responses of Jupyter
    have, browsers do not guess another type. ``path`` is below ``comfyui``, and ``policy`` is
    Jupyter's own ``Content-Security-Policy``.
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


class PageSocket(SocketHandler, PageBase):
    """Forwards each message of the page's WebSocket."""

    _remote: aiohttp.ClientWebSocketResponse[bool] | None = None

    @property
    def max_message_size(self) -> int:
        return self.extension.max_json_size

    @route.get("/comfyui/ws", "openComfyUISocket")
    @route.get("/comfyui/api/ws")
    @route.opens_socket
    @route.errors(NotFoundError, ComfyUIUnavailableError)
    async def open_socket(self) -> None:
        """ComfyUI's own WebSocket, through a proxy.

        Needs `execute`.
        """
        await super().get()

    async def open(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket to ComfyUI; no message of the browser is read before that."""
        super().open(*args, **kwargs)
        try:
            client = await self.services.machines.get().ready()
            self._remote = await client.open_socket(self.target)
        except ComfyUIUnavailableError as exc:
            self.close(TRY_AGAIN, exc.message[:100])
            return
        if self.ws_connection is None:  # the browser has disconnected in the meantime
            await self._remote.close()
            return
        what = "Forwarding ComfyUI's messages to its page"
        self.extension.tasks.start(self._pass_on(self._remote), what, when_done=self.close)

    async def on_message(self, message: str | bytes) -> None:
        remote = self._remote
        if remote is None:
            return
        with contextlib.suppress(ConnectionError):  # `_pass_on` notices it too, and closes
            if isinstance(message, bytes):
                await remote.send_bytes(message)
            else:
                await remote.send_str(message)

    def on_close(self) -> None:
        super().on_close()
        if self._remote is not None:
            # This also ends `_pass_on`. Cancelling it before its first step would close nothing.
            self.extension.tasks.start(self._remote.close(), "Closing the socket to ComfyUI")

    async def send_str(self, text: str) -> None:
        await self.write_message(text)

    async def send_bytes(self, data: bytes) -> None:
        await self.write_message(data, binary=True)

    async def _pass_on(self, remote: aiohttp.ClientWebSocketResponse[bool]) -> None:
        """Forward ComfyUI's messages until one side closes."""
        try:
            await proxy.pump(remote, self, timeout=READER_TIMEOUT)
        except (WebSocketClosedError, StreamClosedError, asyncio.TimeoutError):
            self.log.debug("A browser has closed ComfyUI's page, or reads too slowly")
        finally:
            self.close(TRY_AGAIN, "ComfyUI has closed the connection")
            await remote.close()
