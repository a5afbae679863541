"""The interface of workflow stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .draft import Draft


class WorkflowRepository(Protocol):
    """Workflows with numbered versions; what it returns are the bodies of the routes' replies.

    A workflow has ``id`` and ``workflow_id`` (the same), ``name``, ``machine_id``, ``created_at``,
    ``updated_at``, ``latest_version`` and ``versions``; a version has ``id``, ``workflow_id``,
    ``version``, ``comment``, ``created_at`` and, where asked for, ``workflow`` and
    ``workflow_api``. Times are ISO 8601, UTC. What does not exist is an error of status 404.
    """

    async def save(self, draft: Draft) -> dict[str, Any]:
        """Create a workflow, or update the one that the draft names.

        Returns
        -------
        dict
            The workflow with ``version``, the number of the version with the draft's content;
            ``created``: whether the workflow is new; ``new_version``: whether the version is.
        """

    async def add_version(self, draft: Draft) -> dict[str, Any]:
        """Add a version to the workflow that the draft names.

        Returns
        -------
        dict
            The version with its graphs; ``created``: whether it is new.
        """

    async def workflows(
        self, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return workflows, the one changed last first; ``versions`` is their count."""

    async def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with the graphs of its latest version.

        ``versions`` is a list with that version, as the service has it and clients of the ComfyUI
        node read it.
        """

    async def versions(
        self, workflow_id: str, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return versions without their graphs, newest first."""

    async def version(self, workflow_id: str, number: int | None = None) -> dict[str, Any]:
        """Return one version with its graphs; without a number the latest."""
