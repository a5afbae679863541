"""Workflows in the ComfyDeploy service."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from ..compat.comfydeploy import iso_utc, unreadable
from ..errors import CloudError, InvalidRequestError, NotFoundError
from ..util import worker
from ..util.jsons import RawJSON, dumps, loads
from .draft import completed
from .records import Content

if TYPE_CHECKING:
    from ..compat.comfydeploy import CloudAccount
    from .draft import Convert, Draft

GRAPHS = ("workflow", "workflow_api")


class CloudWorkflows:
    """A `WorkflowRepository` that uses the API of ComfyDeploy.

    Further fields of the service's replies (``pinned``, ``user_name``, …) are passed on. Its lists
    do not contain the number of versions: ``latest_version`` and ``versions`` are None there. It
    cannot rename a workflow: the ``name`` of a draft is used for a new workflow only.
    """

    def __init__(self, account: CloudAccount, convert: Convert | None = None) -> None:
        self._account = account
        self._convert = convert

    async def save(self, draft: Draft) -> dict[str, Any]:
        """Create a workflow, or add a version to the one whose id is in the draft."""
        draft = await completed(draft, self._convert)
        if draft.workflow_id is None:
            return await self._create(draft)
        found = await self.workflow(draft.workflow_id)
        new = draft.force or not await _is_latest(draft, found)
        if new:
            version = await self._add(draft)
            found["latest_version"] = found["version"] = version["version"]
            found["updated_at"] = version["created_at"] or found["updated_at"]
        hidden = (*GRAPHS, "comment")
        summary = {key: value for key, value in found.items() if key not in hidden}
        return {
            **summary,
            "versions": found["latest_version"],
            "created": False,
            "new_version": new,
        }

    async def add_version(self, draft: Draft) -> dict[str, Any]:
        """Add a version to the workflow whose id is in the draft, even if its content is equal."""
        return {**await self._add(await completed(draft, self._convert)), "created": True}

    async def workflows(
        self, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return workflows in the order of the service; the service searches in their names."""
        rows = await self._account.get(
            "workflows", search=search or None, limit=limit, offset=offset
        )
        return [_workflow(row) for row in _rows(rows, "workflows")]

    async def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with the graphs of its latest version."""
        row = await self._account.get("workflow", workflow_id, limit=1)
        if not isinstance(row, dict):
            raise unreadable("workflow")
        rows = _rows(row.get("versions") or [], "workflow")
        versions = [await _with_graphs(found) for found in rows[:1]]
        latest = versions[0] if versions else {}
        return {
            **_workflow(row),
            **{key: latest.get(key) for key in ("version", "comment", *GRAPHS)},
            "latest_version": latest.get("version"),
            "versions": versions,
        }

    async def versions(
        self, workflow_id: str, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return versions without their graphs, newest first."""
        rows = await self._account.get(
            "workflow", workflow_id, "versions", search=search or None, limit=limit, offset=offset
        )
        return [_version(row) for row in _rows(rows, "versions")]

    async def version(self, workflow_id: str, number: int | None = None) -> dict[str, Any]:
        """Return one version with its graphs, by default the latest."""
        if number is None:
            versions: list[dict[str, Any]] = (await self.workflow(workflow_id))["versions"]
        else:
            row = await self._account.get("workflow", workflow_id, "version", number)
            versions = [await _with_graphs(found) for found in _rows([row], "version")]
        if not versions:
            raise NotFoundError(
                "version: the workflow has no such version", details={"field": "version"}
            )
        return versions[0]

    async def _create(self, draft: Draft) -> dict[str, Any]:
        workflow = _needed(draft.workflow, "workflow")
        body = await asyncio.to_thread(
            lambda: {
                "name": draft.name,
                "workflow_json": dumps(workflow),
                "workflow_api": (None if draft.workflow_api is None else dumps(draft.workflow_api)),
                "machine_id": draft.machine_id,
            }
        )
        answer = await self._account.post(
            "workflow", body={key: value for key, value in body.items() if value is not None}
        )
        workflow_id = answer.get("workflow_id") if isinstance(answer, dict) else None
        if not isinstance(workflow_id, str):
            raise unreadable("the new workflow")
        row = {
            "id": workflow_id,
            "name": draft.name,
            "selected_machine_id": answer.get("machine_id"),
        }
        # The workflow exists now: failing to read its times must not look like a failure to save.
        with contextlib.suppress(CloudError):
            row = {**row, **(await self._account.get("workflow", workflow_id, limit=1))}
        row.pop("versions", None)
        first = {"latest_version": 1, "versions": 1, "version": 1}
        return {**_workflow(row), **first, "created": True, "new_version": True}

    async def _add(self, draft: Draft) -> dict[str, Any]:
        workflow_id = draft.workflow_id or ""
        body = {
            "workflow": _needed(draft.workflow, "workflow"),
            "workflow_api": _needed(draft.workflow_api, "workflow_api"),
            "comment": draft.comment,
            "machine_id": draft.machine_id,
        }
        body = {key: value for key, value in body.items() if value is not None}
        try:
            row = await self._account.post("workflow", workflow_id, "version", body=body)
        except CloudError as error:
            # The service answers with a server error for a workflow that does not exist.
            if error.status == CloudError.status:
                await self._account.get("workflow", workflow_id, limit=1)
            raise
        if not isinstance(row, dict) or not isinstance(row.get("version"), int):
            raise unreadable("the new version")
        return await _with_graphs({**body, **row})


def _needed(graph: dict[str, Any] | None, field: str) -> dict[str, Any]:
    if graph is None:
        kind = "the editor's" if field == "workflow" else "API"
        raise InvalidRequestError.of_field(
            field, f"ComfyDeploy needs the graph in {kind} format too"
        )
    return graph


async def _is_latest(draft: Draft, found: dict[str, Any]) -> bool:
    """Return whether the latest version in the service has the content of a draft."""
    graphs = [found[key] for key in GRAPHS] + [draft.workflow, draft.workflow_api]
    return await worker.run(_same_content, *graphs)


def _same_content(workflow: Any, workflow_api: Any, new_workflow: Any, new_api: Any) -> bool:
    latest = Content(workflow, workflow_api)
    new = Content(new_workflow, new_api)
    return new.adds_nothing_to(latest.workflow_content, latest.api_content)


def _rows(answer: Any, what: str) -> list[dict[str, Any]]:
    """Return the rows of an array, without the nulls that the service returns for empty joins."""
    if not isinstance(answer, list):
        raise unreadable(what)
    return [row for row in answer if isinstance(row, dict)]


def _workflow(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "id": row.get("id"),
        "workflow_id": row.get("id"),
        "name": row.get("name"),
        "machine_id": row.get("selected_machine_id"),
        "created_at": iso_utc(row.get("created_at")),
        "updated_at": iso_utc(row.get("updated_at")),
        "latest_version": None,
        "versions": None,
    }


def _version(row: dict[str, Any]) -> dict[str, Any]:
    """Return a version without its graphs."""
    kept = {key: value for key, value in row.items() if key not in GRAPHS}
    if "updated_at" in row:
        kept["updated_at"] = iso_utc(row["updated_at"])
    created_at = iso_utc(row.get("created_at"))
    return {**kept, "created_at": created_at, "comment": row.get("comment") or ""}


async def _with_graphs(row: dict[str, Any]) -> dict[str, Any]:
    """Return a version with its graphs, which the service sometimes returns as JSON text."""
    graphs = await asyncio.to_thread(lambda: {key: _graph(row.get(key)) for key in GRAPHS})
    return {**_version(row), **graphs}


def _graph(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, (dict, RawJSON)) else None
