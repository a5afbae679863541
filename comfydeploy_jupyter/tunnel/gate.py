"""The gate: a small reverse proxy that requires a secret, in a separate process.

So gigabytes of traffic do not block Jupyter's event loop. Its parent passes two open files to it: a
listening socket, which stays open when the process is replaced (visitors wait in the meantime), and
a pipe with its `GateSettings`. So the secret is in no argument, environment variable or file.

A visitor sends the secret as ``?access=…`` once; a browser is then redirected to the same address
without it and stores a cookie. Programs may also send ``Authorization: Bearer …`` in each request.
Neither is forwarded to the service behind the gate, which gets the credentials of its own instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import signal
import socket
import sys
import time
import traceback
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote_to_bytes, urlsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ..errors import ComfyUIUnavailableError
from ..util import proxy
from ..util.http import CheckedConnector, client_context, new_session, without_redirects
from ..util.sockets import Peers, is_loopback
from ..util.tasks import end

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Upstream:
    """What the service behind a gate asks for: the gate sends it, and visitors never see it."""

    # Headers of each request; they replace those of visitors
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    # PEM files; see `client_context`
    client_cert: str = ""
    client_key: str = ""
    ca: str = ""

    def tls(self) -> ssl.SSLContext | None:
        """Return the context of connections; None for the system's. This reads files."""
        return client_context(client_cert=self.client_cert, client_key=self.client_key, ca=self.ca)


@dataclass(frozen=True)
class GateSettings:
    target: str  # address of the service behind the gate, e.g. ``http://127.0.0.1:8188``
    secret: str = field(repr=False)
    trusted_users: Sequence[str] = ()  # users whose process may be behind the gate; see `Peers`
    upstream: Upstream = field(default_factory=Upstream)

    @property
    def host(self) -> str | None:
        """The ``Host`` that the service gets; None if it gets the one of the visitor.

        A reverse proxy chooses the service by this name, so a service on another machine, or one
        that asks for credentials, gets its own.
        """
        parts = urlsplit(self.target)
        if self.upstream == Upstream() and is_loopback(parts.hostname or ""):
            return None
        return parts.netloc

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> GateSettings:
        found = json.loads(text)
        return cls(**{**found, "upstream": Upstream(**found["upstream"])})


HEAD_TIMEOUT = 10.0  # seconds that a visitor has to send the head of a request
HALF_HEADS = 64  # connections of one address with an incomplete head; further ones close the oldest
_END_OF_HEAD = b"\r\n\r\n"


class Connection(web.RequestHandler):
    """A visitor's connection, which is closed if the head of a request takes too long.

    At most `HALF_HEADS` connections of one address may have an incomplete head: if there are more,
    the oldest is closed.
    """

    def __init__(self, server: Server, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._half_heads = server.half_heads
        self._handling = False
        self._last = b""
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._begin_head()

    def data_received(self, data: bytes) -> None:
        """Handle received bytes; those after the end of a request begin the next one."""
        self._last = data[-len(_END_OF_HEAD) :]
        if not self._handling and self not in self._half_heads:
            self._begin_head()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.head_is_complete()
        super().connection_lost(exc)

    def head_is_complete(self) -> None:
        """Stop the timer: the request is being handled, or the connection is closed."""
        self._handling = True
        self._half_heads.pop(self, None)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def request_is_over(self) -> None:
        """Wait for the head of the next request, a part of which may have arrived already."""
        self._handling = False
        if self._last != _END_OF_HEAD and self.transport is not None:
            self._begin_head()

    def _begin_head(self) -> None:
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._half_heads[self] = address
        self._limit = asyncio.get_running_loop().call_later(HEAD_TIMEOUT, self.abort)
        of_address = [one for one, where in self._half_heads.items() if where == address]
        if len(of_address) > HALF_HEADS:
            of_address[0].abort()

    def abort(self) -> None:
        self.head_is_complete()
        if self.transport is not None:
            self.transport.abort()


class Server(web.Server):
    def __init__(self, handler: Any, **options: Any) -> None:
        super().__init__(handler, handler_cancellation=True, **options)
        self.half_heads: dict[Connection, str] = {}  # with the address of each, oldest first
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)


PARAMETER = "access"
COOKIE = "comfydeploy_access"
COOKIE_AGE = 7 * 24 * 3600  # seconds; the secret changes with each start of the tunnel anyway
MAX_HEADER = 64 * 1024  # bytes
ATTEMPTS = 10  # wrong secrets that one address may send ...
ATTEMPTS_PERIOD = 60.0  # ... within so many seconds
REMEMBERED = 10_000  # addresses
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

