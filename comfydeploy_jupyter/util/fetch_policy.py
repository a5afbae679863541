"""Decides whether files may be downloaded from other machines."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import OfflineError

VARIABLE = "COMFYDEPLOY_OFFLINE"
TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True)
class FetchPolicy:
    """Whether this package may download files from other machines.

    Call `require` before each download.

    Attributes
    ----------
    offline : bool
        The setting ``offline``: no downloads are allowed.
    """

    offline: bool = False

    @classmethod
    def from_environment(cls) -> FetchPolicy:
        """Return the policy in ``COMFYDEPLOY_OFFLINE``, for code without access to the settings."""
        return cls(is_true(os.environ.get(VARIABLE, "")))

    def require(self, what: str) -> None:
        """Raise unless a file may be downloaded.

        Parameters
        ----------
        what : str
            The file, for the error message.

        Raises
        ------
        OfflineError
            If the setting ``offline`` forbids it.
        """
        if self.offline:
            raise OfflineError(
                f"{what} is not fetched: the setting `offline` forbids that",
                details={"setting": "offline"},
                extra={"hint": f"Set c.ComfyDeploy.offline = False, or unset {VARIABLE}."},
            )


ALLOWED = FetchPolicy()
"""The default policy: files may be downloaded."""


def is_true(text: str) -> bool:
    """Return whether the value of an environment variable means true."""
    return text.strip().lower() in TRUE
