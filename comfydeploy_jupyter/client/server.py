"""HTTP with the Jupyter server: addresses, credentials, errors."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from numbers import Real
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .._version import __version__
from ..errors import (
    ComfyDeployError,
    InvalidRequestError,
    NotFoundError,
    ServerUnreachableError,
    UnauthorizedError,
)
from ..util.sockets import Peers, as_end, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable


T = TypeVar("T")

PREFIX = "comfyui-deploy"
HOW_TO_ENABLE = (
    "enable it with `jupyter server extension enable comfydeploy_jupyter` in the environment of "
    "that server and restart the server"
)
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 120.0


class Server:
    """One Jupyter server that has the routes of this package; safe to use from several threads.

    Its address may be one copied from the browser (``…/lab?token=…``). With `own`, nothing is sent
    unless it is a process of this user or of root, or on another machine: any user can listen at
    the port of a server that has ended.
    """

    def __init__(self, url: str, token: str | None = None, *, own: bool = False) -> None:
        self.url, found = _split_address(url)
        self.token = (found if token is None else token) or ""
        self._own = own and hasattr(os, "getuid")  # Windows knows no user ids

    def __repr__(self) -> str:
        return f"Server({self.url!r})"

    def session(self) -> requests.Session:
        """Return a new session with the credentials of this server.

        It follows no redirects, keeps no cookies, and does not send a request for this machine
        through a proxy.
        """
        session = requests.Session()
        if self._own:
            for scheme in ("http://", "https://"):
                session.mount(scheme, _OwnServers())
        session.auth = _Credentials(self.token)
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers["User-Agent"] = f"comfydeploy-jupyter/{__version__}"
        session.trust_env = not is_loopback(urlsplit(self.url).hostname or "")
        return session

    def address(self, path: str, params: dict[str, Any] | None = None) -> str:
        """Return the full address of a route, e.g. of ``"run"``."""
        query = without_none(params or {})
        return f"{self.url}{PREFIX}/{path}" + (
            f"?{urlencode(query, errors='replace')}" if query else ""
        )

    def owns(self, url: str) -> str | None:
        """Return the full address if ``url`` is one of this server's routes, else None."""
        address = urljoin(self.url, url)
        return address if address.startswith(f"{self.url}{PREFIX}/") else None

    def get(self, path: str, *, timeout: float = READ_TIMEOUT, **params: Any) -> Any:
        """Return the JSON reply of a GET route; parameters that are None are left out."""
        with self.request("GET", self.address(path, params), timeout=timeout) as response:
            return json_of(response)

    def post(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        timeout: float = READ_TIMEOUT,
        **fields: Any,
    ) -> Any:
        """Return the JSON reply of a POST route; `fields` that are None are left out."""
        body = {**(body or {}), **without_none(fields)}
        with self.request("POST", self.address(path), body=body, timeout=timeout) as response:
            return json_of(response)

    @contextmanager
    def request(
        self, method: str, address: str, *, timeout: float = READ_TIMEOUT, **content: Any
    ) -> Generator[requests.Response]:
        """Send a request and give its response; see `send`. It may break while it is read."""
        with (
            self.session() as session,
            send(session, method, address, timeout=timeout, **content) as response,
        ):
            try:
                yield response
            except requests.RequestException as error:
                raise unreachable(address, error) from error


def send(
    session: requests.Session,
    method: str,
    address: str,
    *,
    body: dict[str, Any] | None = None,
    data: Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
    timeout: float,
) -> requests.Response:
    """Send a request; return the response, whose body is not read yet.

    An error of the server is raised as its class in `errors`. A ServerUnreachableError tells in
    ``extra["sent"]`` whether the server may have got the request. The timeout is the longest
    silence, s.
    """
    if body is not None:
        headers = {**(headers or {}), "Content-Type": "application/json"}
    content = data if body is None else encode(body)
    response = send_any(session, method, address, data=content, headers=headers, timeout=timeout)
    if response.is_redirect or not response.ok:
        with response:
            raise _error_of(response)
    return response


def send_any(
    session: requests.Session, method: str, address: str, *, timeout: float, **content: Any
) -> requests.Response:
    """Send a request as `send` does; return the response also if it is an error."""
    try:
        return session.request(
            method,
            address,
            timeout=(CONNECT_TIMEOUT, timeout),
            stream=True,
            allow_redirects=False,
            **content,
        )
    except requests.RequestException as error:
        raise unreachable(address, error) from error


