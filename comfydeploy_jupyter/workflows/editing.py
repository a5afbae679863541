"""Stored workflows that are edited in ComfyUI's page: *Save* there adds a version.

A workflow is written as a file into the folder of ComfyUI's editor. The proxy of ComfyUI's page
reports each file that the editor saves, renames or deletes through it. Changes that were saved
without the proxy become a version when the workflow is edited the next time.
"""

from __future__ import annotations

import asyncio
import logging
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from ..comfyui.client import WORKFLOWS
from ..errors import ComfyDeployError, InvalidRequestError, NotFoundError
from ..graphs.layout import api_to_ui
from ..store.database import Repository, reading, writing
from ..util import worker
from ..util.jsons import RawJSON, dumps
from ..util.tasks import BackgroundTasks
from ..util.worker import packed
from .convert import read_graphs
from .store import Draft, workflow_row

if TYPE_CHECKING:
    import sqlite3

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.definitions import DefinitionSet
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..store.database import Database
    from .store import LocalWorkflows

log = logging.getLogger(__name__)

COMMENT = "Saved in ComfyUI's editor"
MAX_NAME = 80  # characters of a file name
_ADDRESS = re.compile(r"(?:/api)?/userdata/([^/]+)(?:/move/([^/]+))?/?")
_UNFIT = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*%#]+')


class EditedFile(NamedTuple):
    path: str
    workflow_id: str
    written: str  # the hashes of the contents that it may have if nobody has changed it


class EditedFiles(Repository):
    """The files in the folder of ComfyUI's editor that belong to stored workflows."""

    @writing
    def keep(self, db: sqlite3.Connection, file: EditedFile) -> None:
        """Store a file, in place of an earlier one of the workflow or of the path."""
        db.execute(
            "INSERT OR REPLACE INTO edited_files (path, workflow, written) VALUES (?, ?, ?)",
            (file.path, workflow_row(db, file.workflow_id)["id"], file.written),
        )

    @writing
    def update(self, db: sqlite3.Connection, workflow_id: str, written: str) -> None:
        """Store the known content of the file of a workflow, which may have been renamed meanwhile.

        Nothing is done if the workflow has no file any more.
        """
        db.execute(
            "UPDATE edited_files SET written = ?"
            " WHERE workflow = (SELECT id FROM workflows WHERE workflow_id = ?)",
            (written, workflow_id),
        )

    @reading
    def find(
        self, db: sqlite3.Connection, *, path: str | None = None, workflow_id: str | None = None
    ) -> EditedFile | None:
        """Return the file with a path or of a workflow; None also if the workflow is deleted."""
        row = db.execute(
            "SELECT path, workflow_id, written FROM edited_files"
            " JOIN workflows ON workflows.id = workflow AND deleted_at IS NULL"
            " WHERE path = ? OR workflow_id = ?",
            (path, workflow_id),
        ).fetchone()
        return None if row is None else EditedFile(*row)

    @reading
    def paths(self, db: sqlite3.Connection) -> set[str]:
        return {path for (path,) in db.execute("SELECT path FROM edited_files")}

    @writing
    def move(self, db: sqlite3.Connection, path: str, new_path: str) -> None:
        """Record that the editor has renamed a file; do nothing for any other file."""
        db.execute("UPDATE OR REPLACE edited_files SET path = ? WHERE path = ?", (new_path, path))

    @writing
    def forget(self, db: sqlite3.Connection, path: str) -> None:
        db.execute("DELETE FROM edited_files WHERE path = ?", (path,))


