"""A stand-in for Jupyter's authorizer that records what it is asked, as hubs and teams have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_server.auth.authorizer import Authorizer

if TYPE_CHECKING:
    from collections.abc import Collection

ACTIONS = frozenset({"read", "write", "execute"})


class RecordingAuthorizer(Authorizer):
    """Records user, action and resource of each question, and allows what the test says.

    Jupyter makes the instance of the class, so tests use the attributes of the class.
    """

    asked: list[tuple[str, str, str]] = []  # noqa: RUF012 - the one list that the test reads
    allowed: Collection[str] = ACTIONS

    @classmethod
    def reset(cls) -> None:
        """Forget what was asked, and allow everything."""
        cls.asked.clear()
        cls.allowed = ACTIONS

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.asked.append((user.username, action, resource))
        return action in self.allowed