def chunks_of(response: requests.Response) -> Iterator[bytes]:
    """Yield the parts of a body as soon as they arrive."""
    yield from response.iter_content(None if getattr(response.raw, "chunked", False) else 1)


def interrupt(response: requests.Response) -> None:
    """End the reading of a response in another thread."""
    # Closing a file descriptor does not wake a thread that reads from it; a shutdown does.
    with (
        suppress(OSError, ValueError, AttributeError),
        socket.socket(fileno=os.dup(response.raw.fileno())) as connection,
    ):
        connection.shutdown(socket.SHUT_RDWR)


def check_timeout(timeout: object) -> None:
    """Raise unless a timeout is None or a positive number of seconds."""
    if timeout is None:
        return
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, Real)
        or not 0 < float(timeout) < threading.TIMEOUT_MAX
    ):
        raise InvalidRequestError.of_field(
            "timeout", f"must be a positive number of seconds, not {timeout!r}"
        )


def fields_in(kind: Callable[..., T], reply: Mapping[str, Any]) -> T:
    """Return an object of a dataclass, made of those values of a reply that it has fields for."""
    names = vars(kind)["__dataclass_fields__"]
    return kind(**{name: value for name, value in reply.items() if name in names})


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields whose values are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def unreachable(address: str, error: Exception) -> ServerUnreachableError:
    """Return the error for a request without a reply, or with only a part of one."""
    parts = urlsplit(address)
    where = f"{parts.scheme}://{parts.netloc}{parts.path.partition('comfyui-deploy/')[0]}"
    if isinstance(error, requests.exceptions.SSLError):
        return ServerUnreachableError(
            f"the certificate of {where} is not trusted (set REQUESTS_CA_BUNDLE to the file "
            "with the certificate of its authority)",
            extra={"sent": False},
        )
    cause: object = error.args[0] if error.args else None
    kind = type(getattr(cause, "reason", cause)).__name__
    unconnected = kind in {"NewConnectionError", "NameResolutionError"}
    refused = unconnected or isinstance(error, requests.ConnectTimeout)
    why = "does not answer" if refused else "broke the connection"
    if isinstance(error, requests.ReadTimeout):
        why = "has not answered in time"
    return ServerUnreachableError(
        f"the Jupyter server at {where} {why}", extra={"sent": not refused}
    )


