"""Stored workflows with numbered versions: in the local store, or in the ComfyDeploy service.

`LocalWorkflows` and `CloudWorkflows` have the same methods, whose results are the bodies of the
routes' replies. A workflow has ``id`` and ``workflow_id`` (the same), ``name``, ``machine_id``,
``created_at``, ``updated_at``, ``latest_version`` and ``versions``; a version has ``id``,
``workflow_id``, ``version``, ``comment``, ``created_at`` and, in some results, ``workflow`` and
``workflow_api``. Times are ISO 8601, UTC. If one does not exist, the error has status 404.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import unicodedata
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..compat.comfydeploy import iso_utc, unreadable
from ..errors import (
    CloudError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StoreUnavailableError,
)
from ..store.database import Repository, readable, reading, writing
from ..store.graphs import discard_graphs, keep_graph, read_graph
from ..util import worker
from ..util.jsons import PROCESS_ABOVE, RawJSON, dumps, loads
from ..util.times import days_ago, utc_now
from ..util.worker import parse

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from ..compat.comfydeploy import CloudAccount
    from ..store.database import Database

RESTORABLE_DAYS = 30  # how long a deleted workflow can be restored
MAX_PRESETS = 200  # of one workflow
MAX_PRESET = 1 << 20  # bytes of the values of a preset, as JSON
GRAPHS = ("workflow", "workflow_api")

# Converts a graph in UI format to API format; returns None if that is not possible now.
Convert: TypeAlias = Callable[[dict[str, Any]], Awaitable["dict[str, Any] | None"]]
_CONTENT = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Draft:
    """A workflow to be saved."""

    workflow: dict[str, Any] | None  # in UI format; at least one of the graphs is given
    workflow_api: dict[str, Any] | None
    name: str | None = None  # required for a new workflow
    workflow_id: str | None = None  # of the workflow that gets a new version
    comment: str = ""
    machine_id: str | None = None  # the machine that the workflow is made for
    force: bool = False  # create a version even if its content equals the latest one

    async def completed(self, convert: Convert | None) -> Draft:
        """Return the draft with its graph in API format, if that can be created."""
        if self.workflow_api is None and self.workflow is not None and convert is not None:
            return replace(self, workflow_api=await convert(self.workflow))
        return self


class Content:
    """The graphs of a version as JSON, with hashes that are equal for equal graphs.

    The constructor encodes megabytes: call it in a thread.
    """

    def __init__(
        self, workflow: dict[str, Any] | None, workflow_api: dict[str, Any] | None
    ) -> None:
        self.workflow, self.workflow_content = _encode(workflow)
        self.workflow_api, self.api_content = _encode(workflow_api)

    def adds_nothing_to(self, workflow_content: bytes | None, api_content: bytes | None) -> bool:
        """Return whether a version with these hashes has this content already.

        A missing graph in API format does not count as a difference: it could not be created.
        """
        if self.api_content is None and self.workflow_content is not None:
            api_content = None
        return (self.workflow_content, self.api_content) == (workflow_content, api_content)


def _encode(graph: dict[str, Any] | None) -> tuple[bytes | None, bytes | None]:
    if graph is None:
        return None, None
    try:
        content = dumps(graph, encoder=_CONTENT).encode()
        return dumps(graph).encode(), sha256(content).digest()
    except RecursionError:
        raise InvalidRequestError.of_field("workflow", "is nested too deeply") from None


# -- the local store --------------------------------------------------------------------------


@dataclass(frozen=True)
class VersionRecord:
    workflow_id: str
    version: int  # from 1, without gaps
    comment: str
    created_at: str
    workflow: bytes | None = None  # the graphs as JSON; None also if they were not requested
    workflow_api: bytes | None = None

    @property
    def id(self) -> str:
        """An id of the version itself, derived from workflow and number."""
        return version_id(self.workflow_id, self.version)

    def shown(self) -> dict[str, Any]:
        """Return the version as the routes reply it, without its graphs."""
        names = ("id", "workflow_id", "version", "comment", "created_at")
        return {name: getattr(self, name) for name in names}

    async def with_graphs(self) -> dict[str, Any]:
        """Return the version as the routes reply it; a large graph is `RawJSON`."""
        graphs = {"workflow": self.workflow, "workflow_api": self.workflow_api}
        return {**self.shown(), **{key: await _parsed(text) for key, text in graphs.items()}}


def version_id(workflow_id: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{workflow_id}/{number}"))


class Saved(NamedTuple):
    workflow: dict[str, Any]
    version: VersionRecord  # the one with the saved content, including its graphs
    created: bool  # the version is new


async def _parsed(text: bytes | None) -> Any:
    if text is None or len(text) > PROCESS_ABOVE:
        return text and RawJSON(text)
    return await parse(text)


@dataclass(frozen=True)
class Preset:
    """Named values for the inputs of a stored workflow."""

    name: str  # no other preset of the workflow has the same one, ignoring case
    inputs: dict[str, Any]  # by the keys that `inputs` of a run may have
    locked: list[str]  # the keys of the seeds that are not drawn anew for each run
    revision: str  # equal presets have equal revisions
    updated_at: str  # ISO 8601, UTC


class LocalWorkflows(Repository):
    """The workflows in the store; each change is one transaction."""

    def __init__(self, database: Database, convert: Convert | None = None) -> None:
        super().__init__(database)
        self._convert = convert

    async def save(self, draft: Draft) -> dict[str, Any]:
        """Create a workflow, or update the one whose id is in the draft.

        Return the workflow with ``version``, the number of the version with the draft's content;
        ``created``: whether the workflow is new; ``new_version``: whether the version is.
        """
        saved = await self._save(draft)
        return {
            **saved.workflow,
            "version": saved.version.version,
            "created": draft.workflow_id is None,
            "new_version": saved.created,
        }

    async def add_version(self, draft: Draft) -> dict[str, Any]:
        """Add a version to the workflow whose id is in the draft, unless the content is equal.

        Return the version with its graphs; ``created``: whether it is new.
        """
        saved = await self._save(draft)
        return {**await saved.version.with_graphs(), "created": saved.created}

    @reading
    def workflows(
        self, db: sqlite3.Connection, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return workflows, the last changed one first; ``versions`` is the number of versions.

        The name, a tag or the comment of a version contains the text, in any case.
        """
        rows = db.execute(
            "SELECT * FROM workflows WHERE deleted_at IS NULL"
            " AND (:words = '' OR instr(search, :words))"
            " ORDER BY changed DESC LIMIT :limit OFFSET :offset",
            {"words": _fold(search), "limit": limit, "offset": offset},
        )
        return readable(rows, _shown, "Workflow", "workflow_id")

    async def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with the graphs of its latest version.

        ``versions`` is a list of that version only, as in the replies of ComfyDeploy's service,
        which clients of the ComfyUI node read.
        """
        workflow, latest = await self._database.read(read_version, workflow_id)
        version = await latest.with_graphs()
        shown = {key: version[key] for key in ("version", "comment", *GRAPHS)}
        return {**workflow, **shown, "versions": [version]}

    @reading
    def name(self, db: sqlite3.Connection, workflow_id: str) -> str:
        return str(workflow_row(db, workflow_id)["name"])

    @reading
    def versions(
        self,
        db: sqlite3.Connection,
        workflow_id: str,
        *,
        search: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        """Return versions without their graphs, newest first; ``search`` is in their comments."""
        row = workflow_row(db, workflow_id)
        db.create_function("fold", 1, _fold, deterministic=True)
        rows = db.execute(
            "SELECT version, comment, created_at FROM workflow_versions"
            " WHERE workflow = :id AND (:words = '' OR instr(fold(comment), :words))"
            " ORDER BY version DESC LIMIT :limit OFFSET :offset",
            {"id": row["id"], "words": _fold(search), "limit": limit, "offset": offset},
        )
        return [VersionRecord(workflow_id, *found).shown() for found in rows]

    async def version(self, workflow_id: str, number: int | None = None) -> dict[str, Any]:
        """Return one version with its graphs, by default the latest."""
        _, record = await self._database.read(read_version, workflow_id, number)
        return await record.with_graphs()

    @reading
    def deployed(self, db: sqlite3.Connection, deployment_id: str) -> tuple[str, int | None]:
        """Return the workflow that a deployment of ComfyDeploy's SDKs runs, and the version.

        Its id is that of a workflow, whose newest version is meant (None), or of a version.
        """
        workflows = "SELECT 1 FROM workflows WHERE workflow_id = ? AND deleted_at IS NULL"
        if db.execute(workflows, (deployment_id,)).fetchone() is not None:
            return deployment_id, None
        db.create_function("version_id", 2, version_id, deterministic=True)
        found = db.execute(
            "SELECT workflows.workflow_id, version FROM workflow_versions"
            " JOIN workflows ON workflows.id = workflow AND deleted_at IS NULL"
            " WHERE version_id(workflows.workflow_id, version) = ?",
            (deployment_id,),
        ).fetchone()
        if found is None:
            text = f"there is no workflow or version {deployment_id!r}"
            raise NotFoundError.of_field("deployment_id", text, deployment_id=deployment_id)
        return found[0], found[1]

    @writing
    def change(
        self,
        db: sqlite3.Connection,
        workflow_id: str,
        name: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Rename a workflow, or replace all its tags; return it.

        Of tags that differ only in case, the first one is kept.
        """
        row = workflow_row(db, workflow_id)
        name = row["name"] if name is None else name
        known: list[str] = json.loads(row["tags"])
        first: dict[str, str] = {}
        for tag in known if tags is None else tags:
            first.setdefault(tag.casefold(), tag)
        if (name, [*first.values()]) != (row["name"], known):
            _change(db, row, name, [*first.values()], row["machine_id"])
        return _get(db, workflow_id)

    @writing
    def delete(self, db: sqlite3.Connection, workflow_id: str) -> dict[str, Any]:
        """Delete a workflow, with its versions and presets; return it.

        It can be restored for `RESTORABLE_DAYS`. Those that were deleted before that are removed.
        """
        row = workflow_row(db, workflow_id)
        outdated = db.execute(
            "SELECT id FROM workflows WHERE deleted_at < ?", (days_ago(RESTORABLE_DAYS),)
        ).fetchall()
        for (number,) in outdated:
            _remove(db, number)
        db.execute("UPDATE workflows SET deleted_at = ? WHERE id = ?", (utc_now(), row["id"]))
        return _shown(row)

    @writing
    def restore(self, db: sqlite3.Connection, workflow_id: str) -> dict[str, Any]:
        """Restore a workflow that was deleted; return it."""
        changed = db.execute(
            "UPDATE workflows SET deleted_at = NULL"
            " WHERE workflow_id = ? AND deleted_at IS NOT NULL",
            (workflow_id,),
        ).rowcount
        if not changed:
            text = f"there is no deleted workflow {workflow_id!r}"
            raise NotFoundError.of_field("workflow_id", text, workflow_id=workflow_id)
        return _get(db, workflow_id)

    @reading
    def presets(self, db: sqlite3.Connection, workflow_id: str) -> list[Preset]:
        rows = db.execute(
            "SELECT * FROM workflow_presets WHERE workflow = ? ORDER BY name_key",
            (workflow_row(db, workflow_id)["id"],),
        )
        return readable(rows, _preset, "Preset", "name")

    @writing
    def save_preset(
        self,
        db: sqlite3.Connection,
        workflow_id: str,
        name: str,
        inputs: dict[str, Any],
        locked: list[str],
        revision: str | None = None,
    ) -> Preset:
        """Store a preset, in place of the one with this name.

        With the revision that the caller has seen (``""``: no preset of this name), `ConflictError`
        if the stored preset has another one; its details have that ``preset``, or None.
        """
        content = json.dumps({"inputs": inputs, "locked": locked}, sort_keys=True)
        if len(content) > MAX_PRESET:
            raise InvalidRequestError.of_field("inputs", f"are larger than {MAX_PRESET >> 20} MiB")
        workflow = workflow_row(db, workflow_id)["id"]
        stored = _find_preset(db, workflow, name)
        new = sha256(content.encode()).hexdigest()[:16]
        if stored is None or new != stored.revision:
            _check_revision(name, stored, revision)
        if stored is None:
            (count,) = db.execute(
                "SELECT count(*) FROM workflow_presets WHERE workflow = ?", (workflow,)
            ).fetchone()
            if count >= MAX_PRESETS:
                raise InvalidRequestError.of_field(
                    "name", f"a workflow has at most {MAX_PRESETS} presets"
                )
        db.execute(
            "INSERT OR REPLACE INTO workflow_presets"
            " (workflow, name_key, name, revision, content, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (workflow, _fold(name), name, new, content, utc_now()),
        )
        saved = _find_preset(db, workflow, name)
        assert saved is not None
        return saved

    @writing
    def delete_preset(
        self, db: sqlite3.Connection, workflow_id: str, name: str, revision: str | None = None
    ) -> Preset:
        """Delete a preset, and return it; ``revision`` as in `save_preset`."""
        workflow = workflow_row(db, workflow_id)["id"]
        stored = _find_preset(db, workflow, name)
        if stored is None:
            raise NotFoundError.of_field("name", f"the workflow has no preset {name!r}", name=name)
        _check_revision(name, stored, revision)
        db.execute(
            "DELETE FROM workflow_presets WHERE workflow = ? AND name_key = ?",
            (workflow, _fold(name)),
        )
        return stored

    async def _save(self, draft: Draft) -> Saved:
        draft = await draft.completed(self._convert)
        content = await worker.run(Content, draft.workflow, draft.workflow_api)
        return await self._database.write(_store, draft, content)


