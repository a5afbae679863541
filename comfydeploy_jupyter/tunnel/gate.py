"""The gate: a small reverse proxy that lets in who has the secret, in a process of its own.

It is a process so that gigabytes through the tunnel take nothing from Jupyter's event loop. Its
owner hands it two open files: a listening socket, which outlives it (visitors who come while it is
replaced wait), and a pipe with its `GateSettings`: the secret is in no argument, no environment
and no file.

A visitor brings the secret as ``?access=…`` once; a browser is then sent to the same address
without it and keeps a cookie. Programs may also send ``Authorization: Bearer …`` with each request.
What lies behind the gate sees neither.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import signal
import socket
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..errors import ComfyUIUnavailableError
from ..peers import CheckedConnector, Peers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PARAMETER = "access"
COOKIE = "comfydeploy_access"
COOKIE_AGE = 7 * 24 * 3600  # s; the secret changes with every start of the tunnel anyway
CHUNK = 256 * 1024
LONGEST_HEADER = 64 * 1024  # bytes
CONNECT_TIMEOUT = 10.0  # s
ATTEMPTS = 10  # wrong secrets that one address may try ...
ATTEMPTS_WITHIN = 60.0  # ... in so many seconds
REMEMBERED = 10_000  # addresses
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

# of one connection, not of the message (RFC 9110, 7.6.1)
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
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


@dataclass(frozen=True)
class GateSettings:
    """What a gate must know.

    Attributes
    ----------
    target : str
        Address of what lies behind it, e.g. ``http://127.0.0.1:8188``.
    secret : str
        What opens it.
    trusted_users : sequence of str
        Whose process may be behind it, as `Peers` takes them.
    """

    target: str
    secret: str = field(repr=False)
    trusted_users: Sequence[str] = ()

    def to_json(self) -> bytes:
        """Return it for the pipe."""
        return json.dumps(asdict(self)).encode()


class Gate:
    """The application behind the listening socket.

    Parameters
    ----------
    settings : GateSettings
        Where it leads and what opens it.
    """

    def __init__(self, settings: GateSettings) -> None:
        self._target = settings.target.rstrip("/")
        self._peers = Peers(settings.trusted_users)
        self._secret = settings.secret.encode()
        self._pass = hmac.new(self._secret, b"cookie", hashlib.sha256).hexdigest().encode()
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        server = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,
            keepalive_timeout=300.0,
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        async with aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=CheckedConnector(self._peers, limit=0),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as self._session:
            await runner.setup()
            await web.SockSite(runner, listener, backlog=256).start()
            await stop.wait()
            await runner.cleanup()

    # --- who may enter

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.raw_path.startswith("/"):
            return _refusal(request, 400, "bad_request", "This address cannot be understood")
        given, path = _take_secret(request.raw_path)
        bearer = _bearer(request)
        from_cookie = _cookie(request).encode()
        by_cookie = hmac.compare_digest(from_cookie, self._pass)
        if by_cookie:
            answer = None
        elif given is None and bearer is None:
            answer = _refusal(
                request,
                401,
                "unauthorized",
                "This address is protected: open it by its whole link, or give the secret",
            )
        else:
            answer = self._judge(request, given, bearer)
        if answer is not None:
            return answer
        if not _same_site(request) or (by_cookie and not _own_page(request)):
            return _refusal(request, 403, "cross_origin", "Another web site may not do this")
        fresh = given is not None and hmac.compare_digest(given, self._secret)
        if fresh and request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            # a page whose address has the secret would hand it on, in histories and bookmarks
            # browsers read a backslash as a slash, and two of them as another host
            answer = web.Response(status=303, headers={"Location": "/" + path.lstrip("/\\")})
            self._remember(request, answer)
            return _sealed(answer)
        return await self._forward(request, path, fresh=fresh)

    def _judge(
        self, request: web.BaseRequest, given: bytes | None, bearer: bytes | None
    ) -> web.Response | None:
        """Return None for who brought the secret, else why not."""
        visitor = request.headers.get("Cf-Connecting-Ip", "") or (request.remote or "")
        now = time.monotonic()
        tries = [t for t in self._wrong.get(visitor, []) if now - t < ATTEMPTS_WITHIN]
        if len(tries) >= ATTEMPTS:
            answer = _refusal(request, 429, "too_many_attempts", "Too many wrong secrets; wait")
            answer.headers["Retry-After"] = str(int(ATTEMPTS_WITHIN))
            return answer
        right = [hmac.compare_digest(secret or b"", self._secret) for secret in (given, bearer)]
        if any(right):
            return None
        self._wrong[visitor] = [*tries, now]
        self._wrong.move_to_end(visitor)
        if len(self._wrong) > REMEMBERED:
            self._wrong.popitem(last=False)
        return _refusal(request, 401, "unauthorized", "That secret is wrong")

    def _remember(self, request: web.BaseRequest, answer: web.StreamResponse) -> None:
        answer.set_cookie(
            COOKIE,
            self._pass.decode(),
            max_age=COOKIE_AGE,
            path="/",
            httponly=True,
            samesite="Lax",  # Strict would not survive being sent on from a link elsewhere
            secure=request.headers.get("X-Forwarded-Proto", "") == "https",
        )

    # --- passing on

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
            async with self._session.request(
                request.method,
                address,
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            ) as answer:
                return await self._pass_back(request, answer, fresh=fresh)
        except (aiohttp.ClientConnectorError, asyncio.TimeoutError, ComfyUIUnavailableError):
            return _refusal(request, 502, "unreachable", "What lies behind this does not answer")
        except aiohttp.WSServerHandshakeError as fault:
            return _refusal(request, fault.status, "refused", "The WebSocket was refused")
        except aiohttp.ClientError:
            return _refusal(request, 502, "broken", "What lies behind this broke the connection")

    def _outgoing(self, request: web.BaseRequest) -> CIMultiDict[str]:
        """Return the headers to pass on: none of one connection, nothing that opens the gate."""
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in _end_to_end(request.headers):
            kept = _without_pass(value) if name.lower() == "cookie" else value
            if kept and self._secret.decode() not in kept:
                headers.add(name, kept)
        return headers

    async def _pass_back(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, *, fresh: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in _end_to_end(answer.headers):
            response.headers.add(name, value)
        if fresh:
            self._remember(request, response)
        _sealed(response)
        await response.prepare(request)
        try:
            if request.method != "HEAD":
                async for chunk in answer.content.iter_chunked(CHUNK):
                    await response.write(chunk)
            await response.write_eof()
        except aiohttp.ClientError:
            # too late for a status: a broken connection tells that the body is not whole
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # the visitor left
        return response

    async def _forward_socket(
        self, request: web.BaseRequest, address: URL, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        assert self._session is not None
        protocols = [
            protocol.strip()
            for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(",")
            if protocol.strip()
        ]
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
                asyncio.ensure_future(_pump(visitor, behind)),
                asyncio.ensure_future(_pump(behind, visitor)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            await visitor.close(code=_sendable(behind.close_code))
            return visitor


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse[Any],
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse[Any],
) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.PING:
            await sink.ping(message.data)
        elif message.type is aiohttp.WSMsgType.PONG:
            await sink.pong(message.data)
    await sink.close(code=_sendable(source.close_code))


def _sendable(code: int | None) -> int:
    """Return a close code that may be sent; some only tell that none was (RFC 6455, 7.4.1)."""
    return 1001 if code is None or code in (1005, 1006, 1015) else code


def _take_secret(raw_path: str) -> tuple[bytes | None, str]:
    """Split the secret off a path and query; the rest stays byte for byte what it was."""
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
    return value.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else None


def _without_pass(cookies: str) -> str:
    """Return a ``Cookie`` header without our own cookie."""
    parts = [part.strip() for part in cookies.split(";")]
    return "; ".join(part for part in parts if part.partition("=")[0].strip() != COOKIE)


def _cookie(request: web.BaseRequest) -> str:
    for header in request.headers.getall("Cookie", []):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                return value
    return ""


def _same_site(request: web.BaseRequest) -> bool:
    """Whether a request that changes something, or a WebSocket, comes from our own pages.

    Programs send no ``Origin``; a browser always does, and no page can make it lie.
    """
    is_socket = bool(request.headers.get("Upgrade"))
    origin = request.headers.get("Origin")
    if origin is None or (request.method in SAFE_METHODS and not is_socket):
        return True
    return urlsplit(origin).netloc.lower() == request.headers.get("Host", "").lower()


def _own_page(request: web.BaseRequest) -> bool:
    """Whether a browser asks for one of our own pages, or follows a link to one.

    For pictures, scripts and frames of other sites it sends no ``Origin``; a site on a sibling
    domain gets the cookie sent along.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site in ("none", "same-origin"):
        return True
    return (
        request.method in ("GET", "HEAD")
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest", "document") == "document"
    )


