"""Workflows in the local store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..util import worker
from ..util.jsons import PROCESS_ABOVE, RawJSON
from ..util.worker import parse
from .draft import completed
from .records import Content

if TYPE_CHECKING:
    from .draft import Convert, Draft
    from .records import Saved, VersionRecord, WorkflowRecord, WorkflowStore


class LocalWorkflows:
    """A `WorkflowRepository` that uses the store."""

    def __init__(self, store: WorkflowStore, convert: Convert | None = None) -> None:
        self._store = store
        self._convert = convert

    async def save(self, draft: Draft) -> dict[str, Any]:
        """Create a workflow, or update the one whose id is in the draft."""
        saved = await self._keep(draft)
        return {
            **shown_workflow(saved.workflow),
            "version": saved.version.version,
            "created": draft.workflow_id is None,
            "new_version": saved.created,
        }

    async def add_version(self, draft: Draft) -> dict[str, Any]:
        """Add a version to the workflow whose id is in the draft, unless the content is equal."""
        saved = await self._keep(draft)
        return {**await _with_graphs(saved.version), "created": saved.created}

    async def workflows(
        self, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return workflows, the last changed one first."""
        found = await self._store.newest(search=search, limit=limit, offset=offset)
        return [shown_workflow(record) for record in found]

    async def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with the graphs of its latest version."""
        record, latest = await self._store.version(workflow_id)
        version = await _with_graphs(latest)
        shown = {key: version[key] for key in ("version", "comment", "workflow", "workflow_api")}
        return {**shown_workflow(record), **shown, "versions": [version]}

    async def versions(
        self, workflow_id: str, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return versions without their graphs, newest first."""
        found = await self._store.versions(workflow_id, search=search, limit=limit, offset=offset)
        return [_version(record) for record in found]

    async def version(self, workflow_id: str, number: int | None = None) -> dict[str, Any]:
        """Return one version with its graphs, by default the latest."""
        _, record = await self._store.version(workflow_id, number)
        return await _with_graphs(record)

    async def _keep(self, draft: Draft) -> Saved:
        draft = await completed(draft, self._convert)
        content = await worker.run(Content, draft.workflow, draft.workflow_api)
        if draft.workflow_id is None:
            return await self._store.create(
                draft.name or "", content, comment=draft.comment, machine_id=draft.machine_id
            )
        return await self._store.update(
            draft.workflow_id,
            content,
            comment=draft.comment,
            name=draft.name,
            machine_id=draft.machine_id,
            force=draft.force,
        )


def shown_workflow(record: WorkflowRecord) -> dict[str, Any]:
    """Return a workflow as the routes reply it."""
    return {
        "id": record.workflow_id,
        "workflow_id": record.workflow_id,
        "name": record.name,
        "machine_id": record.machine_id,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "latest_version": record.latest_version,
        "versions": record.latest_version,
        "tags": record.tags,
    }


def _version(record: VersionRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "workflow_id": record.workflow_id,
        "version": record.version,
        "comment": record.comment,
        "created_at": record.created_at,
    }


async def _with_graphs(record: VersionRecord) -> dict[str, Any]:
    graphs = {"workflow": record.workflow, "workflow_api": record.workflow_api}
    return {**_version(record), **{key: await _graph(text) for key, text in graphs.items()}}


async def _graph(text: bytes | None) -> Any:
    """Return a stored graph, as `RawJSON` if it is large."""
    if text is None or len(text) > PROCESS_ABOVE:
        return text and RawJSON(text)
    return await parse(text)
