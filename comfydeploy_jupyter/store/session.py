"""The session id with which this server queues prompts, kept over restarts.

ComfyUI sends the events of a prompt to the client id that queued it. A restarted Jupyter must use
the id of its predecessor to hear of the prompts that still run; a second Jupyter on the same data
folder must not. So each server holds the lock of one file ``sessions/<id>.lock``, and the kernel of
the operating system releases it when the server dies, however it dies.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING

from ..posix import lock_file

if TYPE_CHECKING:
    from pathlib import Path


class Session:
    """A held session id.

    Parameters
    ----------
    folder : pathlib.Path
        Where the lock files are, e.g. ``<data_dir>/sessions``.

    Attributes
    ----------
    id : str
        The ComfyUI client id of this server.
    claimed : frozenset of str
        This id and those of servers that are dead: their runs are now ours to follow.
    """

    def __init__(self, folder: Path) -> None:
        self._locks: list[int] = []
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self.claimed: frozenset[str] = frozenset()
        names = self.claim()
        while not names:
            # Another server may claim the new file meanwhile: then it belongs to that one.
            (folder / f"{uuid.uuid4().hex}.lock").touch(0o600)
            names = self.claim()
        self.id = min(names)

    def claim(self) -> frozenset[str]:
        """Claim the ids of servers that have died since the last time, and return these."""
        paths = self._folder.glob("*.lock")
        found = frozenset(path.stem for path in paths if self._lock(path))
        self.claimed |= found
        return found

    def close(self) -> None:
        """Release the locks; the ids stay for the next server."""
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()

    def _lock(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(BlockingIOError):
            lock_file(descriptor)
            self._locks.append(descriptor)
            return True
        os.close(descriptor)
        return False
