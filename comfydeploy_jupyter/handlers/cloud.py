"""Routes that sign in to ComfyDeploy or a Comfy account, and proxies of ComfyDeploy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

from tornado import web

from ..errors import CloudError, ComfyDeployError, MethodNotAllowedError
from ..util.secrets import clean_url
from ..util.system import lazy_module
from .base import Handler, passed_header, schemas
from .proxy import ProxyHandler

if TYPE_CHECKING:
    from ..util import proxy
else:
    proxy = lazy_module("util.proxy")


PENDING = 404  # ComfyDeploy's status as long as a sign-in is not approved

VOLUME_STEPS = (
    "generate-upload-url",
    "initiate-multipart-upload",
    "generate-part-upload-url",
    "complete-multipart-upload",
    "abort-multipart-upload",
)


class AuthResponseHandler(Handler):
    """``GET auth-response``: whether the user has approved the sign-in at ComfyDeploy.

    This GET changes the stored key, so it requires the same tokens as a POST: otherwise a link
    could sign a user in to the account of somebody else. Only the user's own pages and programs
    have Jupyter's token or the XSRF token.
    """

    auth_action = "write"
    xsrf_on_get = True

    async def get(self) -> None:
        """Ask ComfyDeploy once; store the key, which is not in the reply, if it is approved."""
        query = self.query(schemas.AuthQuery)
        try:
            name = await self.services.sign_in(query.request_id, query.api_url)
        except CloudError as fault:
            if fault.status != PENDING:
                raise
            page = f"auth/request/{quote(query.request_id, safe='')}"
            address = self.services.site.address(page)
            body = {"success": True, "authenticated": False, "status": "pending"}
            self.reply({**body, "auth_url": str(address)}, status=202)
            return
        self.reply({"success": True, "authenticated": True, "name": name})


class ComfyAccountHandler(Handler):
    """``comfy-account``: the Comfy account that runs of partner nodes use."""

    async def get(self) -> None:
        """Reply whether there is a key, and with its source; the reply does not contain the key."""
        self.reply(self.services.comfy_account.state())

    async def post(self) -> None:
        """Sign in, store a key, or delete what is stored."""
        request = await self.body(schemas.AccountRequest)
        account = self.services.comfy_account
        if request.email is not None and request.password is not None:
            await account.sign_in(request.email, request.password)
        else:
            await account.keep(request.api_key)
        self.reply({"success": True, **account.state()})


class VolumeBase(Handler):
    """Base of the volume routes; as in the ComfyUI node, their errors also have a ``detail``."""

    def error_of(self, exception: BaseException | None, status: int) -> ComfyDeployError:
        """Return the error that is sent for an exception, with its message as ``detail``."""
        error = super().error_of(exception, status)
        error.extra = {**error.extra, "detail": error.message}
        return error


class VolumeFileHandler(VolumeBase):
    """``POST volume/file/…``: forwards the steps of an upload to a ComfyDeploy volume."""

    async def post(self) -> None:
        """Send the step to the service, and reply with its response."""
        body = await self.json_body()
        asked = schemas.parse(schemas.CloudBody, body)
        account = self.account(asked)
        step = self.request.path.rsplit("/", 1)[-1]
        passed_on = {k: v for k, v in body.items() if k not in schemas.CloudBody.model_fields}
        self.reply(await account.post("volume", "file", step, body=passed_on))


class SiteHandler(ProxyHandler, Handler):
    """``comfydeploy/…``: a proxy of ComfyDeploy's web site."""

    async def begin(self) -> None:
        """Start the request to the site."""
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
        """Forward a chunk of the body, or its end."""
        try:
            await super().send_chunk(chunk)
        except asyncio.TimeoutError:
            url = clean_url(self.services.site.url)
            raise CloudError(f"{url} did not accept the request in time") from None

    async def get(self) -> None:
        """Forward the response of the site, as it arrives."""
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
        for name, value in headers.items():
            self.set_header(name, passed_header(value))
        location = site.location(response, f"{self.base_url}comfydeploy")
        if location is not None:
            self.set_header("Location", passed_header(location))
        # A page of another site must not act as a page of Jupyter, so its scripts must not run.
        self.set_header("Content-Type", kind)
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        await self.stream(site.chunks(response), set_content_type=kind)

    async def post(self) -> None:
        """Complete the request to the site, then reply as `get` does."""
        await self.get()
