"""Signing in to ComfyDeploy and to a Comfy account, and ComfyDeploy's web site."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .. import schemas
from ..errors import CloudError, ForbiddenAPIURLError, OfflineError
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

    has_key: bool = Field(
        description="Whether runs get a key or a token of a sign-in.", examples=[True]
    )
    source: Literal["signed-in", "kept", "configured"] | None = Field(examples=["signed-in"])
    email: str | None = Field(
        description="The email of the user who is signed in.", examples=["ada@example.org"]
    )
    problem: str | None = Field(
        description="Why there is no valid token although a user is signed in.", examples=[None]
    )


class ComfyAccountKept(ComfyAccount):
    """The user is signed in, or the key was stored or deleted."""

    success: Literal[True]


def _site(method: str, path: str, name: str) -> Operation:
    content = Content("*/*", BINARY)
    return Operation(
        method=method,
        path=path,
        id=name,
        tag="ComfyDeploy",
        summary="A page of ComfyDeploy's web site, through a proxy",
        text="The tail may have any number of parts. Status and content are those of the site.",
        headers=(KEY,),
        bodies=(content,) if method == "post" else (),
        replies=(Reply("The response of the site, with its status.", (content,), "default"),),
        errors=CLOUD,
    )


OPERATIONS = (
    Operation(
        method="get",
        path="/comfyui-deploy/auth-response",
        id="getSignIn",
        tag="ComfyDeploy",
        summary="Whether the user has approved the sign-in at ComfyDeploy",
        query=schemas.AuthQuery,
        replies=(
            json_reply(SignedIn, "Approved. The key is stored on this server, and not returned."),
            json_reply(
                SignInPending, "Not approved yet. The user approves at `auth_url`.", status=202
            ),
        ),
        errors=(ForbiddenAPIURLError, CloudError),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/comfy-account",
        id="getComfyAccount",
        tag="ComfyDeploy",
        summary="Whether this server has a key of a Comfy account for partner nodes",
        replies=(json_reply(ComfyAccount, "The source of the key, but not the key."),),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/comfy-account",
        id="setComfyAccount",
        tag="ComfyDeploy",
        summary="Sign in to a Comfy account for the partner nodes of all runs, or store its key",
        text="Runs whose request has no key get the key, or a token of the sign-in that is valid"
        " for up to an hour. A sign-in replaces a stored key, and the other way round. The password"
        " is not stored. A user who signs in with Google or GitHub needs an API key.",
        bodies=json_body(schemas.AccountRequest),
        replies=(json_reply(ComfyAccountKept, "Signed in, or the key is stored or deleted."),),
        errors=(CloudError, OfflineError),
    ),
    _site("get", "/comfydeploy", "getSiteRoot"),
    _site("post", "/comfydeploy", "postSiteRoot"),
    _site("get", "/comfydeploy/{tail}", "getSitePage"),
    _site("post", "/comfydeploy/{tail}", "postSitePage"),
)