# Headers in which Cloudflare Access identifies a visitor; other servers could misuse them.
_IDENTITY = "cf-access-"
_LOGIN_HEADERS = frozenset({"www-authenticate", "set-cookie"})
_OWN_COOKIES = frozenset({COOKIE, "CF_Authorization", "CF_AppSession"})
_OF_THE_SOCKET = "sec-websocket-"

A = TypeVar("A", bound=web.StreamResponse)

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Access</title>
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
  main {{ max-width: 26rem; margin: 20vh auto; padding: 0 1rem; }}
  input, button {{ font: inherit; padding: .4rem .6rem; }}
</style>
<main><h1>{title}</h1><p>{text}</p>
<form><label>Secret <input type="password" name="{parameter}" autocomplete="off" required></label>
<button>Enter</button></form></main></html>
"""


class RefusedError(Exception):
    """The gate answers a request itself; has status, code and text of the response."""


class Gate:
    def __init__(self, settings: GateSettings) -> None:
        self._target = settings.target.rstrip("/")
        self._host = settings.host
        self._upstream = settings.upstream
        self._peers = Peers(settings.trusted_users)
        self._secret = settings.secret.encode()
        self._pass = hmac.new(self._secret, b"cookie", hashlib.sha256).hexdigest().encode()
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        server = Server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=300.0,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        tls = await asyncio.to_thread(self._upstream.tls)
        async with new_session(
            CheckedConnector(self._peers, tls),
            trace_configs=[without_redirects()],  # of WebSockets: they would get the headers, too
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as self._session:
            await runner.setup()
            await web.SockSite(runner, listener, backlog=256).start()
            await stop.wait()
            await runner.cleanup()

    # --- access control

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("Connection", request.protocol)
        connection.head_is_complete()
        try:
            return await self._answer(request)
        except RefusedError as error:
            return _refusal(request, *error.args)
        except ValueError:  # an address or a header that cannot be forwarded
            if request.writer.output_size > 0:
                raise
            return _refusal(request, 400, "bad_request", "This request is not valid")
        finally:
            connection.request_is_over()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.raw_path.startswith("/"):
            raise RefusedError(400, "bad_request", "This address is not valid")
        if request.method == "TRACE":  # the response would contain the headers of the gate
            raise RefusedError(405, "method_not_allowed", "TRACE is not allowed")
        given, path = _split_secret(request.raw_path)
        bearer = _bearer(request)
        by_cookie = hmac.compare_digest(_bytes(_cookie(request)), self._pass)
        if not by_cookie:
            self._check_secret(request, given, bearer)
        if not _same_site(request) or (by_cookie and not _own_page(request)):
            text = "Requests from other web sites are not allowed"
            raise RefusedError(403, "cross_origin", text)
        fresh = given is not None and hmac.compare_digest(given, self._secret)
        if fresh and request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            # An address with the secret would stay in histories and bookmarks.
            # Browsers read a backslash as a slash, and two slashes as the start of another host.
            answer = web.Response(status=303, headers={"Location": "/" + path.lstrip("/\\")})
            self._remember(request, answer)
            return _sealed(answer)
        return await self._forward(request, path, fresh=fresh)

    def _check_secret(
        self, request: web.BaseRequest, given: bytes | None, bearer: bytes | None
    ) -> None:
        """Raise unless a visitor has sent the right secret.

        The right secret is accepted after any number of wrong ones from the address: the address
        is a header that the visitor can choose, and guessing 256 bits is not possible anyway.
        """
        if given is None and bearer is None:
            text = "This address is protected: open it with its complete link, or enter the secret"
            raise RefusedError(401, "unauthorized", text)
        right = [hmac.compare_digest(one or b"", self._secret) for one in (given, bearer)]
        if any(right):
            return
        visitor = _address(request)
        now = time.monotonic()
        tries = [t for t in self._wrong.get(visitor, []) if now - t < ATTEMPTS_PERIOD]
        if len(tries) >= ATTEMPTS:
            text = "Too many wrong secrets; try again later"
            raise RefusedError(429, "too_many_attempts", text)
        self._wrong[visitor] = [*tries, now]
        self._wrong.move_to_end(visitor)
        if len(self._wrong) > REMEMBERED:
            self._wrong.popitem(last=False)
        raise RefusedError(401, "unauthorized", "The secret is wrong")

    def _remember(self, request: web.BaseRequest, answer: web.StreamResponse) -> None:
        answer.set_cookie(
            COOKIE,
            self._pass.decode(),
            max_age=COOKIE_AGE,
            path="/",
            httponly=True,
            samesite="Lax",  # Strict would be lost when a link on another site is followed
            secure=request.headers.get("X-Forwarded-Proto", "") == "https",
        )

    # --- forwarding

    async def _forward(
        self, request: web.BaseRequest, path: str, *, fresh: bool
    ) -> web.StreamResponse:
        assert self._session is not None
        address = URL(self._target + path, encoded=True)
        headers = self._outgoing(request)
        if headers.popall("Expect", None) and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._forward_socket(request, address, headers)
            body = request.content.iter_any() if request.body_exists else None
            async with await proxy.send(
                self._session, request.method, address, headers, body
            ) as answer:
                return await self._pass_back(request, answer, fresh=fresh)
        except aiohttp.ClientSSLError:
            text = "The certificate of the server behind this address is not accepted"
            raise RefusedError(502, "bad_certificate", text) from None
        except (aiohttp.ClientConnectorError, asyncio.TimeoutError, ComfyUIUnavailableError):
            text = "The server behind this address does not answer"
            raise RefusedError(502, "unreachable", text) from None
        except aiohttp.WSServerHandshakeError as error:
            text = "The WebSocket was refused"
            raise RefusedError(error.status, "refused", text) from None
        except aiohttp.ClientError:
            text = "The server behind this address closed the connection"
            raise RefusedError(502, "broken", text) from None

    def _outgoing(self, request: web.BaseRequest) -> CIMultiDict[str]:
        """Return the headers to forward, without those of the gate and of the connection.

        The service gets the credentials that it asks for.
        """
        own = dict(self._upstream.headers)
        replaced = {name.lower() for name in own}
        if self._host is not None:
            own["Host"] = self._host
            # The gate has compared Origin with the visitor's host; ComfyUI would with another one.
            replaced |= {"host", "origin"}
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in proxy.end_to_end(request.headers.items()):
            if name.lower().startswith(_IDENTITY) or name.lower() in replaced:
                continue
            kept = _without_pass(value) if name.lower() == "cookie" else value
            kept = kept.encode("utf-8", "replace").decode()
            if kept and self._secret.decode() not in kept:
                headers.add(name, kept)
        headers.update(own)
        return headers

    async def _pass_back(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, *, fresh: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in proxy.end_to_end(answer.headers.items()):
            if name.lower() in _LOGIN_HEADERS and self._upstream != Upstream():
                continue  # visitors do not log in at the service, and get no session there
            if name.lower() == "location" and value.startswith(f"{self._target}/"):
                value = value.removeprefix(self._target)
            response.headers.add(name, value.encode("utf-8", "replace").decode())
        if fresh:
            self._remember(request, response)
        _sealed(response)
        await response.prepare(request)
        try:
            if request.method != "HEAD":
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            await response.write_eof()
        except aiohttp.ClientError:
            # Too late for an error status: a broken connection shows that the body is incomplete.
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # the visitor has disconnected
        return response

    async def _forward_socket(
        self, request: web.BaseRequest, address: URL, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        assert self._session is not None
        asked = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        protocols = list(filter(None, map(str.strip, asked)))
        for name in [name for name in headers if name.lower().startswith(_OF_THE_SOCKET)]:
            headers.popall(name, None)
        async with self._session.ws_connect(
            address, headers=headers, protocols=protocols, autoping=False, max_msg_size=0
        ) as behind:
            chosen = [behind.protocol] if behind.protocol else []
            visitor = web.WebSocketResponse(
                protocols=chosen, autoping=False, compress=False, max_msg_size=0
            )
            await visitor.prepare(request)
            pumps = [
                asyncio.ensure_future(_relay(visitor, behind)),
                asyncio.ensure_future(_relay(behind, visitor)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end(pumps)
            await visitor.close(code=_sendable(behind.close_code))
            return visitor


class ErrorCounter(logging.Handler):
    """Logs the places of errors and their numbers, without any data from visitors.

    Each place is logged when it has been reached once, twice, four times and so on, so the log
    grows with the logarithm of the number of errors. Messages and tracebacks, which contain the
    request and so the secret, are never logged.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        place = f"{record.levelname} {record.name} {record.module}:{record.lineno}"
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            place += f" {type(error).__name__}"
            for frame, line in list(traceback.walk_tb(error.__traceback__))[-1:]:
                place += f" at {frame.f_code.co_name}:{line}"
        count = self._seen[place] = self._seen.get(place, 0) + 1
        if count & (count - 1) == 0:
            print(f"{place} ({count})", file=sys.stderr, flush=True)


