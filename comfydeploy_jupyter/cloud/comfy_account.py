"""The key of a Comfy account, with which ComfyUI's partner nodes call paid services."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .credentials import Account

if TYPE_CHECKING:
    from .credentials import Credentials


class ComfyAccount:
    """Keeps the key that a user has handed in, beside the one of the configuration.

    Parameters
    ----------
    credentials : Credentials
        The file for the key that is handed in.
    configured : str or None
        The key of the configuration.
    """

    def __init__(self, credentials: Credentials, configured: str | None) -> None:
        self._credentials = credentials
        self._configured = configured
        self._kept: str | None = None

    async def open(self) -> None:
        """Read the key that was kept before."""
        account = await asyncio.to_thread(self._credentials.load)
        self._kept = account.api_key if account is not None else None

    def key(self) -> str | None:
        """Return the key for runs that bring none: the kept one, else the configured one."""
        return self._kept or self._configured

    @property
    def source(self) -> str | None:
        """Where the key is from: ``kept``, ``configured``, or None without one."""
        return "kept" if self._kept else "configured" if self._configured else None

    async def keep(self, key: str | None) -> None:
        """Keep a key over restarts, in a file that only its owner can read; None: forget it."""
        if key is None:
            await asyncio.to_thread(self._credentials.forget)
        else:
            await asyncio.to_thread(self._credentials.keep, Account(key, ""))
        self._kept = key
