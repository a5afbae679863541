"""The API keys of the user who signed in, kept over restarts."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import NamedTuple


class Account(NamedTuple):
    """Whom a key belongs to; the key stays out of the repr.

    Attributes
    ----------
    api_key : str
        The API key.
    name : str
        What the service calls its owner; may be empty.
    """

    api_key: str
    name: str

    def __repr__(self) -> str:
        return f"Account(name={self.name!r})"


class Credentials:
    """One JSON file that only its owner can read (mode 0600).

    Its methods work on the disk: call them in a thread.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Account | None:
        """Return the account that signed in; None without one, or if the file cannot be read."""
        try:
            found = json.loads(self._path.read_bytes())
            return Account(str(found["api_key"]), str(found["name"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget(self) -> None:
        """Delete the stored credentials."""
        self._path.unlink(missing_ok=True)

    def keep(self, account: Account) -> None:
        """Store the account that signed in, replacing the file atomically."""
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
