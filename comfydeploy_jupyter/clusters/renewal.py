"""Keeps some of the ComfyUIs of a pool from ending because they are idle.

An idle lease ends itself, unless a server renews it. So the leases that a pool keeps end, too, when
no server uses them any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from ..util.tasks import end, wait_for
from .lease import renew

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .lease_manager import Grant

TIMES = 4  # how often a lease is renewed in its idle time
SEND_WITHIN = 10.0  # seconds; a worker that has just ended delays the reply


class Renewal:
    """Renews the leases that a pool keeps."""

    def __init__(self, count: int, idle_timeout: float) -> None:
        self._count = count
        self._interval = idle_timeout / TIMES
        self._kept: list[str] = []
        self._sent_at = 0.0
        self._sending: asyncio.Task[None] | None = None

    def update(self, client: Any, serving: Iterable[Grant]) -> None:
        """Renew as many leases as the pool keeps, if it is time to: first those of before."""
        if self._sending is not None and not self._sending.done():
            return
        before = self._kept
        known_first = sorted(serving, key=lambda grant: grant.id not in before)
        grants = known_first[: self._count]
        ids = [grant.id for grant in grants]
        if grants and (ids != before or time.monotonic() - self._sent_at >= self._interval):
            self._kept, self._sent_at = ids, time.monotonic()
            self._sending = asyncio.ensure_future(_send(client, grants))

    async def close(self) -> None:
        """End the request that is being sent."""
        if self._sending is not None:
            await end([self._sending])


async def _send(client: Any, grants: list[Grant]) -> None:
    """Renew leases on their workers; what fails is tried again at the next time."""
    ids, workers = [grant.id for grant in grants], [grant.worker for grant in grants]
    with contextlib.suppress(Exception):
        await wait_for(client.run(renew, ids, workers=workers, on_error="ignore"), SEND_WITHIN)