async def _relay(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse[Any],
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse[Any],
) -> None:
    await proxy.pump(source, sink)
    await sink.close(code=_sendable(source.close_code))


def _bytes(text: str) -> bytes:
    """Return the original bytes of a header, which aiohttp decodes as UTF-8 if possible."""
    return text.encode("utf-8", "surrogateescape")


def _address(request: web.BaseRequest) -> str:
    """Return the address of a visitor: the one in cloudflared's header, if it is valid."""
    with contextlib.suppress(ValueError):
        return ip_address(request.headers.get("Cf-Connecting-Ip", "")).packed.hex()
    return request.remote or ""


def _sendable(code: int | None) -> int:
    """Return a close code that may be sent; some are for local use only (RFC 6455, 7.4.1)."""
    return 1001 if code is None or code in (1005, 1006, 1015) else code


def _split_secret(raw_path: str) -> tuple[bytes | None, str]:
    path, mark, query = raw_path.partition("?")
    if not mark:
        return None, raw_path
    secret: bytes | None = None
    rest = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == PARAMETER:
            secret = unquote_to_bytes(value)
        else:
            rest.append(pair)
    return secret, path + (f"?{'&'.join(rest)}" if rest else "")


def _bearer(request: web.BaseRequest) -> bytes | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return _bytes(value.strip()) if scheme.lower() == "bearer" else None


