"""``comfyui/``: a proxy of ComfyUI's own page, for users who are authenticated by Jupyter.

All requests below it are forwarded to the ComfyUI that the routes use, also on another machine.
Jupyter's credentials are not forwarded: ComfyUI and its custom nodes get neither cookies nor
tokens. ComfyUI compares ``Origin`` with ``Host`` to reject requests of other web sites (ComfyUI,
``server.py``). Here, Jupyter does that, and neither header is forwarded.

Two scripts are added to the page: with ``static/comfyui_page.js`` it
works below a path, and ``static/comfyui_xsrf.js`` adds Jupyter's XSRF
token to its requests. In style sheets, and in styles that scripts set, addresses at the root of
the host are changed to addresses below the page. All responses except the page are files that must
not act as pages of Jupyter, whose origin they have: see `comfyui_files`.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
from pathlib import Path
from posixpath import normpath, splitext
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httputil import url_concat
from tornado.iostream import StreamClosedError
from yarl import URL

from ..errors import ComfyDeployError, ComfyUIUnavailableError, NotFoundError, UnauthorizedError
from ..util import proxy_headers
from .base import ANY_SIZE, Base, passed_header
from .comfyui_files import USER_FILES, file_headers
from .streamed import BodyPipe, Streamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from ..comfyui.client import ComfyUIClient

PAGE = "comfyui"
OPENED = "comfydeploy_workflow"  # the field of the page's query that names a file to open
CHUNKS_AHEAD = 4  # chunks of a body that may wait for ComfyUI
START_WITHIN = 1.5  # seconds to wait for ComfyUI; then a page shows that it is starting

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
LARGEST_PAGE = 8 << 20  # bytes
# Addresses at the root of the host, such as those of the cursors of the editor's masks; in style
# sheets, and in texts of scripts that are the value of a style.
AT_ROOT = {
    ".css": re.compile(rb"""((?:url\(["']?|@import ["'])/)(?!/)""", re.IGNORECASE),
    ".js": re.compile(rb"""(["'`]url\(["']?/)(?!/)"""),
}
LONGEST_MATCH = 16  # bytes, including the one that must not follow
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


class PageBase(Base):
    """Base of the page and its WebSocket."""

    auth_action = "execute"

    @property
    def path(self) -> str:
        """The path below ``comfyui``, as the browser has sent it."""
        return str(self.request.path)[len(url_path_join(self.base_url, PAGE)) :]

    @property
    def target(self) -> str:
        """Path and query for the request to ComfyUI, without Jupyter's credentials."""
        query = proxy_headers.without_credentials(self.request.query)
        return f"{self.path}?{query}" if query else self.path

    async def authorize(self) -> None:
        """Allow users who may run workflows, unless the page is turned off."""
        if not self.extension.comfyui_page:
            raise NotFoundError("ComfyUI's page is turned off here (ComfyDeploy.comfyui_page)")
        await super().authorize()


class PageHandler(Streamed, PageBase):
    """Everything below ``comfyui/`` except the WebSocket, streamed in both directions."""

    _answer: asyncio.Task[aiohttp.ClientResponse] | None = None
    _body: BodyPipe | None = None
    _client: ComfyUIClient | None = None

    def get_login_url(self) -> str:
        """Redirect a browser that opens a page to the login page; answer 403 to other requests."""
        if not self._is_visit:
            raise self.not_logged_in()
        return str(super().get_login_url())

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
        if not self.current_user and self._is_visit:
            self.redirect(url_concat(self.get_login_url(), {"next": self.request.uri or ""}))
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
        headers = proxy_headers.request_headers(self.request.headers, MORE_HEADERS)
        dropped = CONDITIONS if self._is_page else WHOLE if self._at_root else frozenset()
        headers = {k: v for k, v in headers.items() if k.lower() not in dropped}
        connection: Any = self.request.connection
        connection.set_max_body_size(ANY_SIZE)
        given = self.request.headers
        if given.get("Transfer-Encoding") or given.get("Content-Length", "0") != "0":
            self._body = BodyPipe(CHUNKS_AHEAD)
        body = None if self._body is None else self._body.pieces()
        self._answer = asyncio.ensure_future(
            client.forward(str(self.request.method), self.target, headers, body)
        )

    async def take(self, chunk: bytes) -> None:
        """Forward a chunk of the body, no faster than ComfyUI reads it."""
        await self._put(chunk)

    async def get(self) -> None:
        """Forward ComfyUI's response."""
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
            if answer.status < 300:
                self.services.editing.note(self._client, str(self.request.method), self.path)
            await self._return(self._client, answer)
        except StreamClosedError:
            self.log.debug(
                "A browser closed its connection before it had received all of %s",
                self.request.path,
            )
        except ComfyUIUnavailableError as fault:
            self.log.warning("%s", fault.message)
            self.detach().close()  # shows the browser that the response is not complete
        finally:
            answer.close()

    head = post = put = patch = delete = get
    options = web.authenticated(get)

    def on_connection_close(self) -> None:
        """Abort the request to ComfyUI: the browser has disconnected."""
        super().on_connection_close()
        if self._answer is not None and not self._answer.cancel():
            with contextlib.suppress(asyncio.CancelledError, ComfyDeployError):
                self._answer.result().close()

    @property
    def _is_visit(self) -> bool:
        """Whether a browser requests this as a page."""
        accepted = self.request.headers.get("Accept", "")
        return self.request.method in {"GET", "HEAD"} and "text/html" in accepted

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
        """Return ComfyUI's client once it answers; None if a page about its start was sent."""
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
            self._send_page(
                "ComfyUI is starting", "This page opens automatically when ComfyUI is ready.", 2
            )
            return None
        try:
            return ready.result()
        except ComfyUIUnavailableError as fault:
            hint = str(fault.extra.get("hint") or "")
            self._send_page("ComfyUI is not available", f"{fault.message}. {hint}", 10)
            return None

    def _send_page(self, title: str, text: str, pause: int) -> None:
        self.set_status(503)
        self.set_header("Retry-After", str(pause))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            WAITING_PAGE.format(title=html.escape(title), text=html.escape(text), pause=pause)
        )

    async def _put(self, chunk: bytes | None) -> None:
        """Forward a chunk of the body to ComfyUI, if there is a body and a ComfyUI."""
        if self._body is not None and self._answer is not None:
            await self._body.put(chunk, self._answer)

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
        is_whole = answer.status == 200 and "Content-Encoding" not in answer.headers
        at_root = self._at_root if is_whole else None
        if is_page:
            await self._return_page(client, answer)
        elif self.request.method != "HEAD" and answer.status not in {204, 304}:
            pieces = client.chunks(answer)
            if at_root is not None:
                self.clear_header("Content-Length")
                self.clear_header("Accept-Ranges")
                folder = url_path_join(self.base_url, PAGE).lstrip("/").encode() + b"/"
                pieces = in_folder(pieces, at_root, folder)
            async for chunk in pieces:
                self.write(chunk)
                await self.flush()
        await self.finish()

    def _location(self, client: ComfyUIClient, answer: aiohttp.ClientResponse) -> str | None:
        """Return the target of a redirect: below the page, or on another web site.

        Requests of scripts are not redirected to other sites, because they contain the XSRF token.
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
        """Send the page with the scripts of this package as its first ones."""
        for name in OUTDATED:
            self.clear_header(name)
        self.set_header("Cache-Control", "private, no-cache")  # it contains the XSRF token
        page = bytearray()
        async for chunk in client.chunks(answer):
            page += chunk
            if len(page) > LARGEST_PAGE:
                raise client.unavailable("its page is too large")
        head, tag, rest = bytes(page).partition(b"<head>")
        cookie = self.get_cookie(self.settings.get("xsrf_cookie_name", "_xsrf"))
        tokens = json.dumps([self.xsrf_token.decode(), *([cookie] if cookie else [])])
        xsrf = XSRF_SCRIPT.replace("TOKENS", tokens.replace("<", "\\u003c"))
        scripts = f"<script>{SCRIPT}</script><script>{xsrf}</script>"
        self.write(head + tag + scripts.encode() * bool(tag) + rest)


async def in_folder(
    pieces: AsyncIterator[bytes], at_root: re.Pattern[bytes], folder: bytes
) -> AsyncIterator[bytes]:
    """Yield a file in which addresses at the root of the host are changed to ones below a path.

    Parameters
    ----------
    pieces : async iterator of bytes
        The file.
    at_root : re.Pattern
        Matches the start of such an address up to its first slash, which is group 1.
    folder : bytes
        The path, without its first slash.
    """
    rest = b""
    async for piece in pieces:
        text = rest + piece
        end = max(len(text) - LONGEST_MATCH, 0)  # a match that starts later may not be complete
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
