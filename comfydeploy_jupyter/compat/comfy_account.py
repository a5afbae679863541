"""Signs in to a Comfy account with email and password, as ComfyUI's editor does.

The editor (comfyui-frontend 1.49.6 and 1.58.1, ``config/firebase.ts`` and ``stores/authStore.ts``)
uses Google's Identity Platform ("Firebase"): ``accounts:signInWithPassword`` returns an id token,
which is valid for an hour, and a refresh token, with which ``securetoken`` returns further ones
(https://firebase.google.com/docs/reference/rest/auth). After the sign-in it opens the account at
``api.comfy.org/customers``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from ..errors import CloudError, ComfyDeployError
from ..util import http, jsons
from ..util.http import Pooled
from ..util.secrets import is_key
from ..util.system import ALLOWED
from .comfydeploy import Account

if TYPE_CHECKING:
    from ..util.system import FetchPolicy
    from .comfydeploy import Credentials

log = logging.getLogger(__name__)

IDENTITY = "identitytoolkit.googleapis.com"
TOKENS = "securetoken.googleapis.com"
COMFY = "api.comfy.org"
# The key in the editor's source. It identifies the project and is not secret.
PROJECT_KEY = "AIzaSyC2-fomLqgCjb7ELwta1I9cEarPK8ziTGs"

MAX_BYTES = 1 << 20  # bytes of a response
REPLY_TIMEOUT = 10.0  # seconds
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

    id_token: str
    refresh_token: str
    lifetime: float  # seconds for which the id token is valid

    def __repr__(self) -> str:
        return "Tokens()"


def _tokens(reply: dict[str, Any], token: str, refresh: str, lifetime: str) -> Tokens:
    """Return the tokens of a response; the names of its fields differ."""
    if not all(is_key(reply.get(name)) for name in (token, refresh)):
        raise CloudError("The response to the sign-in of the Comfy account contains no token")
    try:
        seconds = min(max(float(reply.get(lifetime, LIFETIME)), 0.0), LIFETIME)
    except (TypeError, ValueError):
        seconds = LIFETIME
    return Tokens(reply[token], reply[refresh], seconds)


def _error(host: str, status: int, reply: dict[str, Any]) -> CloudError:
    """Return the error that a response describes, in the form of Google or in that of Comfy."""
    error = reply.get("error")
    message = error.get("message") if isinstance(error, dict) else reply.get("message")
    reason = str(message or "").partition(" ")[0][:100]
    if reason in _MESSAGES:
        exc = CloudError(_MESSAGES[reason], details={"reason": reason})
        exc.status = 400
        return exc
    return CloudError(f"{host} answers with status {status}", details={"status": status})


REFRESH_BEFORE = 300.0  # seconds before its end at which an id token is replaced
ASK_AGAIN_AFTER = 60.0  # seconds without another attempt after a token could not be obtained


class ComfyAccount(Pooled):
    """The keys of runs that have none: those of a sign-in, a stored key, or a configured one.

    With a proxy, the three hosts are reached below its address, each by its name.
    """

    def __init__(
        self,
        credentials: Credentials,
        sign_ins: Credentials,
        configured: str | None,
        *,
        proxy: str = "",
        fetching: FetchPolicy = ALLOWED,
    ) -> None:
        super().__init__(total=REPLY_TIMEOUT)
        self._credentials = credentials
        self._sign_ins = sign_ins
        self._configured = configured
        self._root = f"{proxy.rstrip('/')}/" if proxy else "https://"
        self._fetching = fetching
        self._kept: str | None = None
        self._refresh_token: str | None = None
        self._id_token: str | None = None
        self._valid_until = self._ask_after = 0.0
        self._lock = asyncio.Lock()
        self.email: str | None = None
        self.problem: str | None = None

    async def open(self) -> None:
        """Read the stored key and token."""
        account = await asyncio.to_thread(self._credentials.load)
        self._kept = account.api_key if account is not None else None
        signed_in = await asyncio.to_thread(self._sign_ins.load)
        if signed_in is not None:
            self._refresh_token, self.email = signed_in

    @property
    def source(self) -> str | None:
        """The source of the keys: ``signed-in``, ``kept``, ``configured``, or None without any."""
        if self._refresh_token:
            return "signed-in"
        return "kept" if self._kept else "configured" if self._configured else None

    def state(self) -> dict[str, Any]:
        """Return the reply of ``GET comfy-account``."""
        source = self.source
        state = {"email": self.email, "problem": self.problem}
        return {"has_key": source is not None, "source": source, **state}

    def known_keys(self) -> dict[str, str]:
        """Return the keys, with the last id token even if it is not valid any more."""
        if self._refresh_token:
            return {"auth_token_comfy_org": self._id_token} if self._id_token else {}
        key = self._kept or self._configured
        return {"api_key_comfy_org": key} if key else {}

    async def keys(self) -> dict[str, str]:
        """Return the keys for a run that is handed to ComfyUI now.

        A token that ends soon is replaced. If that fails, a token that is still valid is used, else
        none, as the editor does: only partner nodes need it.
        """
        if self._refresh_token and time.time() > self._valid_until - REFRESH_BEFORE:
            async with self._lock:
                await self._refresh()
        if self._refresh_token and time.time() > self._valid_until:
            return {}
        return self.known_keys()

    async def sign_in(self, email: str, password: str) -> None:
        """Sign in, open the account at Comfy, and store the refresh token, but no password."""
        body = {"email": email, "password": password, "returnSecureToken": True}
        path = f"v1/accounts:signInWithPassword?key={PROJECT_KEY}"
        reply = await self._post(IDENTITY, path, json=body)
        if "idToken" not in reply and "mfaPendingCredential" in reply:
            raise CloudError("The Comfy account needs a second factor: use an API key instead")
        tokens = _tokens(reply, "idToken", "refreshToken", "expiresIn")
        # "localhost" is what the editor sends unless it is Comfy's cloud or desktop application.
        headers = {"Authorization": f"Bearer {tokens.id_token}"}
        await self._post(COMFY, "customers", json={"signup_source": "localhost"}, headers=headers)
        async with self._lock:
            await asyncio.to_thread(self._sign_ins.keep, Account(tokens.refresh_token, email))
            await asyncio.to_thread(self._credentials.forget)
            self._kept = None
            self.email = email
            self._take(tokens)

    async def keep(self, key: str | None) -> None:
        """Store a key permanently instead of a sign-in; None deletes the one that is stored."""
        async with self._lock:
            if key is None:
                await asyncio.to_thread(self._credentials.forget)
            else:
                await asyncio.to_thread(self._credentials.keep, Account(key, ""))
            self._kept = key
            await asyncio.to_thread(self._sign_ins.forget)
            self._refresh_token = self._id_token = self.email = self.problem = None

    async def _refresh(self) -> None:
        """Replace the id token, unless that has just happened or failed."""
        now = time.time()
        token = self._refresh_token
        if token is None or now <= self._valid_until - REFRESH_BEFORE or now < self._ask_after:
            return
        form = {"grant_type": "refresh_token", "refresh_token": token}
        try:
            reply = await self._post(TOKENS, f"v1/token?key={PROJECT_KEY}", data=form)
            tokens = _tokens(reply, "id_token", "refresh_token", "expires_in")
        except ComfyDeployError as exc:
            is_final = isinstance(exc, CloudError) and exc.details.get("reason") in FINAL
            self._ask_after = float("inf") if is_final else now + ASK_AGAIN_AFTER
            self.problem = exc.message
            log.warning("There is no token of the Comfy account: %s", exc.message)
            return
        if tokens.refresh_token != token:
            account = Account(tokens.refresh_token, self.email or "")
            await asyncio.to_thread(self._sign_ins.keep, account)
        self._take(tokens)

    def _take(self, tokens: Tokens) -> None:
        self._refresh_token, self._id_token = tokens.refresh_token, tokens.id_token
        self._valid_until = time.time() + tokens.lifetime
        self._ask_after = 0.0
        self.problem = None

    async def _post(self, host: str, path: str, **content: Any) -> dict[str, Any]:
        """Send a request, and return the JSON object of its response."""
        self._fetching.require("The token of the Comfy account")
        try:
            async with self.session.post(
                f"{self._root}{host}/{path}", allow_redirects=False, **content
            ) as response:
                text = await http.read_whole(response, MAX_BYTES)
        except asyncio.TimeoutError:
            raise CloudError(f"{host} does not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as cause:
            # Not chained: aiohttp's errors contain the headers of the request, and so the token.
            reason = http.reason_of(cause)
            raise CloudError(f"{host} cannot be reached: {reason}") from None
        try:
            reply = jsons.loads(text)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            reply = {}
        if response.status >= 300:
            raise _error(host, response.status, reply)
        return reply
