"""The node definitions (``object_info``) of a ComfyUI."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import ComfyUIClient


class Definitions:
    """The definitions of the ComfyUI that is attached, fetched when first asked for.

    They are asked for anew after each connect: a restarted ComfyUI may have other nodes. Model
    lists inside them change while ComfyUI runs, so whoever shows them uses `fresh`.
    """

    def __init__(self) -> None:
        self._client: ComfyUIClient | None = None
        self._known: dict[str, Any] | None = None
        self._lock = asyncio.Lock()

    def attach(self, client: ComfyUIClient) -> None:
        """Note which ComfyUI is there now; what was known of the one before may be wrong."""
        self._client = client
        self._known = None

    async def get(self, client: ComfyUIClient) -> dict[str, Any]:
        """Return the definitions by class name, from memory where possible."""
        async with self._lock:
            if self._known is None or client is not self._client:
                self._client = client
                self._known = await client.object_info()
            return self._known

    async def fresh(self, client: ComfyUIClient) -> bytes:
        """Return the definitions as JSON text, asked for now."""
        text = await client.object_info_text()
        known = await asyncio.to_thread(json.loads, text)
        async with self._lock:
            self._client, self._known = client, known
        return text
