"""Signing in to ComfyDeploy, the key of a Comfy account, and ComfyDeploy's web site."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .. import schemas
from ..errors import CloudError, ForbiddenAPIURLError
from .operation import (
    BINARY,
    CLOUD,
    KEY,
    Content,
    Operation,
    Reply,
    ReplyModel,
    Success,
    json_body,
    json_reply,
)


class SignedIn(Success):
    """The user has approved; the key is kept here."""

    authenticated: Literal[True]
    name: str = Field(examples=["Ada"])


class SignInPending(Success):
    """The user has not approved yet; ``auth_url`` is the page for that."""

    authenticated: Literal[False]
    status: Literal["pending"]
    auth_url: str = Field(examples=["https://www.comfydeploy.com/auth/request/c1f4a0d2"])


class ComfyAccount(ReplyModel):
    """Whether there is a key of a Comfy account, and where it is from."""

    has_key: bool = Field(examples=[True])
    source: Literal["kept", "configured"] | None = Field(examples=["kept"])


class ComfyAccountKept(ComfyAccount):
    """The key was kept, or forgotten."""

    success: Literal[True]


def _site(method: str, path: str, name: str) -> Operation:
    content = Content("*/*", BINARY)
    return Operation(
        method=method,
        path=path,
        id=name,
        tag="ComfyDeploy",
        summary="A page of ComfyDeploy's web site, passed on",
        text="The tail may have any number of parts. Status and content are those of the site.",
        headers=(KEY,),
        bodies=(content,) if method == "post" else (),
        replies=(Reply("What the site answers, with its status.", (content,), "default"),),
        errors=CLOUD,
    )


OPERATIONS = (
    Operation(
        method="get",
        path="/comfyui-deploy/auth-response",
        id="getSignIn",
        tag="ComfyDeploy",
        summary="Has the user approved the sign-in at ComfyDeploy?",
        query=schemas.AuthQuery,
        replies=(
            json_reply(SignedIn, "Yes; the key is kept here, and not told."),
            json_reply(
                SignInPending, "Not yet; `auth_url` is the page to approve it at.", status=202
            ),
        ),
        errors=(ForbiddenAPIURLError, CloudError),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/comfy-account",
        id="getComfyAccount",
        tag="ComfyDeploy",
        summary="Is there a key of a Comfy account for partner nodes?",
        replies=(json_reply(ComfyAccount, "Whether, and where it is from; never the key."),),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/comfy-account",
        id="setComfyAccount",
        tag="ComfyDeploy",
        summary="Keep the key of a Comfy account for the partner nodes of all runs, or forget it",
        bodies=json_body(schemas.AccountRequest),
        replies=(json_reply(ComfyAccountKept, "The key is kept, or forgotten."),),
    ),
    _site("get", "/comfydeploy", "getSiteRoot"),
    _site("post", "/comfydeploy", "postSiteRoot"),
    _site("get", "/comfydeploy/{tail}", "getSitePage"),
    _site("post", "/comfydeploy/{tail}", "postSitePage"),
)