def _fold(text: str) -> str:
    """Return normalised text for searches: one line, case-folded, in normal form NFKC."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _head_line(name: str, tags: Iterable[str]) -> str:
    """Return the first line of the column ``search``; no search matches across its tabs."""
    return "\t".join(map(_fold, (name, *tags)))


def _store(connection: sqlite3.Connection, draft: Draft, content: Content) -> Saved:
    """Store the values of a draft, and its graphs if they differ from the latest version."""
    if draft.workflow_id is None:
        now, workflow_id, name = utc_now(), str(uuid.uuid4()), draft.name or ""
        change, search = _next_change(connection), _head_line(name, ())
        connection.execute(
            "INSERT INTO workflows (workflow_id, name, machine_id, latest_version, created_at,"
            " updated_at, changed, search) VALUES (?, ?, ?, 0, ?, ?, ?, ?)",
            (workflow_id, name, draft.machine_id, now, now, change, search),
        )
        row = workflow_row(connection, workflow_id)
        created = True
    else:
        row = workflow_row(connection, draft.workflow_id)
        name = row["name"] if draft.name is None else draft.name
        machine_id = row["machine_id"] if draft.machine_id is None else draft.machine_id
        created = draft.force or not _is_latest(connection, row, content)
        if created or (name, machine_id) != (row["name"], row["machine_id"]):
            now = _change(connection, row, name, json.loads(row["tags"]), machine_id)
    if created:
        version = _add_version(connection, row, content, draft.comment, now)
    else:
        version = _version(connection, row, row["latest_version"])
    return Saved(_get(connection, row["workflow_id"]), version, created)


def _change(
    connection: sqlite3.Connection,
    row: sqlite3.Row,
    name: str,
    tags: list[str],
    machine_id: str | None,
) -> str:
    """Store the values of a workflow, as the newest change of all; return its time."""
    now = utc_now()
    comments = row["search"].partition("\n")[1:]
    search = "".join([_head_line(name, tags), *comments])
    connection.execute(
        "UPDATE workflows SET name = ?, tags = ?, machine_id = ?, search = ?, updated_at = ?,"
        " changed = ? WHERE id = ?",
        (
            *(name, json.dumps(tags, ensure_ascii=False), machine_id, search, now),
            *(_next_change(connection), row["id"]),
        ),
    )
    return now


def _add_version(
    connection: sqlite3.Connection, row: sqlite3.Row, content: Content, comment: str, now: str
) -> VersionRecord:
    number = row["latest_version"] + 1
    hashes = [
        None if body is None else keep_graph(connection, body)
        for body in (content.workflow, content.workflow_api)
    ]
    connection.execute(
        "INSERT INTO workflow_versions (workflow, version, workflow_hash, workflow_content,"
        " api_hash, api_content, comment, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(row["id"], number, hashes[0], content.workflow_content),
            *(hashes[1], content.api_content, comment, now),
        ),
    )
    words = _fold(comment)
    connection.execute(
        "UPDATE workflows SET latest_version = :number,"
        " search = CASE WHEN instr(search, :line) THEN search ELSE search || :line END"
        " WHERE id = :id",
        {"number": number, "line": f"\n{words}" if words else "", "id": row["id"]},
    )
    return VersionRecord(
        row["workflow_id"], number, comment, now, content.workflow, content.workflow_api
    )


def _is_latest(connection: sqlite3.Connection, row: sqlite3.Row, content: Content) -> bool:
    latest = connection.execute(
        "SELECT workflow_content, api_content FROM workflow_versions"
        " WHERE workflow = ? AND version = ?",
        (row["id"], row["latest_version"]),
    ).fetchone()
    return content.adds_nothing_to(latest["workflow_content"], latest["api_content"])


def _get(connection: sqlite3.Connection, workflow_id: str) -> dict[str, Any]:
    return _shown(workflow_row(connection, workflow_id))


def read_version(
    connection: sqlite3.Connection, workflow_id: str, number: int | None = None
) -> tuple[dict[str, Any], VersionRecord]:
    row = workflow_row(connection, workflow_id)
    number = row["latest_version"] if number is None else number
    return _shown(row), _version(connection, row, number)


def _version(connection: sqlite3.Connection, row: sqlite3.Row, number: int) -> VersionRecord:
    found = connection.execute(
        "SELECT version, comment, created_at, ui.body AS workflow, api.body AS workflow_api"
        " FROM workflow_versions LEFT JOIN graphs ui ON ui.hash = workflow_hash"
        " LEFT JOIN graphs api ON api.hash = api_hash WHERE workflow = ? AND version = ?",
        (row["id"], min(number, row["latest_version"] + 1)),
    ).fetchone()
    if found is None:
        latest = row["latest_version"]
        text = f"the workflow {row['name']!r} has no version {number}"
        raise NotFoundError.of_field("version", text, version=number, latest_version=latest)
    graphs = read_graph(found["workflow"]), read_graph(found["workflow_api"])
    if graphs.count(None) > (found["workflow"], found["workflow_api"]).count(None):
        raise StoreUnavailableError(
            f"Version {number} of the workflow {row['name']!r} cannot be read from the store",
            details={"reason": "damaged"},
        )
    return VersionRecord(
        row["workflow_id"], found["version"], found["comment"], found["created_at"], *graphs
    )


def workflow_row(connection: sqlite3.Connection, workflow_id: str) -> sqlite3.Row:
    """Return the row of a workflow that is not deleted."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM workflows WHERE workflow_id = ? AND deleted_at IS NULL", (workflow_id,)
    ).fetchone()
    if row is None:
        text = f"there is no workflow {workflow_id!r}"
        raise NotFoundError.of_field("workflow_id", text, workflow_id=workflow_id)
    return row


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    """Return a workflow as the routes reply it; versions are numbered from 1, without gaps."""
    names = ("workflow_id", "name", "machine_id", "latest_version", "created_at", "updated_at")
    found = {name: row[name] for name in names}
    facts = {"tags": json.loads(row["tags"]), "versions": row["latest_version"]}
    return {"id": row["workflow_id"], **found, **facts}


