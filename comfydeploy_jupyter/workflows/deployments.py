"""Stored workflows as deployments, which ComfyDeploy's SDKs run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotFoundError
from .records import version_id

if TYPE_CHECKING:
    from .records import WorkflowStore


class Deployments:
    """Finds the workflow and version for the id of a deployment."""

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store

    @staticmethod
    def version_id(workflow_id: str, number: int) -> str:
        """Return the id of a version."""
        return version_id(workflow_id, number)

    async def resolve(self, deployment_id: str) -> tuple[str, int | None]:
        """Return the workflow that a deployment runs, and the number of its version."""
        found = await self._store.find_version(deployment_id)
        if found is None:
            raise NotFoundError(
                f"deployment_id: there is no workflow or version {deployment_id!r}",
                details={"field": "deployment_id", "deployment_id": deployment_id},
            )
        return found
