"""The interface of workflow stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .draft import Draft


class WorkflowRepository(Protocol):
    """Workflows with numbered versions; the results are the bodies of the routes' replies.

    A workflow has ``id`` and ``workflow_id`` (the same), ``name``, ``machine_id``, ``created_at``,
    ``updated_at``, ``latest_version`` and ``versions``; a version has ``id``, ``workflow_id``,
    ``version``, ``comment``, ``created_at`` and, in some results, ``workflow`` and
    ``workflow_api``. Times are ISO 8601, UTC. If one does not exist, the error has status 404.
    """

    async def save(self, draft: Draft) -> dict[str, Any]:
        """Create a workflow, or update the one whose id is in the draft."""

    async def add_version(self, draft: Draft) -> dict[str, Any]:
        """Add a version to the workflow whose id is in the draft."""

    async def workflows(
        self, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return workflows, the last changed one first; ``versions`` is the number of versions."""

    async def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with the graphs of its latest version.

        ``versions`` is a list of that version only, as in the replies of ComfyDeploy's service,
        which clients of the ComfyUI node read.
        """

    async def versions(
        self, workflow_id: str, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return versions without their graphs, newest first."""

    async def version(self, workflow_id: str, number: int | None = None) -> dict[str, Any]:
        """Return one version with its graphs, by default the latest."""
