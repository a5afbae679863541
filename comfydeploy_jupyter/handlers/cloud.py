"""Signing in to ComfyDeploy, and its volumes."""

from __future__ import annotations

from ..errors import CloudError
from .base import Handler, schemas

PENDING = 404  # how the service says that a sign-in is not approved yet

VOLUME_STEPS = (
    "generate-upload-url",
    "initiate-multipart-upload",
    "generate-part-upload-url",
    "complete-multipart-upload",
    "abort-multipart-upload",
)


class AuthResponseHandler(Handler):
    """``GET auth-response``: whether the user has approved the sign-in at ComfyDeploy."""

    async def get(self) -> None:
        """Ask once; keep the key when it is there, and answer without it."""
        query = self.query(schemas.AuthQuery)
        try:
            name = await self.services.sign_in(query.request_id, query.api_url)
        except CloudError as fault:
            if fault.status != PENDING:
                raise
            body = {"success": True, "authenticated": False, "status": "pending"}
            self.reply(body, status=202)
            return
        self.reply({"success": True, "authenticated": True, "name": name})


class VolumeFileHandler(Handler):
    """``POST volume/file/…``: the steps of an upload to a ComfyDeploy volume, passed on."""

    async def post(self) -> None:
        """Send the step to the service and answer with what it says."""
        body = await self.json_body()
        asked = schemas.parse(schemas.CloudBody, body)
        query = self.query(schemas.CloudTarget)
        account = self.services.cloud.account(
            self.given_key(asked.cd_token or asked.token), api_url=asked.api_url or query.api_url
        )
        step = self.request.path.rsplit("/", 1)[-1]
        passed_on = {k: v for k, v in body.items() if k not in schemas.CloudBody.model_fields}
        self.reply(await account.post("volume", "file", step, body=passed_on))
