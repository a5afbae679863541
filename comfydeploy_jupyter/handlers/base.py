"""The base of all handlers: queries, bodies, replies and errors."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import APIHandler
from tornado import web
from tornado.iostream import StreamClosedError

from ..errors import (
    FULL,
    ComfyDeployError,
    InvalidRequestError,
    MethodNotAllowedError,
    NoSpaceError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
)
from ..request_models import CloudTarget, M, parse
from ..util import jsons, worker
from . import route
from .auth import FOREIGN_PAGE, AuthHandler

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Iterator, Sequence

    from ..compat.comfydeploy import CloudAccount
    from ..services import Services


T = TypeVar("T")

LARGE = 64 * 1024  # bytes of JSON above which it is encoded in a thread
CHUNK = 1024 * 1024  # bytes of a large reply that are written at once
ANY_SIZE = 1 << 50  # bytes of a body that is forwarded as it arrives; tornado needs a limit
HEARTBEAT = 15.0  # seconds between comments in an event stream without events
BEGIN_AFTER = 5.0  # seconds after which a stream begins although there is no event yet
COMMENT = b": keep awake\n\n"  # readers of an event stream ignore a comment
POLICY_SETTING = "comfydeploy_content_security_policy"  # of the Jupyter application

_KINDS: dict[int, type[ComfyDeployError]] = {
    kind.status: kind
    for kind in (UnauthorizedError, NotFoundError, MethodNotAllowedError, TooLargeError)
}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def passed_header(value: str) -> str:
    """Return a header of another server as text for which tornado writes the original bytes.

    aiohttp decodes headers as UTF-8, and tornado encodes them as Latin-1. Control characters are
    removed, so that the value cannot start another header.
    """
    return _CONTROLS.sub("", value.encode("utf-8", "surrogateescape").decode("latin-1"))


class Base(AuthHandler):
    """Base of all handlers: the services, the query, errors as JSON."""

    # Whether a request counts as use of the server. Requests for a status do not: otherwise a
    # server that is monitored would never be ended as idle.
    is_activity = True
    has_begun = False  # whether the headers of the reply were sent: no other one can be sent
    _is_admitted = False

    @property
    def services(self) -> Services:
        """The services; they are open after `authorize`."""
        return self.extension.services

    async def authorize(self) -> None:
        """Check credentials and permission; then open the services if they are not open yet."""
        await super().authorize()
        self._is_admitted = True
        await self.extension.open_services()

    def note_activity(self) -> None:
        """Report activity to Jupyter, if this request is authorized and counts as use."""
        if self.is_activity and self._is_admitted:
            self.extension.note_activity()

    def flush(self, include_footers: bool = False) -> Future[None]:
        """Send what was written so far; also called by `finish`."""
        self.has_begun = True
        return super().flush(include_footers)

    @property
    def public_origin(self) -> str:
        """Scheme and host with which the client came, without a slash at the end."""
        scheme = self.request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip()
        if scheme not in ("http", "https"):
            scheme = self.request.protocol
        return f"{scheme}://{self.request.host}"

    def query(self, model: type[M]) -> M:
        """Return the request's query, checked; ``name[key]`` is an entry of an object.

        An empty argument counts as not given.
        """
        fields: dict[str, Any] = {}
        for name, values in self.request.query_arguments.items():
            owner, opened, rest = name.partition("[")
            if len(values) > 1 and owner in model.model_fields:
                raise InvalidRequestError.of_field(name, "is given more than once")
            value = self.decode_argument(values[0], name)
            if opened and rest.endswith("]") and owner in model.model_fields:
                key = self.decode_argument(rest[:-1].encode("latin-1"), owner)  # as tornado decodes
                if isinstance(entries := fields.setdefault(owner, {}), dict):
                    entries[key] = value
            elif value:
                fields[name] = value
        return parse(model, fields, lax=True)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = self.error_of(kwargs.get("exc_info", (None, None, None))[1], status_code)
        self.set_status(error.status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(error.to_reply()))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log nothing: `error_of` logs unexpected exceptions."""

    def error_of(self, exception: BaseException | None, status: int) -> ComfyDeployError:
        """Return the error that is sent for an exception, or for a status of tornado alone.

        An unexpected exception becomes an ``internal_error`` with an id, and is logged with this
        id.
        """
        if isinstance(exception, ComfyDeployError):
            return exception
        if isinstance(exception, web.HTTPError):
            return _of_http(exception)
        if exception is None and status < 500:
            return ComfyDeployError(f"HTTP status {status}")
        if isinstance(exception, OSError) and exception.errno in FULL:
            return NoSpaceError("There is no space left on the disk")
        error_id = uuid.uuid4().hex[:12]
        self.log.error(
            "comfydeploy error %s", error_id, exc_info=exception, extra={"error_id": error_id}
        )
        return ComfyDeployError(
            f"An unexpected error occurred; Jupyter's log describes it under the id {error_id}",
            details={"id": error_id},
        )