class Editing:
    """Puts stored workflows into the editor's folder, and stores changes that are saved there."""

    def __init__(
        self, database: Database, workflows: LocalWorkflows, machines: MachineRegistry
    ) -> None:
        self._files = EditedFiles(database)
        self._workflows = workflows
        self._machines = machines
        self._lock = asyncio.Lock()
        self._tasks = BackgroundTasks(log)

    async def close(self) -> None:
        """Stop; changes that are not stored yet are stored when the workflow is edited again."""
        await self._tasks.close()

    async def begin(self, workflow_id: str) -> str:
        """Put the newest version of a workflow into the editor's folder; return its path there.

        If it is there already, changes that were saved there become a version first.
        `InvalidRequestError` if the file there is not a workflow any more.
        """
        machine = self._machines.get()
        client = await machine.ready()
        async with self._lock:
            known = await self._files.find(workflow_id=workflow_id)
            if known is not None:
                await self._collect(client, known.path)
                known = await self._files.find(workflow_id=workflow_id)
            workflow = await self._workflows.workflow(workflow_id)
            text = await _in_editors_format(workflow, machine)
            if known is None:
                path = await self._free_path(client, workflow["name"])
                await client.write_workflow(path, text)
                await self._files.keep(EditedFile(path, workflow_id, _hash(text)))
                return path
            # Until ComfyUI has answered, the file may have its earlier content or this one.
            either = " ".join(dict.fromkeys((*known.written.split(), _hash(text))))
            await self._files.update(workflow_id, either)
            await client.write_workflow(known.path, text)
            await self._files.update(workflow_id, _hash(text))
        return known.path

    def note(self, client: ComfyUIClient, method: str, address: str) -> None:
        """Handle a request that the editor has sent successfully; do not wait for it."""
        found = _ADDRESS.fullmatch(address)
        if found is None or method not in {"POST", "DELETE"}:
            return
        paths = [
            unquote(part).removeprefix(f"{WORKFLOWS}/")
            for part in found.groups()
            if part is not None and unquote(part).startswith(f"{WORKFLOWS}/")
        ]
        if not paths:
            return
        if found[2] is None and method == "DELETE":
            task = self._files.forget(paths[0])
        elif found[2] is not None:
            task = self._files.move(paths[0], paths[-1])
        else:
            task = self._saved(client, paths[0])
        self._tasks.start(task, "Keeping what was saved in ComfyUI's editor")

    async def _saved(self, client: ComfyUIClient, path: str) -> None:
        async with self._lock:
            try:
                await self._collect(client, path)
            except ComfyDeployError as error:
                log.warning("%s was saved in ComfyUI's editor, but was not stored: %s", path, error)

    async def _collect(self, client: ComfyUIClient, path: str) -> None:
        """Store a changed file as a version, if it belongs to a stored workflow."""
        known = await self._files.find(path=path)
        if known is None:
            return
        try:
            text = await client.read_workflow(path)
        except NotFoundError:
            return  # it was deleted while the proxy did not see it
        if _hash(text) in known.written.split():
            return
        try:
            graph, graph_api = await read_graphs(text.decode("utf-8", "replace"), None, None)
        except InvalidRequestError as error:
            raise InvalidRequestError(
                f"the file {path} of ComfyUI's editor is not a workflow ({error.message}); delete"
                " it there, or save it again"
            ) from None
        draft = Draft(graph, graph_api, workflow_id=known.workflow_id, comment=COMMENT)
        await self._workflows.save(draft)
        await self._files.update(known.workflow_id, _hash(text))

    async def _free_path(self, client: ComfyUIClient, name: str) -> str:
        """Return a path for a workflow that no file of the editor has."""
        found = {file["path"] for file in await client.list_workflows()}
        taken = {path.casefold() for path in found | await self._files.paths()}
        stem = _UNFIT.sub("-", name)[:MAX_NAME].strip(" .-") or "workflow"
        path, number = f"{stem}.json", 2
        while path.casefold() in taken:
            path, number = f"{stem} ({number}).json", number + 1
        return path


async def _in_editors_format(workflow: dict[str, Any], machine: Machine) -> bytes:
    """Return the newest version of a workflow in the editor's format, as JSON."""
    graph = workflow["workflow"]
    if graph is None:
        graph = workflow["workflow_api"]
        definitions = await machine.definitions()
        graph = await worker.run(_to_ui, graph, definitions)
    if isinstance(graph, RawJSON):
        return graph.text
    return (await asyncio.to_thread(dumps, graph)).encode()


def _to_ui(graph: dict[str, Any], definitions: DefinitionSet) -> Any:
    return packed(api_to_ui(graph, definitions.nodes))


def _hash(text: bytes) -> str:
    return sha256(text).hexdigest()
