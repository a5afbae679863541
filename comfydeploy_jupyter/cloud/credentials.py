"""The API key or refresh token of the user who signed in, stored permanently."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from ..schemas.base import is_key

log = logging.getLogger(__name__)


class Account(NamedTuple):
    """A key and its owner; the repr does not contain the key."""

    api_key: str
    name: str  # the owner's name in the service; may be empty

    def __repr__(self) -> str:
        return f"Account(name={self.name!r})"


class Credentials:
    """A JSON file that only its owner can read (mode 0600).

    All methods access the disk: call them in a thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Account | None:
        """Return the account that signed in; None if there is none or the file cannot be read."""
        try:
            found = json.loads(self._path.read_bytes())
            key, name = str(found["api_key"]).strip(), str(found["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not is_key(key):
            log.warning("%s has no valid key: it contains characters that no key has", self._path)
            return None
        return Account(key, name)

    def forget(self) -> None:
        """Delete the stored credentials."""
        self._path.unlink(missing_ok=True)

    def keep(self, account: Account) -> None:
        """Store the account that signed in, atomically replacing the file."""
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".credentials-")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor has no path
                json.dump(account._asdict(), file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
