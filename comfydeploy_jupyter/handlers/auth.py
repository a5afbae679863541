"""Who asks, and whether they may: before a handler does anything."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado import web

from ..errors import UnauthorizedError

if TYPE_CHECKING:
    from ..extension import ComfyDeploy

AUTH_RESOURCE = "comfydeploy"
ACTIONS = {"GET": "read", "HEAD": "read", "POST": "write"}
LOGIN_MISSING = "Jupyter's token or login is needed for this"
FOREIGN_PAGE = "Jupyter does not accept this request from a page of another origin"
XSRF_MISSING = (
    "With a login cookie, this also needs the value of the cookie _xsrf in the header X-XSRFToken,"
    " or as _xsrf in the query; or send Jupyter's token instead"
)


class AuthHandler(JupyterHandler):
    """Base of all handlers: authentication, authorization, and protection from foreign pages.

    Attributes
    ----------
    auth_action : str or None
        What the authorizer is asked for; by default `ACTIONS` tells it by the method.
    xsrf_on_get : bool
        Whether a GET with a login cookie needs the XSRF token, as every POST does.
    """

    auth_action: str | None = None
    xsrf_on_get = False
    _xsrf_missing = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Mark all methods as authenticated for Jupyter: `prepare` checks each request."""
        super().__init_subclass__(**kwargs)
        for verb in ("get", "head", "post", "put", "patch", "delete"):
            method = cls.__dict__.get(verb)
            if method is not None:
                setattr(cls, verb, web.authenticated(method))

    @property
    def extension(self) -> ComfyDeploy:
        """The extension that mounted this handler."""
        return cast("ComfyDeploy", self.settings["comfydeploy"])

    async def admit(self) -> None:
        """Check that the user is known and may do this.

        Raises
        ------
        UnauthorizedError
            If the user is unknown, a page of another origin asks, or the authorizer says no.
        """
        if not self.current_user:
            raise self.login_missing()
        self._refuse_other_sites()
        if self.request.method in {"GET", "HEAD"} and (self.xsrf_on_get or self._may_be_read):
            self._check_xsrf_as_post()
        action = self.auth_action or ACTIONS.get(self.request.method or "", "write")
        if not await self.may(action):
            raise UnauthorizedError(f"You may not {action} {AUTH_RESOURCE} on this server")

    async def may(self, action: str) -> bool:
        """Return whether the authorizer allows the user this action."""
        return bool(
            await ensure_async(
                self.authorizer.is_authorized(self, self.current_user, action, AUTH_RESOURCE)
            )
        )

    def login_missing(self) -> UnauthorizedError:
        """Return the error for a request whose user Jupyter does not know."""
        return UnauthorizedError(XSRF_MISSING if self._xsrf_missing else LOGIN_MISSING)

    # -- credentials -------------------------------------------------------------------------------

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
        """Return the Jupyter token that the request was let in with, if it was by a token."""
        if not self.token_authenticated:
            return None
        provider: Any = self.identity_provider
        # That of JupyterHub leaves tokens to an object of its own.
        token: str | None = getattr(provider, "hub_auth", provider).get_token(self)
        return token

    # -- pages of other origins --------------------------------------------------------------------

    def check_host(self) -> bool:
        """Return true where the request was sent to one of this server's own names.

        Raises
        ------
        UnauthorizedError
            If not: a page elsewhere may have made its name lead here (DNS rebinding).
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
        """Check that no page of another site sends this with the user's cookie.

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
            except RuntimeError:  # Jupyter has not authenticated the user yet
                # JupyterHub checks this before it accepts a cookie. Raising makes it refuse.
                self._xsrf_missing = True
                raise fault from None
            if not user:
                raise self.login_missing() from None
            if not self.check_origin():
                raise UnauthorizedError(FOREIGN_PAGE) from None
            raise UnauthorizedError(XSRF_MISSING) from None

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

        The headers that say so are set by the browser, and no script can set them. Frames of
        JupyterLab send no ``Referer``: without one a page is taken for ours, except behind
        JupyterHub, where it may be another user's.
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
        such a reply from its own origin, and a picture by drawing it.
        """
        headers = self.request.headers
        mode = headers.get("Sec-Fetch-Mode")
        framed = mode == "navigate" and headers.get("Sec-Fetch-Dest", "document") != "document"
        return (mode == "no-cors" or framed) and not self.is_part_of_own_page

    @property
    def is_link(self) -> bool:
        """Whether this is the request of a browser that follows a link of another site."""
        headers = self.request.headers
        return (
            self.request.method in {"GET", "HEAD"}
            and headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
        )

    def _refuse_other_sites(self) -> None:
        """Refuse a request that a page of another site makes with the user's cookie.

        For pictures, scripts and frames browsers send no ``Origin``, but ``Sec-Fetch-Site``; a
        page on a sibling domain has cookies sent that other sites do not.
        """
        headers = self.request.headers
        site = headers.get("Sec-Fetch-Site", "none")
        by_itself = site in {"none", "same-origin"} or self.token_authenticated or self.is_link
        # Whoever runs the server may have allowed other origins.
        configured = bool(self.allow_origin or self.allow_origin_pat)
        allowed = configured and (self.allow_origin == "*" or "Origin" in headers)
        if not self.check_origin() or not (by_itself or allowed):
            raise UnauthorizedError(FOREIGN_PAGE)
