"""What all handlers share: authentication, authorization, bodies, errors. Once, for all."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import os
import re
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import ensure_async
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
from ..lazy import lazy_module
from ..net import json_stream

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable

    from .. import schemas as schemas
    from ..cloud.client import CloudAccount
    from ..extension import ComfyDeploy
    from ..net import bodies as bodies
    from ..services import Services

AUTH_RESOURCE = "comfydeploy"
ACTIONS = {"GET": "read", "HEAD": "read", "POST": "write"}
STRANGER = "Jupyter's token or login is needed for this"
FOREIGN_PAGE = "Jupyter does not take this from a page of another origin"
XSRF_MISSING = (
    "With a login cookie, this also needs the value of the cookie _xsrf in the header X-XSRFToken,"
    " or as _xsrf in the query; or send Jupyter's token instead"
)
LARGE = 64 * 1024  # bytes of JSON above which making it leaves the event loop
PIECE = 1024 * 1024  # bytes of a large reply that are written at once
ENDLESS = 1 << 50  # bytes of a body that is passed on as it comes; tornado wants a number
KEEP_AWAKE = 15.0  # seconds between comment lines on a silent stream

if not TYPE_CHECKING:
    schemas, bodies = lazy_module("schemas"), lazy_module("net.bodies")
    formats = lazy_module("graphs.formats")

M = TypeVar("M", bound="schemas.Model")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def passed_header(value: str) -> str:
    """Return a header that another server sent so that tornado writes its very bytes.

    aiohttp reads headers as UTF-8, and tornado writes them as Latin-1. No control character is
    left, so that it stays one header.
    """
    return _CONTROLS.sub("", value.encode("utf-8", "surrogateescape").decode("latin-1"))


class Base(JupyterHandler):
    """The way to the services, and the guard at the door.

    Attributes
    ----------
    is_activity : bool
        Whether a request shows that the server is in use. Asking how something is does not: a
        program that watches an idle server must not keep it from being ended as idle.
    has_begun : bool
        Whether the head of the reply is on its way: another reply cannot be sent any more.
    """

    auth_action: str | None = None
    is_activity = True
    has_begun = False
    _is_admitted = False
    xsrf_on_get = False  # whether a GET by cookie needs the XSRF token, as every POST does
    _xsrf_missing = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Tell Jupyter that our verbs are authenticated: `prepare` does it for all of them."""
        super().__init_subclass__(**kwargs)
        for verb in ("get", "head", "post", "put", "patch", "delete"):
            method = cls.__dict__.get(verb)
            if method is not None:
                setattr(cls, verb, web.authenticated(method))

    @property
    def extension(self) -> ComfyDeploy:
        """The extension that mounted this handler."""
        return cast("ComfyDeploy", self.settings["comfydeploy"])

    @property
    def services(self) -> Services:
        """The rooms, open."""
        return self.extension.services

    def check_host(self) -> bool:
        """Return true where the request was sent to one of this server's own names.

        Raises
        ------
        UnauthorizedError
            If not: a page elsewhere may have made its name lead here.
        """
        if not super().check_host():
            self.current_user = None
            raise UnauthorizedError(
                f"This Jupyter does not go by the name {self.request.host_name!r}; whoever runs it"
                " can allow that with ServerApp.local_hostnames or ServerApp.allow_remote_access"
            )
        return True

    def check_xsrf_cookie(self) -> None:
        """Make sure that no page of another site sends this with the user's cookie.

        Raises
        ------
        UnauthorizedError
            Saying what is missing: Jupyter's token, or the XSRF token beside the cookie.
        """
        try:
            super().check_xsrf_cookie()
        except web.HTTPError as fault:
            try:
                user = self.current_user
            except RuntimeError:  # Jupyter does not know yet who asks
                # JupyterHub asks before it accepts a cookie. To raise tells it not to.
                self._xsrf_missing = True
                raise fault from None
            if not user:
                raise self._stranger() from None
            if not self.check_origin():
                raise UnauthorizedError(FOREIGN_PAGE) from None
            raise UnauthorizedError(XSRF_MISSING) from None

    def _stranger(self) -> UnauthorizedError:
        """Return the error for a request of nobody whom Jupyter knows."""
        return UnauthorizedError(XSRF_MISSING if self._xsrf_missing else STRANGER)

    def _check_xsrf_as_post(self) -> None:
        """Check a GET as Jupyter, or JupyterHub in its place, checks a POST of a script.

        For GET Jupyter is content with a ``Referer``, and JupyterHub checks no WebSocket.
        """
        given = self.request
        self.request = copy.copy(given)
        self.request.method = "POST"
        self.request.headers = given.headers.copy()
        self.request.headers["Sec-Fetch-Mode"] = "cors"
        try:
            self.check_xsrf_cookie()
        finally:
            self.request = given

    @property
    def is_part_of_own_page(self) -> bool:
        """Whether a browser loads this as a part (a picture, say) of a page below our address.

        A script cannot say so of what it fetches by itself, however it fetches it. Frames of
        JupyterLab keep their ``Referer`` to themselves: without one a page is taken for ours,
        except behind JupyterHub, where it may be another user's.
        """
        headers = self.request.headers
        referer = headers.get("Referer", "")
        try:
            page = unquote(urlsplit(referer).path)
        except ValueError:
            return False
        known = self.base_url == "/" or page.startswith(unquote(self.base_url))
        if not referer:
            known = not os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
        return (
            headers.get("Sec-Fetch-Site") == "same-origin"
            and headers.get("Sec-Fetch-Dest", "empty") != "empty"
            and known
        )

    @property
    def _may_be_read(self) -> bool:
        """Whether a page of another user on this host may have asked for this, and can read it.

        For ``no-cors``, and for frames, JupyterHub asks for no XSRF token. Yet a script can read
        what it gets so from its own origin, and a picture by drawing it.
        """
        headers = self.request.headers
        mode = headers.get("Sec-Fetch-Mode")
        framed = mode == "navigate" and headers.get("Sec-Fetch-Dest", "document") != "document"
        return (mode == "no-cors" or framed) and not self.is_part_of_own_page

    async def admit(self) -> None:
        """Let in who may do this, and make sure that the services are there.

        Raises
        ------
        UnauthorizedError
            If the user is unknown, or the authorizer says no.
        """
        if not self.current_user:
            raise self._stranger()
        self._refuse_other_sites()
        if self.request.method in {"GET", "HEAD"} and (self.xsrf_on_get or self._may_be_read):
            self._check_xsrf_as_post()
        action = self.auth_action or ACTIONS.get(self.request.method or "", "write")
        if not await self.may(action):
            raise UnauthorizedError(f"You may not {action} {AUTH_RESOURCE} on this server")
        self._is_admitted = True
        await self.extension.open_services()

    def note_activity(self) -> None:
        """Tell Jupyter that it is in use, if this request shows that; one that is let in."""
        if self.is_activity and self._is_admitted:
            self.extension.note_activity()

    async def may(self, action: str) -> bool:
        """Return whether the authorizer allows the user this action."""
        return bool(
            await ensure_async(
                self.authorizer.is_authorized(self, self.current_user, action, AUTH_RESOURCE)
            )
        )

    @property
    def is_link(self) -> bool:
        """Whether this is what following a link of another site would ask for."""
        headers = self.request.headers
        return (
            self.request.method in {"GET", "HEAD"}
            and headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
        )

    def _refuse_other_sites(self) -> None:
        """Refuse what a page of another site has the browser ask for with the user's cookie.

        For pictures, scripts and frames browsers tell no ``Origin``, but ``Sec-Fetch-Site``; a
        site on a sibling domain gets cookies sent that others do not.
        """
        headers = self.request.headers
        site = headers.get("Sec-Fetch-Site", "none")
        by_itself = site in {"none", "same-origin"} or self.token_authenticated or self.is_link
        # Whoever runs the server may have allowed other origins.
        configured = bool(self.allow_origin or self.allow_origin_pat)
        allowed = configured and (self.allow_origin == "*" or "Origin" in headers)
        if not self.check_origin() or not (by_itself or allowed):
            raise UnauthorizedError(FOREIGN_PAGE)

    def flush(self, include_footers: bool = False) -> Future[None]:
        """Send what was written; `finish` does so, too."""
        self.has_begun = True
        return super().flush(include_footers)

    def query(self, model: type[M]) -> M:
        """Return the request's query arguments, checked; a doubled one is refused."""
        fields: dict[str, Any] = {}
        for name, values in self.request.query_arguments.items():
            if len(values) > 1 and name in model.model_fields:
                raise InvalidRequestError.of_field(name, "is given more than once")
            fields[name] = self.decode_argument(values[0], name)
        return schemas.parse(model, {k: v for k, v in fields.items() if v != ""}, lax=True)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the JSON form of an error, whatever went wrong."""
        error = self.describe(kwargs.get("exc_info", (None, None, None))[1], status_code)
        self.set_status(error.status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(error.to_reply()))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Keep foreseen errors out of the log; `describe` logs the others under their id."""

    def given_key(self, in_body: str | None = None) -> str | None:
        """Return the ComfyDeploy key that the request brings along.

        Parameters
        ----------
        in_body : str, optional
            The ``cd_token`` or ``token`` of its body.

        Returns
        -------
        str or None
            The header ``X-ComfyDeploy-Token`` comes first, then the body, then
            ``Authorization: Bearer`` where that is no token of Jupyter.
        """
        named = (self.request.headers.get("X-ComfyDeploy-Token") or in_body or "").strip()
        if named:
            return named
        scheme, _, value = self.request.headers.get("Authorization", "").partition(" ")
        key = value.strip()
        if scheme.lower() != "bearer" or key in (self.admitting_token(), self.token):
            return None
        return key or None

    def admitting_token(self) -> str | None:
        """Return the token that let this request in, if one did: of the address, or a header."""
        if not self.token_authenticated:
            return None
        provider: Any = self.identity_provider
        # That of JupyterHub leaves tokens to an object of its own.
        token: str | None = getattr(provider, "hub_auth", provider).get_token(self)
        return token

    def describe(self, exception: BaseException | None, status: int) -> ComfyDeployError:
        """Return the error to tell for an exception.

        What we did not foresee becomes an ``internal_error`` whose id is in the log.
        """
        if isinstance(exception, ComfyDeployError):
            return exception
        if isinstance(exception, web.HTTPError):
            return _of_http(exception)
        if exception is None and status < 500:
            return ComfyDeployError(f"HTTP status {status}")
        if isinstance(exception, OSError) and exception.errno in FULL:
            return NoSpaceError("There is no space left on the disk")
        fault_id = uuid.uuid4().hex[:12]
        self.log.error(
            "comfydeploy error %s", fault_id, exc_info=exception, extra={"error_id": fault_id}
        )
        return ComfyDeployError(
            f"Something went wrong that should not have; Jupyter's log has it as {fault_id}",
            details={"id": fault_id},
        )


