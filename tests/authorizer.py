"""A replacement for Jupyter's authorizer, as used by hubs and teams, that records its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_server.auth.authorizer import Authorizer

if TYPE_CHECKING:
    from collections.abc import Collection

ACTIONS = frozenset({"read", "write", "execute"})


class RecordingAuthorizer(Authorizer):
    """Records user, action and resource of each call, and allows the actions that the test permits.

    Jupyter creates the instance, so tests use the attributes of the class.
    """

    calls: list[tuple[str, str, str]] = []  # noqa: RUF012 - the one list that the test reads
    allowed: Collection[str] = ACTIONS

    @classmethod
    def reset(cls) -> None:
        """Clear the recorded calls, and allow everything."""
        cls.calls.clear()
        cls.allowed = ACTIONS

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.calls.append((user.username, action, resource))
        return action in self.allowed