def _next_change(connection: sqlite3.Connection) -> int:
    (latest,) = connection.execute("SELECT max(changed) FROM workflows").fetchone()
    return (latest or 0) + 1


def _remove(connection: sqlite3.Connection, number: int) -> None:
    """Delete a workflow permanently, with its presets, versions, and unused graphs."""
    hashes = connection.execute(
        "SELECT workflow_hash, api_hash FROM workflow_versions WHERE workflow = ?", (number,)
    ).fetchall()
    for table in ("edited_files", "workflow_presets", "workflow_versions"):
        query = f"DELETE FROM {table} WHERE workflow = ?"  # noqa: S608 - its own names
        connection.execute(query, (number,))
    connection.execute("DELETE FROM workflows WHERE id = ?", (number,))
    discard_graphs(connection, {digest for row in hashes for digest in row})


def _check_revision(name: str, stored: Preset | None, revision: str | None) -> None:
    known = "" if stored is None else stored.revision
    if revision is None or revision == known:
        return
    happened = "has been deleted" if stored is None else "has changed"
    text, preset = f"the preset {name!r} {happened} in the meantime", stored and vars(stored)
    raise ConflictError.of_field("revision", text, preset=preset)


def _find_preset(connection: sqlite3.Connection, workflow: int, name: str) -> Preset | None:
    row = connection.execute(
        "SELECT * FROM workflow_presets WHERE workflow = ? AND name_key = ?",
        (workflow, _fold(name)),
    ).fetchone()
    return None if row is None else _preset(row)


