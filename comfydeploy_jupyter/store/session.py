"""The session id with which this server queues prompts, kept over restarts.

ComfyUI sends the events of a prompt to the client id that queued it. A restarted Jupyter must use
the id of its predecessor to receive the events of prompts that are still executing; a second
Jupyter with the same data folder must not. So each server locks a file ``sessions/<id>.lock``, and
the kernel of the operating system releases the lock when the server exits for any reason.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from ..util.system import lock_file

if TYPE_CHECKING:
    from pathlib import Path


class Session:
    def __init__(self, folder: Path) -> None:
        self._locks: list[int] = []
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        # this id and those of servers that have exited, whose runs this server recovers
        self.claimed: frozenset[str] = frozenset()
        names = self.claim()
        while not names:
            # Another server may lock the new file first; then this server creates another one.
            (folder / f"{uuid.uuid4().hex}.lock").touch(0o600)
            names = self.claim()
        self.id = min(names)

    def claim(self) -> frozenset[str]:
        """Lock the ids of servers that have exited since the last call, and return these ids."""
        new = [p for p in self._folder.glob("*.lock") if p.stem not in self.claimed]
        found = frozenset(path.stem for path in new if path.is_file() and self._lock(path))
        self.claimed |= found
        return found

    def close(self) -> None:
        """Release the locks; the files remain for the next server."""
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()

    def _lock(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            lock_file(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._locks.append(descriptor)
        return True
