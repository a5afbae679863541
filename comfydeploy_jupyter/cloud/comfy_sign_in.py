"""Signs in to a Comfy account with email and password, as ComfyUI's editor does.

The editor (comfyui-frontend 1.49.6 and 1.58.1, ``config/firebase.ts`` and ``stores/authStore.ts``)
uses Google's Identity Platform ("Firebase"): ``accounts:signInWithPassword`` returns an id token,
which is valid for an hour, and a refresh token, with which ``securetoken`` returns further ones
(https://firebase.google.com/docs/reference/rest/auth). After the sign-in it opens the account at
``api.comfy.org/customers``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from ..errors import CloudError
from ..schemas.base import is_key
from ..util import responses
from ..util.fetch_policy import ALLOWED
from ..util.sessions import new_session

if TYPE_CHECKING:
    from ..util.fetch_policy import FetchPolicy

IDENTITY = "identitytoolkit.googleapis.com"
TOKENS = "securetoken.googleapis.com"
COMFY = "api.comfy.org"
# The key in the editor's source. It identifies the project and is not secret.
PROJECT_KEY = "AIzaSyC2-fomLqgCjb7ELwta1I9cEarPK8ziTGs"

LARGEST = 1 << 20  # bytes of a response
LIFETIME = 3600.0  # seconds, for a response that does not name it

# Google's error codes; https://firebase.google.com/docs/reference/rest/auth names them.
_WRONG = "The email or the password of the Comfy account is wrong"
_OVER = "The sign-in of the Comfy account has expired: sign in again"
_MESSAGES = {
    "INVALID_LOGIN_CREDENTIALS": _WRONG,
    "INVALID_PASSWORD": _WRONG,
    "EMAIL_NOT_FOUND": _WRONG,
    "INVALID_EMAIL": "This is not an email address",
    "USER_DISABLED": "The Comfy account is disabled",
    "TOO_MANY_ATTEMPTS_TRY_LATER": "Too many wrong attempts to sign in: try again later",
    "TOKEN_EXPIRED": _OVER,
    "USER_NOT_FOUND": _OVER,
    "INVALID_REFRESH_TOKEN": _OVER,
}
FINAL = frozenset({"USER_DISABLED", "TOKEN_EXPIRED", "USER_NOT_FOUND", "INVALID_REFRESH_TOKEN"})
"""Error codes after which a refresh token never works again."""


class Tokens(NamedTuple):
    """The tokens of a sign-in; the repr does not contain them."""

    email: str  # the email of the account; empty after a refresh
    id_token: str
    refresh_token: str
    lifetime: float

    def __repr__(self) -> str:
        return f"Tokens(email={self.email!r})"


class ComfySignIn:
    """Requests the tokens of a Comfy account."""

    def __init__(
        self, proxy: str = "", *, fetching: FetchPolicy = ALLOWED, timeout: float = 10.0
    ) -> None:
        self._root = f"{proxy.rstrip('/')}/" if proxy else "https://"
        self._fetching = fetching
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def sign_in(self, email: str, password: str) -> Tokens:
        """Sign in, and open the account at Comfy."""
        body = {"email": email, "password": password, "returnSecureToken": True}
        path = f"v1/accounts:signInWithPassword?key={PROJECT_KEY}"
        answer = await self._post(IDENTITY, path, json=body)
        if "idToken" not in answer and "mfaPendingCredential" in answer:
            raise CloudError("The Comfy account needs a second factor: use an API key instead")
        tokens = _tokens(answer, "idToken", "refreshToken", "expiresIn", email)
        # "localhost" is what the editor sends unless it is Comfy's cloud or desktop application.
        headers = {"Authorization": f"Bearer {tokens.id_token}"}
        await self._post(COMFY, "customers", json={"signup_source": "localhost"}, headers=headers)
        return tokens

    async def refresh(self, refresh_token: str) -> Tokens:
        """Request the next id token."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        answer = await self._post(TOKENS, f"v1/token?key={PROJECT_KEY}", data=form)
        return _tokens(answer, "id_token", "refresh_token", "expires_in", "")

    async def _post(self, host: str, path: str, **content: Any) -> dict[str, Any]:
        """Send a request, and return the JSON object of its response."""
        self._fetching.require("The token of the Comfy account")
        if self._session is None:
            self._session = new_session(total=self._timeout)
        try:
            async with self._session.post(
                f"{self._root}{host}/{path}", allow_redirects=False, **content
            ) as response:
                text = await responses.read_whole(response, LARGEST)
        except asyncio.TimeoutError:
            raise CloudError(f"{host} does not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as cause:
            # Not chained: aiohttp's errors contain the headers of the request, and so the token.
            reason = responses.reason_of(cause)
            raise CloudError(f"{host} cannot be reached: {reason}") from None
        try:
            answer = responses.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            answer = {}
        if response.status >= 300:
            raise _error(host, response.status, answer)
        return answer


def _tokens(answer: dict[str, Any], token: str, refresh: str, lifetime: str, email: str) -> Tokens:
    """Return the tokens of a response; the names of its fields differ."""
    id_token, refresh_token = answer.get(token), answer.get(refresh)
    if not all(is_key(token) for token in (id_token, refresh_token)):
        raise CloudError("The response to the sign-in of the Comfy account contains no token")
    try:
        seconds = min(max(float(answer.get(lifetime, LIFETIME)), 0.0), LIFETIME)
    except (TypeError, ValueError):
        seconds = LIFETIME
    return Tokens(email, str(id_token), str(refresh_token), seconds)


def _error(host: str, status: int, answer: dict[str, Any]) -> CloudError:
    """Return the error that a response describes, in the form of Google or in that of Comfy."""
    error = answer.get("error")
    message = error.get("message") if isinstance(error, dict) else answer.get("message")
    reason = str(message or "").partition(" ")[0][:100]
    if reason in _MESSAGES:
        fault = CloudError(_MESSAGES[reason], details={"reason": reason})
        fault.status = 400
        return fault
    return CloudError(f"{host} answers with status {status}", details={"status": status})