def _preset(row: sqlite3.Row) -> Preset:
    content = json.loads(row["content"])
    return Preset(
        row["name"], content["inputs"], content["locked"], row["revision"], row["updated_at"]
    )


# -- the ComfyDeploy service ------------------------------------------------------------------


class CloudWorkflows:
    """The workflows in the ComfyDeploy service.

    Further fields of the service's replies (``pinned``, ``user_name``, …) are passed on. Its lists
    do not contain the number of versions: ``latest_version`` and ``versions`` are None there. It
    cannot rename a workflow: the ``name`` of a draft is used for a new workflow only.
    """

    def __init__(self, account: CloudAccount, convert: Convert | None = None) -> None:
        self._account = account
        self._convert = convert

    async def save(self, draft: Draft) -> dict[str, Any]:
        """Create a workflow, or add a version to the one whose id is in the draft."""
        draft = await draft.completed(self._convert)
        if draft.workflow_id is None:
            return await self._create(draft)
        found = await self.workflow(draft.workflow_id)
        new = draft.force or not await _is_newest(draft, found)
        if new:
            version = await self._add(draft)
            found["latest_version"] = found["version"] = version["version"]
            found["updated_at"] = version["created_at"] or found["updated_at"]
        hidden = (*GRAPHS, "comment")
        summary = {key: value for key, value in found.items() if key not in hidden}
        summary |= {"versions": found["latest_version"], "created": False, "new_version": new}
        return summary

    async def add_version(self, draft: Draft) -> dict[str, Any]:
        """Add a version to the workflow whose id is in the draft, even if its content is equal."""
        return {**await self._add(await draft.completed(self._convert)), "created": True}

    async def workflows(
        self, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return workflows in the order of the service; the service searches in their names."""
        rows = await self._account.get(
            "workflows", search=search or None, limit=limit, offset=offset
        )
        return [_cloud_workflow(row) for row in _rows(rows, "workflows")]

    async def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with the graphs of its latest version."""
        row = await self._account.get("workflow", workflow_id, limit=1)
        if not isinstance(row, dict):
            raise unreadable("workflow")
        rows = _rows(row.get("versions") or [], "workflow")
        versions = [await _cloud_version(found) for found in rows[:1]]
        latest = versions[0] if versions else {}
        return {
            **_cloud_workflow(row),
            **{key: latest.get(key) for key in ("version", "comment", *GRAPHS)},
            "latest_version": latest.get("version"),
            "versions": versions,
        }

    async def versions(
        self, workflow_id: str, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        rows = await self._account.get(
            "workflow", workflow_id, "versions", search=search or None, limit=limit, offset=offset
        )
        return [_cloud_summary(row) for row in _rows(rows, "versions")]

    async def version(self, workflow_id: str, number: int | None = None) -> dict[str, Any]:
        """Return one version with its graphs, by default the latest."""
        if number is None:
            versions: list[dict[str, Any]] = (await self.workflow(workflow_id))["versions"]
        else:
            row = await self._account.get("workflow", workflow_id, "version", number)
            versions = [await _cloud_version(found) for found in _rows([row], "version")]
        if not versions:
            raise NotFoundError.of_field("version", "the workflow has no such version")
        return versions[0]

    async def _create(self, draft: Draft) -> dict[str, Any]:
        workflow = _needed(draft.workflow, "workflow")
        graphs = {"workflow_json": workflow, "workflow_api": draft.workflow_api}
        texts = await asyncio.to_thread(
            lambda: {k: None if g is None else dumps(g) for k, g in graphs.items()}
        )
        body = {"name": draft.name, **texts, "machine_id": draft.machine_id}
        answer = await self._account.post(
            "workflow", body={key: value for key, value in body.items() if value is not None}
        )
        workflow_id = answer.get("workflow_id") if isinstance(answer, dict) else None
        if not isinstance(workflow_id, str):
            raise unreadable("the new workflow")
        machine_id = answer.get("machine_id")
        row = {"id": workflow_id, "name": draft.name, "selected_machine_id": machine_id}
        # The workflow exists now: failing to read its times must not look like a failure to save.
        with contextlib.suppress(CloudError):
            row = {**row, **(await self._account.get("workflow", workflow_id, limit=1))}
        row.pop("versions", None)
        first = {"latest_version": 1, "versions": 1, "version": 1}
        return {**_cloud_workflow(row), **first, "created": True, "new_version": True}

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
        return await _cloud_version({**body, **row})


def _needed(graph: dict[str, Any] | None, field: str) -> dict[str, Any]:
    if graph is None:
        kind = "the editor's" if field == "workflow" else "API"
        raise InvalidRequestError.of_field(
            field, f"ComfyDeploy needs the graph in {kind} format too"
        )
    return graph


async def _is_newest(draft: Draft, found: dict[str, Any]) -> bool:
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


def _cloud_workflow(row: dict[str, Any]) -> dict[str, Any]:
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


def _cloud_summary(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in row.items() if key not in GRAPHS}
    times = {key: iso_utc(row.get(key)) for key in ("created_at", "updated_at")}
    times = {key: time for key, time in times.items() if key in ("created_at", *row)}
    return {**kept, **times, "comment": row.get("comment") or ""}


async def _cloud_version(row: dict[str, Any]) -> dict[str, Any]:
    """Return a version with its graphs, which the service sometimes returns as JSON text."""
    graphs = await asyncio.to_thread(lambda: {key: _graph(row.get(key)) for key in GRAPHS})
    return {**_cloud_summary(row), **graphs}


def _graph(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, (dict, RawJSON)) else None
