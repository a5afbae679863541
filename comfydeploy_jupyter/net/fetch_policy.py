"""Decides whether files may be fetched from other machines."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import OfflineError

VARIABLE = "COMFYDEPLOY_OFFLINE"
TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True)
class FetchPolicy:
    """Whether this package may fetch files from other machines.

    Call `require` before each fetch.

    Attributes
    ----------
    offline : bool
        The setting ``offline``: nothing may be fetched.
    """

    offline: bool = False

    @classmethod
    def from_environment(cls) -> FetchPolicy:
        """Return the policy of ``COMFYDEPLOY_OFFLINE``, for code without the configuration."""
        return cls(is_true(os.environ.get(VARIABLE, "")))

    def require(self, what: str) -> None:
        """Raise unless something may be fetched.

        Parameters
        ----------
        what : str
            What is to be fetched, for the message.

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
"""The policy where nothing is configured: files may be fetched."""


def is_true(text: str) -> bool:
    """Return whether the text of an environment variable means yes."""
    return text.strip().lower() in TRUE
