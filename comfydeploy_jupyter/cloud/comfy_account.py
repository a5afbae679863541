"""The key of a Comfy account, with which ComfyUI's partner nodes call paid services."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .credentials import Account

if TYPE_CHECKING:
    from .credentials import Credentials


class ComfyAccount:
    """Stores the key that a user has entered; the configuration may have another one.

    Parameters
    ----------
    credentials : Credentials
        The file for the key that the user enters.
    configured : str or None
        The key in the configuration.
    """

    def __init__(self, credentials: Credentials, configured: str | None) -> None:
        self._credentials = credentials
        self._configured = configured
        self._kept: str | None = None

    async def open(self) -> None:
        """Read the stored key."""
        account = await asyncio.to_thread(self._credentials.load)
        self._kept = account.api_key if account is not None else None

    def key(self) -> str | None:
        """Return the key for runs that have none: the stored one, else the configured one."""
        return self._kept or self._configured

    @property
    def source(self) -> str | None:
        """The source of the key: ``kept`` (stored), ``configured``, or None without a key."""
        return "kept" if self._kept else "configured" if self._configured else None

    async def keep(self, key: str | None) -> None:
        """Store a key permanently, in a file that only its owner can read; None deletes it."""
        if key is None:
            await asyncio.to_thread(self._credentials.forget)
        else:
            await asyncio.to_thread(self._credentials.keep, Account(key, ""))
        self._kept = key