class Handler(Base, APIHandler):
    """Base of all JSON routes."""

    _etag: str | None = None
    wanted: asyncio.Future[Any] | None = None  # what ends if the client disconnects
    _has_left = False  # whether the client has disconnected

    @property
    def content_security_policy(self) -> str:
        """Jupyter's policy for its APIs; it depends only on settings of the server.

        It is computed once, since Jupyter computes it for each request in a tenth of a millisecond.
        """
        policy: str | None = self.settings.get(POLICY_SETTING)
        if policy is None:
            policy = self.settings[POLICY_SETTING] = super().content_security_policy
        return policy

    async def prepare(self) -> None:  # type: ignore[override]  # theirs is awaited too
        try:
            await cast("Awaitable[None]", super().prepare())
        except web.HTTPError as exc:
            if exc.status_code != NotFoundError.status:
                raise
            # Jupyter raises 404 for an origin that is not allowed.
            raise UnauthorizedError(FOREIGN_PAGE) from None
        if self.has_begun:
            return
        if self.request.method != "OPTIONS":
            await self.authorize()
            self.begin_work()

    def begin_work(self) -> None:
        """Count this request as unfinished work, until its reply begins."""
        if "no_track_activity" in self.request.query_arguments:  # Jupyter's parameter
            self.is_activity = False
        if self.is_activity:
            self.extension.requests.add(self)

    def on_finish(self) -> None:
        super().on_finish()
        self.extension.requests.discard(self)

    def flush(self, include_footers: bool = False) -> Future[None]:
        """Send what was written so far, and count this as use of the server.

        A reply in several chunks counts with each one, but not while its client does not read.
        """
        self.extension.requests.discard(self)
        self.note_activity()
        return super().flush(include_footers)

    def update_api_activity(self) -> None:
        """Make Jupyter count this request as activity only if `is_activity` is true."""
        if self.is_activity:
            super().update_api_activity()

    def set_default_headers(self) -> None:
        """Forbid caches to store replies, which may contain the secret of a tunnel."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def get_login_url(self) -> str:
        """Respond with 403 instead of a redirect to the login page."""
        raise self.not_logged_in()

    async def json_body(
        self, *, unique: bool = False, graphs: bool = False, only_read: bool = False
    ) -> dict[str, Any]:
        """Return the request's JSON object; an empty body is an empty object.

        ``unique`` rejects an object with a key twice: no part of a body that is stored may get
        lost. With ``graphs``, large graphs in it may be `RawJSON`, see `worker.parse_body`.
        """
        text = self.request.body
        self.check_size(len(text), self.extension.max_json_size)
        if not text.strip():
            return {}
        return await worker.parse_body(text, unique=unique, graphs=graphs, only_read=only_read)

    @staticmethod
    def check_size(size: int, limit: int) -> None:
        if size > limit:
            raise TooLargeError(
                f"The body has {size} bytes, the limit is {limit}",
                details={"size": size, "limit": limit},
            )

    def is_for_cloud(self, asked: CloudTarget) -> bool:
        """Return whether the validated body or the query of a request sends it to ComfyDeploy."""
        return asked.in_cloud or self.query(CloudTarget).in_cloud

    def account(self, asked: CloudTarget, api_url: str | None = None) -> CloudAccount:
        """Return the ComfyDeploy account for a request; ``asked`` is its query or its body.

        ``api_url`` is the address of the API if neither its body nor its query has one.
        """
        named = asked.api_url or self.query(CloudTarget).api_url or api_url
        return self.services.cloud.account(self.given_key(asked.given_key), api_url=named)

    def cloud_account(self, asked: CloudTarget) -> CloudAccount | None:
        """Return the `account` for a request that is for ComfyDeploy, else None."""
        return self.account(asked) if self.is_for_cloud(asked) else None

    def begin_stream(self) -> None:
        """Set the headers of an event stream, once; with them, proxies do not buffer it."""
        if self.has_begun:
            return
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Begin the stream after a while, and send a comment every `HEARTBEAT` seconds.

        The work in the block continues if the client disconnects.
        """
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def send() -> None:
            nonlocal timer
            self.begin_stream()
            self.write(COMMENT)
            self.flush()
            timer = loop.call_later(HEARTBEAT, send)

        timer = loop.call_later(BEGIN_AFTER, send)
        try:
            yield
        finally:
            timer.cancel()

    async def send_events(self, events: bytes, *, at_end: bool) -> None:
        """Send events of a stream; a few of them are sent with the end if this follows at once."""
        self.write(events)
        if not (at_end and self.has_begun and len(events) <= LARGE):
            await self.flush()

    async def for_client(self, work: Awaitable[T]) -> T:
        """Return what work returns; it is cancelled, and nothing is sent, if the client leaves."""
        wanted: asyncio.Future[T] = asyncio.ensure_future(work)
        self.want(wanted)
        try:
            return await wanted
        except asyncio.CancelledError:
            if self.wanted is None:
                raise web.Finish from None
            raise

    def want(self, work: asyncio.Future[Any]) -> None:
        """Cancel work when the client leaves, or now if it left before the work began."""
        self.wanted = work
        if self._has_left:
            self.on_connection_close()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._has_left = True
        wanted, self.wanted = self.wanted, None
        if wanted is not None:
            wanted.cancel()

    def finish_stream(self) -> None:
        """End an event stream; `finish` alone would set the media type of JSON."""
        self.finish(set_content_type="text/event-stream")

    def reply(self, body: Any, *, status: int = 200) -> None:
        self.set_status(status)
        self.finish(jsons.dumps(body))

    async def reply_large(self, body: Any) -> None:
        """Send a JSON reply that may have megabytes, such as graphs."""
        chunks, self._etag = await asyncio.to_thread(_encode, body)
        await self._send_large(chunks, "application/json")

    async def reply_bytes(self, content: bytes, media_type: str) -> None:
        """Send a reply that may have megabytes, such as a picture."""
        self._etag = await asyncio.to_thread(_etag_of, [content])
        await self._send_large([content], media_type)

    async def _send_large(self, chunks: Sequence[bytes], media_type: str) -> None:
        """Send a reply in portions, which do not block the event loop."""
        size = sum(map(len, chunks))
        if size <= CHUNK:
            await self.finish(b"".join(chunks), set_content_type=media_type)
            return
        self.set_etag_header()
        if self.request.method == "GET" and self.check_etag_header():
            self.set_status(304)
            await self.finish()
            return
        self.set_header("Content-Type", media_type)
        self.set_header("Content-Length", str(size))
        with suppress(StreamClosedError):  # the client has disconnected
            for chunk in chunks:
                for start in range(0, len(chunk), CHUNK):
                    self.write(chunk[start : start + CHUNK])
                    await self.flush()
            await self.finish(set_content_type=media_type)

    def compute_etag(self) -> str | None:
        """Return the ``ETag`` of the reply; for a large one it was computed in a thread."""
        return self._etag or super().compute_etag()

    @allow_unauthenticated
    def options(self, *_: Any, **__: Any) -> None:
        """Respond to the preflight request that browsers send before a cross-origin request."""
        super().options()


class NotFound(Handler):
    """All paths below the prefix of the routes that are not routes."""

    @route.get("/comfyui-deploy")
    @route.post("/comfyui-deploy")
    @route.get("{tail}")
    @route.post("{tail}")
    async def refuse(self) -> None:
        raise NotFoundError(f"There is no route {self.request.path}")


def _encode(body: Any) -> tuple[list[bytes], str]:
    """Return the JSON of a reply in chunks, and its ``ETag``."""
    chunks = jsons.chunks(body)
    return chunks, _etag_of(chunks)


def _etag_of(chunks: Sequence[bytes]) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return f'"{digest.hexdigest()}"'


def _of_http(exc: web.HTTPError) -> ComfyDeployError:
    """Return this package's error for one of tornado or Jupyter, with its message and status."""
    message = exc.log_message or exc.reason or "the request was refused"
    if exc.log_message and exc.args:
        with suppress(TypeError):
            message = exc.log_message % exc.args
    default = InvalidRequestError if exc.status_code < 500 else ComfyDeployError
    kind = _KINDS.get(exc.status_code, default)
    if kind is MethodNotAllowedError:
        message = "This route does not support this method"
    error = kind(str(message))
    error.status = exc.status_code
    return error
