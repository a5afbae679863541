"""Requests of the ComfyDeploy service, which may use this server as one of its machines."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.identity import User

from .base import Handler

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = User(username="comfydeploy-service", name="ComfyDeploy", display_name="ComfyDeploy")


class ForService(Handler):
    """Base of the routes that ComfyDeploy may call with the machine's token instead of Jupyter's.

    ComfyDeploy sends the token twice: as ``Authorization: Basic base64(token)`` and, for proxies
    that use this header themselves, as ``authorizationheader: token``. One of them is enough; if
    both are sent, both must be correct. The user for the authorizer is ``comfydeploy-service``. No
    XSRF token is required, because browsers do not send these headers by themselves.
    """

    _caller: User | None = None

    async def prepare(self) -> None:  # type: ignore[override]  # as in Handler
        """Look for the machine's token, then check credentials and permission."""
        if self.request.method == "POST" and self._has_machine_token():
            self._caller = SERVICE
        await super().prepare()

    @property
    def current_user(self) -> Any:
        """The ComfyDeploy service, or the user of Jupyter."""
        return self._caller or super().current_user

    @current_user.setter
    def current_user(self, user: Any) -> None:
        self._current_user = user

    @property
    def token_authenticated(self) -> bool:
        """Whether Jupyter's token or the machine's token authenticated the request."""
        return self._caller is not None or super().token_authenticated

    def jupyter_token(self) -> str | None:
        """Return the Jupyter token that authenticated the request; never the machine's token."""
        return None if self._caller is not None else super().jupyter_token()

    def skip_check_origin(self) -> bool:
        """Return whether the origin of the request is not checked."""
        return self._caller is not None or super().skip_check_origin()

    def _has_machine_token(self) -> bool:
        token = self.extension.machine_token.strip()
        given = list(self._given_tokens()) if token else []
        if not given:
            return False
        expected = _digest(token.encode())
        # All tokens are compared, in a time that does not depend on how many characters match.
        right = [hmac.compare_digest(_digest(one), expected) for one in given]
        if not all(right):
            self.log.warning("A request to run a workflow had a wrong machine token")
        return all(right)

    def _given_tokens(self) -> Iterator[bytes]:
        headers = self.request.headers
        if "authorizationheader" in headers:
            yield headers["authorizationheader"].strip().encode("latin-1")
        scheme, _, value = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                yield base64.b64decode(value.strip(), validate=True)
            except (binascii.Error, ValueError):
                yield b""


def _digest(token: bytes) -> bytes:
    """Return the hash of a token: hashes have the same length."""
    return hashlib.sha256(token).digest()