def _end_to_end(headers: CIMultiDictProxy[str]) -> Iterator[tuple[str, str]]:
    named = {
        name.strip().lower()
        for value in headers.getall("Connection", [])
        for name in value.split(",")
    }
    for name, value in headers.items():
        if name.lower() not in _HOP_BY_HOP and name.lower() not in named:
            yield name, value


def _refusal(request: web.BaseRequest, status: int, code: str, text: str) -> web.Response:
    """Return an answer of the gate itself: a page for browsers, JSON for programs."""
    headers = {"X-ComfyDeploy-Gate": code, "Cache-Control": "no-store"}
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
    """Keep Cloudflare's edge from storing what it would then hand out past the gate."""
    answer.headers["CDN-Cache-Control"] = "no-store"
    return answer


async def _main(listener: socket.socket, settings: GateSettings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Gate(settings).serve(listener, stop)


def main() -> None:
    """Run the gate that `GateProcess` asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listener", type=int, required=True, help="a listening socket")
    parser.add_argument("--settings", type=int, required=True, help="a pipe with the settings")
    arguments = parser.parse_args()
    with open(arguments.settings, "rb") as pipe:  # noqa: PTH123 - a descriptor has no path
        settings = GateSettings(**json.load(pipe))
    listener = socket.socket(fileno=arguments.listener)
    listener.setblocking(False)
    asyncio.run(_main(listener, settings))


if __name__ == "__main__":
    main()