class Handler(Base, APIHandler):
    """Base of all JSON routes."""

    _etag: str | None = None

    async def prepare(self) -> None:  # type: ignore[override]  # theirs is awaited too
        """Check who asks, before anything else happens."""
        try:
            await cast("Awaitable[None]", super().prepare())
        except web.HTTPError as fault:
            if fault.status_code != NotFoundError.status:
                raise
            # So Jupyter refuses an origin that it does not know.
            raise UnauthorizedError(FOREIGN_PAGE) from None
        if self.has_begun:
            return
        if self.request.method != "OPTIONS":
            await self.admit()
            self.begin_work()

    def begin_work(self) -> None:
        """Note that something is done for this request, until its reply begins."""
        if self.get_query_argument("no_track_activity", None) is not None:  # as Jupyter has it
            self.is_activity = False
        if self.is_activity:
            self.extension.requests.add(self)

    def on_finish(self) -> None:
        """Note that nothing is done for this request any more."""
        super().on_finish()
        self.extension.requests.discard(self)

    def flush(self, include_footers: bool = False) -> Future[None]:
        """Send what was written, which shows that the server is in use.

        A reply in pieces shows it with each of them, not by waiting for a client that takes no
        more.
        """
        self.extension.requests.discard(self)
        self.note_activity()
        return super().flush(include_footers)

    def update_api_activity(self) -> None:
        """Let Jupyter count this request as activity only if it is one."""
        if self.is_activity:
            super().update_api_activity()

    def set_default_headers(self) -> None:
        """Keep replies, which may hold the secret of a tunnel, out of caches."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def get_login_url(self) -> str:
        """Answer 403 instead of sending anybody to a login page."""
        raise self._stranger()

    async def body(self, model: type[M], *, unique: bool = False, graphs: bool = False) -> M:
        """Return the request's JSON body, checked.

        Parameters
        ----------
        model : type
            What the route takes.
        unique : bool
            Refuse an object that has a key twice: where a body is kept, none of it gets lost.
        graphs : bool
            Whether large graphs in it may be `Unparsed`.

        Raises
        ------
        TooLargeError, InvalidJSONError, InvalidRequestError
            If it is not what the route takes.
        """
        return schemas.parse(model, await self.json_body(unique=unique, graphs=graphs))

    async def json_body(self, *, unique: bool = False, graphs: bool = False) -> dict[str, Any]:
        """Return the request's JSON object; an empty body is an empty object."""
        text = self.request.body
        limit = self.extension.max_json_size
        if len(text) > limit:
            raise TooLargeError(
                f"The body has {len(text)} bytes, the limit is {limit}",
                details={"size": len(text), "limit": limit},
            )
        if not text.strip():
            return {}
        return await bodies.read(text, unique=unique, graphs=graphs)

    def is_for_cloud(self, asked: schemas.CloudTarget) -> bool:
        """Return whether a request, by its checked body or its query, is for ComfyDeploy."""
        return asked.in_cloud or self.query(schemas.CloudTarget).in_cloud

    def account(self, asked: schemas.CloudTarget, api_url: str | None = None) -> CloudAccount:
        """Return the ComfyDeploy account that a request means.

        Parameters
        ----------
        asked : schemas.CloudTarget
            Its checked query or body.
        api_url : str, optional
            Where to ask, if neither its body nor its query says.

        Raises
        ------
        ForbiddenAPIURLError, NoAPIKeyError
            If the request may not or cannot go there.
        """
        named = asked.api_url or self.query(schemas.CloudTarget).api_url or api_url
        return self.services.cloud.account(self.given_key(asked.given_key), api_url=named)

    def begin_stream(self) -> None:
        """Set the headers of an event stream, once; proxies must not hold it back."""
        if self.has_begun:
            return
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")

    def finish_stream(self) -> None:
        """End the stream as what it is: `finish` alone would call it JSON."""
        self.finish(set_content_type="text/event-stream")

    @staticmethod
    def dumps(body: Any) -> str:
        """Return the JSON of a reply; for what may be large, call it in a thread."""
        return json_stream.dumps(body)

    def reply(self, body: Any, *, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.finish(self.dumps(body))

    async def reply_large(self, body: Any) -> None:
        """Answer with JSON that may have megabytes, such as graphs."""
        pieces, self._etag = await asyncio.to_thread(self._encode, body)
        if len(pieces) == 1:
            await self.finish(pieces[0])
            return
        self.set_etag_header()
        if self.request.method == "GET" and self.check_etag_header():
            self.set_status(304)
            await self.finish()
            return
        self.set_header("Content-Type", "application/json")
        self.set_header("Content-Length", str(sum(map(len, pieces))))
        with suppress(StreamClosedError):  # the client is gone
            for piece in pieces:
                for start in range(0, len(piece), PIECE):
                    self.write(piece[start : start + PIECE])
                    await self.flush()
            await self.finish()

    def compute_etag(self) -> str | None:
        """Return the ``ETag`` of the reply; that of a large one was computed in a thread."""
        return self._etag or super().compute_etag()

    def _encode(self, body: Any) -> tuple[list[bytes], str]:
        pieces = json_stream.encoded(body)
        digest = hashlib.sha1(usedforsecurity=False)
        for piece in pieces:
            digest.update(piece)
        return pieces, f'"{digest.hexdigest()}"'

    @allow_unauthenticated
    def options(self, *_: Any, **__: Any) -> None:
        """Answer a browser's question before a cross-origin request."""
        super().options()


class NotFound(Handler):
    """Every path under our prefixes that is no route."""

    async def get(self) -> None:
        """Answer 404, as JSON."""
        raise NotFoundError(f"There is no route {self.request.path}")

    async def post(self) -> None:
        """Answer 404, as JSON."""
        raise NotFoundError(f"There is no route {self.request.path}")


def _of_http(fault: web.HTTPError) -> ComfyDeployError:
    message = fault.log_message or fault.reason or "the request was refused"
    if fault.log_message and fault.args:
        try:
            message = fault.log_message % fault.args
        except TypeError:
            message = fault.log_message
    kinds: dict[int, type[ComfyDeployError]] = {
        403: UnauthorizedError,
        404: NotFoundError,
        405: MethodNotAllowedError,
        413: TooLargeError,
    }
    kind = kinds.get(fault.status_code)
    if kind is None:
        kind = InvalidRequestError if fault.status_code < 500 else ComfyDeployError
    if kind is MethodNotAllowedError:
        message = "This route does not take that method"
    error = kind(str(message))
    error.status = fault.status_code
    return error
