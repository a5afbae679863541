"""Requests that sign in to ComfyDeploy, or store the key of a Comfy account."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from .base import ApiUrlField, Identifier, Model
from .examples import ACCOUNT_KEY

__all__ = ["AccountRequest", "AuthQuery"]

LONGEST_KEY = 16 * 1024  # characters of a key or token


def is_account_key(value: object) -> bool:
    """Return whether a value can be a key or a token of a Comfy account."""
    return (
        isinstance(value, str)
        and len(value) <= LONGEST_KEY
        and all(character.isprintable() and not character.isspace() for character in value)
    )


class AccountRequest(Model):
    """Body of ``POST comfy-account``: the key to store, or null to delete the stored one."""

    api_key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)] | None = Field(
        repr=False,
        description="The API key of a Comfy account; null deletes the stored one.",
        examples=[ACCOUNT_KEY],
    )

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: str | None) -> str | None:
        if key is not None and not is_account_key(key):
            raise ValueError("must be one line of text without spaces")
        return key


class AuthQuery(Model):
    """Query of ``GET auth-response``."""

    request_id: Identifier = Field(
        description="The id that the client has made for the sign-in.", examples=["c1f4a0d2"]
    )
    api_url: ApiUrlField = None
