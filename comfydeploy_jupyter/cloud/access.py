"""Decide which addresses may receive a ComfyDeploy API key, and which key is used."""

from __future__ import annotations

from urllib.parse import unquote

from yarl import URL

from ..errors import ForbiddenAPIURLError, NoAPIKeyError
from ..schemas.base import is_key


class CloudAccess:
    """The allow list and the keys for the ComfyDeploy service."""

    def __init__(self, allowed_api_urls: tuple[str, ...], api_key: str | None) -> None:
        self._allowed = tuple(URL(url) for url in allowed_api_urls)
        self._api_key = api_key
        self.signed_in_key: str | None = None

    def check_url(self, url: str, *, field: str) -> str:
        """Return ``url``, normalised, if it may receive a key."""
        try:
            asked = URL(url)
        except ValueError:
            asked = URL()
        if any(_is_below(asked, allowed) for allowed in self._allowed):
            return str(asked)
        raise ForbiddenAPIURLError(
            f"{field}: {_shown(asked)!r} is not on the list allowed_api_urls",
            details={"field": field, "allowed_api_urls": [*map(_shown, self._allowed)]},
        )

    def key(self, given: str | None) -> str:
        """Return the key to use: the one in the request, else from the sign-in, else configured."""
        key = (given or self.signed_in_key or self._api_key or "").strip()
        if not key:
            raise NoAPIKeyError(
                "No ComfyDeploy API key: send it as X-ComfyDeploy-Token, sign in, or configure"
                " api_key"
            )
        if not is_key(key):
            raise NoAPIKeyError(
                "The ComfyDeploy API key contains characters that are not allowed in keys"
            )
        return key

    def key_for(self, url: str) -> str | None:
        """Return the key of the sign-in, else the configured one, if an address may receive it."""
        try:
            self.check_url(url, field="url")
        except ForbiddenAPIURLError:
            return None
        return self.signed_in_key or self._api_key


def _is_below(asked: URL, allowed: URL) -> bool:
    prefix = allowed.path.rstrip("/")
    return (
        (asked.scheme, asked.host, asked.port) == (allowed.scheme, allowed.host, allowed.port)
        and asked.user is None
        and asked.password is None
        and (asked.path == prefix or asked.path.startswith(f"{prefix}/"))
        # Decoded twice, since a proxy may decode %252e%252e.
        and ".." not in unquote(asked.path).split("/")
    )


def _shown(url: URL) -> str:
    """Return an address without the parts that may be secret; it may be malformed."""
    shown = url.with_query(None).with_fragment(None)
    try:
        return str(shown.with_user(None))
    except ValueError:
        return str(shown).rpartition("@")[2]
