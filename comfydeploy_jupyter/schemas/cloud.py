"""Requests that sign in to ComfyDeploy or to a Comfy account, or store its key."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ..errors import InvalidRequestError
from .base import EMAIL_PATTERN, LONGEST_KEY, ApiUrlField, Identifier, Model, is_key
from .examples import ACCOUNT_KEY

__all__ = ["AccountRequest", "AuthQuery"]


class AccountRequest(Model):
    """Body of ``POST comfy-account``: an API key, or email and password."""

    api_key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)] | None = Field(
        None,
        repr=False,
        description="The API key of a Comfy account. It is stored; null deletes what is stored: the"
        " key, or the sign-in.",
        examples=[ACCOUNT_KEY],
    )
    email: Annotated[str, Field(max_length=320, pattern=EMAIL_PATTERN)] | None = Field(
        None,
        description="The email of a Comfy account, to sign in. Not for accounts of Google or"
        " GitHub.",
    )
    password: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, repr=False, description="Its password. It is not stored."
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
    """Query of ``GET auth-response``."""

    request_id: Identifier = Field(
        description="The id that the client has made for the sign-in.", examples=["c1f4a0d2"]
    )
    api_url: ApiUrlField = None
