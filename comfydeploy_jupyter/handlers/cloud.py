"""Signing in to ComfyDeploy and to a Comfy account, and ComfyDeploy's web site."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator
from tornado import web

from .. import request_models as fields
from ..errors import (
    CloudError,
    ForbiddenAPIURLError,
    InvalidRequestError,
    MethodNotAllowedError,
    OfflineError,
)
from ..request_models import Model, optional, required
from ..util import proxy
from ..util.secrets import MAX_KEY_LENGTH, clean_url, is_key
from . import route
from .base import Handler, passed_header
from .route import BINARY, CLOUD, KEY, Content, ReplyModel, Success
from .streamed import ProxyHandler


class AccountRequest(Model):
    """Body of ``POST comfy-account``: an API key, or email and password."""

    api_key: Annotated[str, Field(min_length=1, max_length=MAX_KEY_LENGTH)] | None = optional(
        "The API key of a Comfy account. It is stored; null deletes what is stored: the key, or the"
        " sign-in.",
        fields.ACCOUNT_KEY,
        repr=False,
    )
    email: Annotated[str, Field(max_length=320, pattern=fields.EMAIL_PATTERN)] | None = optional(
        "The email of a Comfy account, to sign in. Not for accounts of Google or GitHub."
    )
    password: Annotated[str, Field(min_length=1, max_length=4096)] | None = optional(
        "Its password. It is not stored.", repr=False
    )

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: str | None) -> str | None:
        if key is not None and not is_key(key):
            raise ValueError("must be one line of ASCII text without spaces")
        return key

    @model_validator(mode="after")
    def _check_one_way(self) -> AccountRequest:
        given = self.model_fields_set & {"api_key", "email", "password"}
        if (self.email is None) != (self.password is None):
            missing = "password" if self.password is None else "email"
            raise InvalidRequestError.of_field(missing, "is needed to sign in")
        if not given or (self.email is not None and "api_key" in given):
            raise InvalidRequestError.of_field("api_key", "give either this, or email and password")
        return self


class AuthQuery(Model):
    request_id: fields.Identifier = required(
        "The id that the client has made for the sign-in.", "c1f4a0d2"
    )
    api_url: fields.ApiUrlField = None


class SignedIn(Success):
    """The user has approved the sign-in; the key is stored on this server."""

    authenticated: Literal[True]
    name: str = Field(examples=["Ada"])


class SignInPending(Success):
    """The user has not approved the sign-in yet; ``auth_url`` is the page for the approval."""

    authenticated: Literal[False]
    status: Literal["pending"]
    auth_url: str = Field(examples=["https://www.comfydeploy.com/auth/request/c1f4a0d2"])


class ComfyAccount(ReplyModel):
    """Whether this server has a key of a Comfy account, and the source of the key."""

    has_key: bool = required("Whether runs get a key or a token of a sign-in.", True)
    source: Literal["signed-in", "kept", "configured"] | None = Field(examples=["signed-in"])
    email: str | None = required("The email of the user who is signed in.", "ada@example.org")
    problem: str | None = required(
        "Why there is no valid token although a user is signed in.", None
    )


class ComfyAccountKept(ComfyAccount, Success):
    """The user is signed in, or the key was stored or deleted."""


PENDING = 404  # ComfyDeploy's status as long as a sign-in is not approved
_PAGE = Content("*/*", BINARY)


class AccountHandler(Handler):
    """The accounts at ComfyDeploy and at Comfy."""

    tag = "ComfyDeploy"

    @route.get("auth-response", "getSignIn", auth_action="write", xsrf_on_get=True)
    @route.replies(SignedIn, "Approved. The key is stored on this server, and not returned.")
    @route.replies(SignInPending, "Not approved yet. The user approves at `auth_url`.", status=202)
    @route.errors(ForbiddenAPIURLError, CloudError)
    async def get_sign_in(self, query: AuthQuery) -> None:
        """Whether the user has approved the sign-in at ComfyDeploy."""
        # This GET changes the stored key, so it requires the same tokens as a POST: otherwise a
        # link could sign a user in to the account of somebody else. Only the user's own pages and
        # programs have Jupyter's token or the XSRF token.
        try:
            name = await self.services.sign_in(query.request_id, query.api_url)
        except CloudError as exc:
            if exc.status != PENDING:
                raise
            page = f"auth/request/{quote(query.request_id, safe='')}"
            address = self.services.site.address(page)
            body = {"success": True, "authenticated": False, "status": "pending"}
            self.reply({**body, "auth_url": str(address)}, status=202)
            return
        self.reply({"success": True, "authenticated": True, "name": name})

    @route.get("comfy-account", "getComfyAccount")
    @route.replies(ComfyAccount, "The source of the key, but not the key.")
    async def get_comfy_account(self) -> Any:
        """Whether this server has a key of a Comfy account for partner nodes."""
        return self.services.comfy_account.state()

    @route.post("comfy-account", "setComfyAccount")
    @route.replies(ComfyAccountKept, "Signed in, or the key is stored or deleted.")
    @route.errors(CloudError, OfflineError)
    async def set_comfy_account(self, body: AccountRequest) -> Any:
        """Sign in to a Comfy account for the partner nodes of all runs, or store its key.

        Runs whose request has no key get the key, or a token of the sign-in that is valid for up to
        an hour. A sign-in replaces a stored key, and the other way round. The password is not
        stored. A user who signs in with Google or GitHub needs an API key.
        """
        account = self.services.comfy_account
        if body.email is not None and body.password is not None:
            await account.sign_in(body.email, body.password)
        else:
            await account.keep(body.api_key)
        return account.state()


class SiteHandler(ProxyHandler, Handler):
    """``comfydeploy/…``: a proxy of ComfyDeploy's web site."""

    tag = "ComfyDeploy"

    async def begin(self) -> None:
        if self.request.method == "OPTIONS":
            return
        if self.request.method not in ("GET", "POST"):
            raise web.HTTPError(MethodNotAllowedError.status)
        site = self.services.site
        self.take_timeout = site.reply_timeout
        here = f"{self.base_url}comfydeploy"
        tail = self.request.path[len(here) :].removeprefix("/")
        address = site.address(tail, self.request.query)
        key = self.given_key()
        if key is not None:
            access = self.services.cloud.access
            access.check_url(str(address), field="comfydeploy_url")
            key = access.key(key)
        method, headers = self.request.method, self.request.headers
        self.forward(
            lambda body: site.send(method, address, headers, key=key, body=body),
            has_body=method == "POST",  # the body of a GET is ignored
        )

    async def send_chunk(self, chunk: bytes | None) -> None:
        try:
            await super().send_chunk(chunk)
        except asyncio.TimeoutError:
            url = clean_url(self.services.site.url)
            raise CloudError(f"{url} did not accept the request in time") from None

    @route.get("/comfydeploy", "getSiteRoot")
    @route.get("/comfydeploy/{tail}", "getSitePage")
    @route.post("/comfydeploy", "postSiteRoot")
    @route.post("/comfydeploy/{tail}", "postSitePage")
    @route.takes(_PAGE, headers=(KEY,))
    @route.replies(_PAGE, "The response of the site, with its status.", status="default")
    @route.errors(*CLOUD)
    async def show(self) -> None:
        """A page of ComfyDeploy's web site, through a proxy.

        The tail may have any number of parts. Status and content are those of the site.
        """
        self.check_body()
        await self.send_chunk(None)
        assert self.response is not None
        response = await self.response
        site = self.services.site
        headers = proxy.response_headers(response.headers)
        kind = passed_header(headers.pop("Content-Type", "application/octet-stream"))
        self.set_status(response.status)
        if response.status in (204, 304):
            headers.pop("Content-Length", None)
        self.pass_headers(headers, site.location(response, f"{self.base_url}comfydeploy"))
        # A page of another site must not act as a page of Jupyter, so its scripts must not run.
        self.set_header("Content-Type", kind)
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        await self.stream(site.chunks(response), set_content_type=kind)
