"""Assets: files and texts that have an id in the Comfy API."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

from ..store.database import Repository, reading, writing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection


@dataclass(frozen=True)
class Asset:
    """The record of an asset."""

    id: str
    created_at: str  # time, ISO 8601 in UTC
    machine: str
    # The file: its folder (``input``, ``output``, ``temp`` or ``models/<folder>``), its
    # subfolder, and its name
    kind: str
    subfolder: str
    filename: str
    size: int  # size in bytes
    content_type: str
    blake3: str | None = None
    file_path: str | None = None
    prompt_id: str | None = None  # the run and the node that have made it; None for uploads
    node_id: str | None = None
    text: str | None = None
    owned: bool = False


_NAMES = tuple(field.name for field in fields(Asset))
_COLUMNS = ", ".join(_NAMES)
_PLACE = "machine = ? AND kind = ? AND subfolder = ? AND filename = ?"


class AssetRepository(Repository):
    """Reads and writes the records of assets."""

    @writing
    def add(self, db: sqlite3.Connection, assets: Collection[Asset]) -> None:
        """Store new assets; of one that is stored already, only a size that was not known."""
        marks = ", ".join("?" * len(_NAMES))
        db.executemany(
            f"INSERT INTO assets ({_COLUMNS}) VALUES ({marks})"  # noqa: S608 - our own names
            " ON CONFLICT (id) DO UPDATE SET size = excluded.size WHERE assets.size = 0",
            [astuple(asset) for asset in assets],
        )

    @reading
    def get(self, db: sqlite3.Connection, asset_id: str) -> Asset | None:
        """Return an asset, or None if there is none or it was deleted."""
        row = db.execute(
            "SELECT * FROM assets WHERE id = ? AND NOT deleted", (asset_id,)
        ).fetchone()
        return None if row is None else _asset(row)

    async def of_runs(self, prompt_ids: Collection[str]) -> list[Asset]:
        """Return the outputs of runs that are stored as assets, also if they were deleted."""
        return await self._database.read(_of_runs, tuple(prompt_ids))

    @reading
    def of_blake3(self, db: sqlite3.Connection, blake3: str) -> list[Asset]:
        """Return the assets with this content, newest first."""
        rows = db.execute(
            "SELECT * FROM assets WHERE blake3 = ? AND NOT deleted ORDER BY position DESC",
            (blake3,),
        )
        return [_asset(row) for row in rows]

    @writing
    def delete(self, db: sqlite3.Connection, asset: Asset) -> bool:
        """Delete an asset; return whether its file is to be deleted, too.

        The record of an output stays, marked as deleted, as its run still lists it.
        """
        if asset.prompt_id is not None:
            db.execute("UPDATE assets SET deleted = 1 WHERE id = ?", (asset.id,))
        else:
            db.execute("DELETE FROM assets WHERE id = ?", (asset.id,))
        if asset.text is not None or not asset.owned:
            return False
        place = (asset.machine, asset.kind, asset.subfolder, asset.filename)
        others = db.execute(
            f"UPDATE assets SET owned = 1 WHERE {_PLACE} AND NOT deleted",  # noqa: S608 - our own
            place,
        )
        return others.rowcount == 0


def _asset(row: sqlite3.Row) -> Asset:
    return Asset(**{**{name: row[name] for name in _NAMES}, "owned": bool(row["owned"])})


def _of_runs(connection: sqlite3.Connection, prompt_ids: tuple[str, ...]) -> list[Asset]:
    marks = ", ".join("?" * len(prompt_ids))
    rows = connection.execute(
        f"SELECT * FROM assets WHERE prompt_id IN ({marks})",  # noqa: S608 - only marks are put in
        prompt_ids,
    )
    return [_asset(row) for row in rows]