def encode(body: dict[str, Any]) -> bytes:
    """Return an object as JSON; numpy scalars, arrays and paths in it become JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, PurePath):
            return str(value)
        for convert in ("tolist", "item"):
            if hasattr(value, convert):
                return getattr(value, convert)()
        raise TypeError(f"a {type(value).__name__} cannot be sent as JSON")

    try:
        return json.dumps(body, default=plain, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"the request is not JSON: {error}") from error


def plain(value: Any) -> Any:
    """Return a copy of a value as JSON has it: without numpy objects, paths and tuples."""
    return json.loads(encode({"value": value}))["value"]


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(text: bytes | str) -> Any:
    """Parse JSON of the server; replace unpaired surrogates, such as half of an emoji, by ``?``.

    A kernel cannot send these to a page: the whole output of a cell would be missing.
    """
    found = json.loads(text)
    if _SURROGATE.search(text.encode() if isinstance(text, str) else text):
        found = json.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    return found


def json_of(response: requests.Response) -> Any:
    """Return the JSON of a response."""
    try:
        return loads(response.content)
    except ValueError as error:
        raise ComfyDeployError(
            f"{urlsplit(response.url).path} did not return JSON; perhaps a proxy or a login page "
            "has answered"
        ) from error


def _error_of(response: requests.Response) -> ComfyDeployError:
    path = urlsplit(response.url).path
    if response.is_redirect:
        location = urlsplit(urljoin(response.url, response.headers.get("Location", "")))
        return UnauthorizedError(
            f"{path} redirects to another address ({location.netloc}{location.path}): the server "
            "is not running, requires a login, or has another address"
        )
    try:
        reply = loads(response.content)
    except (requests.RequestException, ValueError):
        reply = None
    if isinstance(reply, dict) and isinstance(reply.get("code"), str):
        return ComfyDeployError.from_reply(response.status_code, reply)
    if response.status_code == NotFoundError.status:
        return ExtensionMissingError(
            f"the Jupyter server answers, but has no {path}: comfydeploy_jupyter is not enabled "
            f"there; {HOW_TO_ENABLE}"
        )
    if response.status_code in {401, UnauthorizedError.status}:
        return UnauthorizedError(f"{path}: the Jupyter server does not accept the token")
    error = ComfyDeployError(f"{path} answered {response.status_code} {response.reason}")
    error.status = response.status_code
    return error


class ExtensionMissingError(NotFoundError):
    """A Jupyter server answers, but does not have this extension enabled."""


class _Credentials(AuthBase):
    # An auth object, since requests would replace an Authorization header by that of ~/.netrc.
    # Without a token, Jupyter compares a cookie with a header, to make sure that no other web site
    # has sent the request.
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"token {self._token}"
        else:
            nonce = uuid.uuid4().hex
            request.headers["Cookie"] = f"_xsrf={nonce}"
            request.headers["X-XSRFToken"] = nonce
        return request


def _check_owner(connection: HTTPConnection) -> None:
    """Raise unless a process of this user or of root is at the other end of a connection."""
    ends = (as_end(name()) for name in (connection.sock.getsockname, connection.sock.getpeername))
    reason = Peers().objection(*ends)
    if reason is not None:
        connection.close()
        raise ServerUnreachableError(
            f"the Jupyter server at {connection.host}:{connection.port} gets no token: {reason}. If"
            " you trust it, give its address and token to connect(url, token)",
            details={"reason": reason, "foreign": True},
            extra={"sent": False},
        )


class _OwnHTTP(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check_owner(self)


class _OwnHTTPS(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _check_owner(self)


class _OwnHTTPPool(HTTPConnectionPool):
    ConnectionCls = _OwnHTTP


class _OwnHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _OwnHTTPS


class _OwnServers(HTTPAdapter):
    """Checks the owner of each new connection before its first request."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        pools = {"http": _OwnHTTPPool, "https": _OwnHTTPSPool}
        self.poolmanager.pool_classes_by_scheme = pools


def _split_address(url: str) -> tuple[str, str | None]:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # raises if it is no number
    except ValueError:
        raise InvalidRequestError.of_field("url", "is not an address") from None
    if parts.scheme == "http+unix":
        raise InvalidRequestError.of_field(
            "url", "Unix sockets are not supported; start Jupyter with a port"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidRequestError.of_field(
            "url",
            "must start with http:// or https:// and name a host, not"
            f" {url.partition('?')[0].rpartition('@')[2]!r}",
        )
    token = parse_qs(parts.query).get("token", [None])[0]
    host = parts.netloc.rpartition("@")[2]  # a user and password would never be sent
    return urlunsplit((parts.scheme, host, _without_page(parts.path), "", "")), token


_PAGES = {
    "lab": ("tree", "workspaces"),
    "doc": ("tree", "workspaces"),
    "nbclassic": ("tree", "notebooks"),
}
"""The first parts of the paths of JupyterLab's and Notebook's pages, and the second parts."""


def _without_page(path: str) -> str:
    """Return the base URL in a path of JupyterLab or Notebook, such as ``/lab/tree/a.ipynb``."""
    parts = path.strip("/").split("/")
    for index, part in enumerate(parts):
        behind = parts[index + 1 :]
        # A user of JupyterHub may have the name of a page.
        is_user = parts[:index][-1:] == ["user"] and parts[:index][-2:] != ["user", "user"]
        is_file = bool(behind) and "." in behind[-1]
        follow = _PAGES.get(part, ())
        if not is_user and (
            (part in ("lab", "tree", "nbclassic") and not behind)
            or (behind[:1] and behind[0] in follow)
            or (part in ("tree", "notebooks") and is_file)
        ):
            parts = parts[:index]
            break
    return "".join(f"/{part}" for part in parts if part) + "/"


Home = TypeVar("Home")


class Record(Generic[Home]):
    """An object that the server stores, with the server's record of it."""

    def __init__(self, home: Home, record: dict[str, Any]) -> None:
        self._home = home
        self.record = record


class Reply(Mapping[str, Any]):
    """A reply of the server as a read-only mapping."""

    def __init__(self, reply: dict[str, Any]) -> None:
        self._reply = reply

    def __getitem__(self, key: str) -> Any:
        return self._reply[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reply)

    def __len__(self) -> int:
        return len(self._reply)
