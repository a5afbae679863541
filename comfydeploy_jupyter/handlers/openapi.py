"""``GET openapi.json``: the requests and replies of all routes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .base import Handler

if TYPE_CHECKING:
    from ..openapi.document import Document


class OpenAPIHandler(Handler):
    """``GET openapi.json``: the routes in OpenAPI 3.1."""

    _etag: str | None = None

    async def get(self) -> None:
        """Reply with the document, which is created at the first request."""
        made = self.extension.document
        if made is None:
            made = await asyncio.to_thread(_make, self.base_url)
            self.extension.document = made
        self._etag = made.etag
        self.set_header("Cache-Control", "private, no-cache")
        await self.finish(made.text)

    def compute_etag(self) -> str | None:
        """Return the tag that was computed with the document."""
        return self._etag


def _make(base_url: str) -> Document:
    """Create the document; its modules are imported only now, because they are rarely needed."""
    from ..openapi.document import document

    return document(base_url)