def _without_pass(cookies: str) -> str:
    """Return a ``Cookie`` header without the gate's cookie and those of Cloudflare Access."""
    parts = [part.strip() for part in cookies.split(";")]
    return "; ".join(part for part in parts if part.partition("=")[0].strip() not in _OWN_COOKIES)


def _cookie(request: web.BaseRequest) -> str:
    for header in request.headers.getall("Cookie", []):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                return value
    return ""


def _same_site(request: web.BaseRequest) -> bool:
    """Return whether a changing request, or a WebSocket, is from a page behind the gate.

    Programs send no ``Origin``; a browser always does, and no page can change it.
    """
    is_socket = bool(request.headers.get("Upgrade"))
    origin = request.headers.get("Origin")
    if origin is None or (request.method in SAFE_METHODS and not is_socket):
        return True
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return False
    return host.lower() == request.headers.get("Host", "").lower()


def _own_page(request: web.BaseRequest) -> bool:
    """Return whether a request is from a page behind the gate, or follows a link to one.

    For pictures, scripts and frames in other sites it sends no ``Origin``; in requests of a site on
    a sibling domain it sends the cookie.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site in ("none", "same-origin"):
        return True
    return (
        request.method in ("GET", "HEAD")
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest", "document") == "document"
    )


def _refusal(request: web.BaseRequest, status: int, code: str, text: str) -> web.Response:
    """Return an error response of the gate itself: a page for browsers, JSON for programs."""
    headers = {"X-ComfyDeploy-Gate": code, "Cache-Control": "no-store"}
    if code == "too_many_attempts":
        headers["Retry-After"] = str(int(ATTEMPTS_PERIOD))
    if "text/html" in request.headers.get("Accept", "") and status in (401, 429):
        page = _PAGE.format(title="Protected", text=text, parameter=PARAMETER)
        headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
            "frame-ancestors 'none'"
        )
        answer = web.Response(status=status, text=page, content_type="text/html", headers=headers)
    else:
        body = {"success": False, "error": text, "code": code, "message": text, "details": {}}
        answer = web.json_response(body, status=status, headers=headers)
    return _sealed(answer)


def _sealed(answer: A) -> A:
    """Forbid Cloudflare's servers to cache a response, since caching would bypass the gate."""
    answer.headers["CDN-Cache-Control"] = "no-store"
    return answer


async def _main(listener: socket.socket, settings: GateSettings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Gate(settings).serve(listener, stop)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listener", type=int, required=True, help="a listening socket")
    parser.add_argument("--settings", type=int, required=True, help="a pipe with the settings")
    arguments = parser.parse_args()
    with open(arguments.settings, "rb") as pipe:  # noqa: PTH123 - a descriptor has no path
        settings = GateSettings.from_json(pipe.read())
    listener = socket.socket(fileno=arguments.listener)
    listener.setblocking(False)
    logging.basicConfig(handlers=[ErrorCounter()], force=True)
    asyncio.run(_main(listener, settings))


if __name__ == "__main__":
    main()
