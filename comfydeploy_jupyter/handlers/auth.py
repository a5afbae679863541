"""Authentication and authorization of requests, before the handler handles them."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, unquote_plus, urlsplit

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.httputil import url_concat
from tornado.websocket import WebSocketHandler

from ..errors import InvalidRequestError, UnauthorizedError
from ..util.secrets import MASK, is_key, is_secret_value

if TYPE_CHECKING:
    from ..extension import ComfyDeploy

AUTH_RESOURCE = "comfydeploy"
ACTIONS = {"GET": "read", "HEAD": "read", "POST": "write"}
LOGIN_MISSING = "Jupyter's token or login is needed for this"
NO_SOCKET = "There is no WebSocket at this address"
FOREIGN_PAGE = "Jupyter does not accept this request from a page of another origin"
XSRF_MISSING = (
    "With a login cookie, this also needs the value of the cookie _xsrf in the header X-XSRFToken,"
    " or as _xsrf in the query; or send Jupyter's token instead"
)

NO_XSRF = {"reason": "xsrf"}  # the details of the error; pages then get a new token


class AuthHandler(JupyterHandler):
    """Base of all handlers: authentication, authorization, and protection from other web sites."""

    auth_action: str | None = None  # that the authorizer must allow; by default as in `ACTIONS`
    xsrf_on_get = False  # whether a GET with a login cookie needs the XSRF token, as every POST
    _xsrf_missing = False

    @property
    def extension(self) -> ComfyDeploy:
        return cast("ComfyDeploy", self.settings["comfydeploy"])

    def _log(self) -> None:
        """Log this request without keys, and without addresses that have a user or password."""
        path, mark, query = (self.request.uri or "").partition("?")
        if query:
            pairs = [pair.partition("=") for pair in query.split("&")]
            shown = [
                f"{name}{equals}{MASK if _is_secret(unquote_plus(value)) else value}"
                for name, equals, value in pairs
            ]
            self.request.uri = f"{path}{mark}{'&'.join(shown)}"
        super()._log()

    async def authorize(self) -> None:
        """Raise unless the request is authenticated, and its user is allowed to do this."""
        if not self.current_user:
            raise self.not_logged_in()
        if self._opens_socket and not isinstance(self, WebSocketHandler):
            raise UnauthorizedError(NO_SOCKET)
        self._refuse_other_sites()
        if self.request.method in {"GET", "HEAD"} and (self.xsrf_on_get or self._may_be_read):
            self._check_xsrf_as_post()
        action = self.auth_action or ACTIONS.get(self.request.method or "", "write")
        if not await self.is_allowed(action):
            raise UnauthorizedError(f"You may not {action} {AUTH_RESOURCE} on this server")

    async def is_allowed(self, action: str) -> bool:
        return bool(
            await ensure_async(
                self.authorizer.is_authorized(self, self.current_user, action, AUTH_RESOURCE)
            )
        )

    def not_logged_in(self) -> UnauthorizedError:
        """Return the error for a request without valid credentials of Jupyter."""
        if self._xsrf_missing:
            return UnauthorizedError(XSRF_MISSING, details=NO_XSRF)
        return UnauthorizedError(LOGIN_MISSING, details={"reason": "login"})

    # -- credentials -------------------------------------------------------------------------------

    def given_key(self, in_body: str | None = None) -> str | None:
        """Return the ComfyDeploy API key in the request; ``in_body`` is the one of its body.

        It comes from the header ``X-ComfyDeploy-Token``, else from the body, else from
        ``Authorization: Bearer`` unless that contains Jupyter's token.
        """
        named = (self.request.headers.get("X-ComfyDeploy-Token") or in_body or "").strip()
        key, field = named, "X-ComfyDeploy-Token"
        if not named:
            scheme, _, value = self.request.headers.get("Authorization", "").partition(" ")
            key, field = value.strip(), "Authorization"
            if scheme.lower() != "bearer" or key in (self.jupyter_token(), self.token):
                return None
        if key and not is_key(key):
            raise InvalidRequestError.of_field(
                field, "must contain a key of one line of ASCII text without spaces"
            )
        return key or None

    def jupyter_token(self) -> str | None:
        """Return the Jupyter token that authenticated the request; None without such a token."""
        if not self.token_authenticated:
            return None
        provider: Any = self.identity_provider
        # JupyterHub's identity provider has the token in another object.
        token: str | None = getattr(provider, "hub_auth", provider).get_token(self)
        return token

    # -- pages of other origins --------------------------------------------------------------------

    def check_host(self) -> bool:
        """Raise unless the request was sent to one of the host names of this server.

        Another web site may have made its host name resolve to this server (DNS rebinding).
        """
        if not super().check_host():
            self.current_user = None
            raise UnauthorizedError(
                f"This Jupyter server does not accept the host name {self.request.host_name!r}; its"
                " administrator can allow it with ServerApp.local_hostnames or"
                " ServerApp.allow_remote_access"
            )
        return True

    def check_xsrf_cookie(self) -> None:
        """Raise if a page of another web site may have sent the request with the user's cookie.

        The message says what is missing: Jupyter's token, or the XSRF token beside the cookie.
        """
        try:
            super().check_xsrf_cookie()
        except web.HTTPError as exc:
            try:
                user = self.current_user
            except RuntimeError:  # Jupyter has not authenticated the user yet
                # JupyterHub calls this before it accepts a cookie, and rejects the cookie if it
                # raises.
                self._xsrf_missing = True
                raise exc from None
            if not user:
                raise self.not_logged_in() from None
            if not self.check_origin():
                raise UnauthorizedError(FOREIGN_PAGE) from None
            raise UnauthorizedError(XSRF_MISSING, details=NO_XSRF) from None

    def _check_xsrf_as_post(self) -> None:
        """Apply the check for POST requests of scripts, by Jupyter or JupyterHub, to a GET.

        For GET, Jupyter also accepts a ``Referer`` without a token, and JupyterHub does not check
        WebSockets. A page at another port of this host can set the cookie, and lead a browser to an
        address with the same token. Over http, only a header shows then that no link was followed.
        """
        given = self.request
        self.request = copy.copy(given)
        self.request.method = "POST"
        if not {"Sec-Fetch-Site", "Upgrade"} & {*given.headers}:
            self.request.arguments = {k: v for k, v in given.arguments.items() if k != "_xsrf"}
        self.request.headers = given.headers.copy()
        self.request.headers["Sec-Fetch-Mode"] = "cors"
        try:
            self.check_xsrf_cookie()
        finally:
            self.request = given

    @property
    def is_part_of_own_page(self) -> bool:
        """Whether a browser loads this as a part, such as a picture, of a page of this server.

        Headers show this that only the browser can set, not a script. Frames of JupyterLab send no
        ``Referer``: a request without it counts as one of this server's page, except behind
        JupyterHub, where it may be a page of another user.
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
        """Whether a page of another user on this host may be the sender, and can read the reply.

        JupyterHub requires no XSRF token for the mode ``no-cors`` and for frames. Nevertheless, a
        script can read such a reply from its own origin, and the pixels of a picture by drawing it.
        """
        headers = self.request.headers
        mode = headers.get("Sec-Fetch-Mode")
        framed = mode == "navigate" and headers.get("Sec-Fetch-Dest", "document") != "document"
        return (mode == "no-cors" or framed) and not self.is_part_of_own_page

    @property
    def is_link(self) -> bool:
        """Whether a browser has sent this because its user opened an address or followed a link."""
        headers = self.request.headers
        return (
            self.request.method in {"GET", "HEAD"}
            and headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
        )

    @property
    def _opens_socket(self) -> bool:
        """Whether a browser sends this to open a WebSocket.

        JupyterHub then requires no XSRF token, although the page may be another user's. A proxy may
        have removed the header ``Upgrade``; scripts cannot set any of these headers.
        """
        headers = self.request.headers
        return (
            "websocket" in headers.get("Upgrade", "").lower()
            or headers.get("Sec-Fetch-Mode") == "websocket"
            or "Sec-WebSocket-Key" in headers
        )

    def _refuse_other_sites(self) -> None:
        """Reject a request that a page of another site has sent with the user's cookie.

        For pictures, scripts and frames, browsers send ``Sec-Fetch-Site`` but no ``Origin``. With
        requests from a sibling domain they also send cookies that they do not send with requests
        from other sites. A link may only show something.
        """
        headers = self.request.headers
        site = headers.get("Sec-Fetch-Site", "none")
        shows = self.is_link and not self.xsrf_on_get
        by_itself = site in {"none", "same-origin"} or self.token_authenticated or shows
        # The configuration of Jupyter may allow other origins.
        configured = bool(self.allow_origin or self.allow_origin_pat)
        from_all = self.allow_origin == "*" and not self.xsrf_on_get
        allowed = configured and (from_all or "Origin" in headers)
        if not self.check_origin() or not (by_itself or allowed):
            raise UnauthorizedError(FOREIGN_PAGE)


class PageAuth(AuthHandler):
    """Authentication of a page that users open in a browser, which is sent to the login page."""

    @property
    def is_visit(self) -> bool:
        """Whether a browser opens this as a page."""
        accepted = self.request.headers.get("Accept", "")
        return self.request.method in {"GET", "HEAD"} and "text/html" in accepted

    def get_login_url(self) -> str:
        """Redirect a browser that opens a page to the login page; answer 403 to other requests."""
        if not self.is_visit:
            raise self.not_logged_in()
        return str(super().get_login_url())

    def sends_to_login(self) -> bool:
        """Redirect a browser whose user is not logged in; return whether this was done."""
        if self.current_user or not self.is_visit:
            return False
        self.redirect(url_concat(self.get_login_url(), {"next": self.request.uri or ""}))
        return True


def _is_secret(value: str) -> bool:
    """Return whether a value in a query must not be logged; an address may be malformed."""
    user, at, _ = value.rpartition("@")
    return (":" in user and bool(at)) or is_secret_value(value)
