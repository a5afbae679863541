"""The Comfy account with which ComfyUI's partner nodes call paid services."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from ..errors import CloudError, ComfyDeployError
from .comfy_sign_in import FINAL
from .credentials import Account

if TYPE_CHECKING:
    from .comfy_sign_in import ComfySignIn, Tokens
    from .credentials import Credentials

log = logging.getLogger(__name__)

REFRESH_BEFORE = 300.0  # seconds before its end at which an id token is replaced
ASK_AGAIN_AFTER = 60.0  # seconds without another attempt after a token could not be obtained


class ComfyAccount:
    """The keys of runs that have none: those of a sign-in, a stored key, or a configured one."""

    def __init__(
        self,
        credentials: Credentials,
        sign_ins: Credentials,
        service: ComfySignIn,
        configured: str | None,
    ) -> None:
        self._credentials = credentials
        self._sign_ins = sign_ins
        self._service = service
        self._configured = configured
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

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()

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
        """Sign in, and store the refresh token; the password is not stored."""
        tokens = await self._service.sign_in(email, password)
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
        try:
            tokens = await self._service.refresh(token)
        except ComfyDeployError as fault:
            is_final = isinstance(fault, CloudError) and fault.details.get("reason") in FINAL
            self._ask_after = float("inf") if is_final else now + ASK_AGAIN_AFTER
            self.problem = fault.message
            log.warning("There is no token of the Comfy account: %s", fault.message)
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
