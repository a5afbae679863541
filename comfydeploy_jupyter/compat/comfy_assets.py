"""Assets: the files of ComfyUI's folders, and the outputs of runs, by id and by hash."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import uuid
from collections import OrderedDict
from contextlib import suppress
from dataclasses import astuple, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ..comfyui.client import REPLY_TIMEOUT
from ..errors import ComfyDeployError, ComfyUIUnavailableError, NotFoundError
from ..files.uploads import copy_into, split_path
from ..graphs.outputs import files_of, texts_of
from ..store.database import Repository, reading, storable, writing
from ..util.media_types import media_type, suffix_of
from ..util.tasks import open_in_thread, wait_for
from ..util.times import utc_now
from .comfy_api import NEVER, APIError

if TYPE_CHECKING:
    import io
    import sqlite3
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from ..comfyui.folders import Folders
    from ..files.hashes import Hasher
    from ..files.uploads import StoredFile
    from ..graphs.outputs import NodeFile
    from ..machines.machine import Machine
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..runs.records import RunRecord


KEPT_RUNS = 200  # runs whose assets are kept in memory
HASHED_AT_ONCE = 64 * 1024 * 1024  # bytes of a file whose hash is computed before a reply
BINARY = "application/octet-stream"
_NAMESPACE = uuid.UUID("5b0b1f3c-6c1e-5d0e-9a53-0f4c8a1d7e42")


@dataclass(frozen=True)
class Asset:
    """The record of an asset."""

    id: str
    created_at: str  # ISO 8601, UTC
    machine: str
    kind: str  # its folder: ``input``, ``output``, ``temp`` or ``models/<folder>``
    subfolder: str
    filename: str
    size: int  # bytes
    content_type: str
    blake3: str | None = None  # hexadecimal, if known
    file_path: str | None = None  # the name that the client gave the file
    prompt_id: str | None = None  # the run and the node that have made it; None for uploads
    node_id: str | None = None
    text: str | None = None  # the content of a text output, which has no file
    owned: bool = False  # the file is deleted with the last of its assets


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

    @reading
    def of_run(self, db: sqlite3.Connection, prompt_id: str) -> list[Asset]:
        """Return the outputs of a run that are stored as assets, also if they were deleted."""
        rows = db.execute("SELECT * FROM assets WHERE prompt_id = ?", (prompt_id,))
        return [_asset(row) for row in rows]

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


class _Item(NamedTuple):
    """An output of a node: a file or a text, with the id that its asset has."""

    id: str
    node_id: str
    file: NodeFile | None
    text: str


class Outputs:
    """Makes assets of the outputs of runs, before any client gets their ids.

    The id of an output depends only on its run, its node and its file or text. So each output has
    the same id for every client, and after every restart.
    """

    def __init__(
        self, repository: AssetRepository, machines: MachineRegistry, kept_outputs: KeptOutputs
    ) -> None:
        self._repository = repository
        self._machines = machines
        self._kept_outputs = kept_outputs
        self._known: OrderedDict[str, dict[str, Asset]] = OrderedDict()

    async def of(self, record: RunRecord, outputs: dict[str, Any] | None = None) -> list[Asset]:
        """Return the assets of these outputs of a run, by node, by default all; in their order."""
        items = list(_items(record, record.outputs if outputs is None else outputs))
        if not items:
            return []
        known = self._known.get(record.prompt_id, {})
        assets = dict(known)
        if record.prompt_id not in self._known:
            stored = await self._repository.of_run(record.prompt_id)
            assets |= {asset.id: asset for asset in stored}
        missing = [item for item in items if item.id not in assets]
        unsized = {
            item.id: item.file
            for item in items
            if item.file is not None
            and item.id not in known
            and (item.id not in assets or not assets[item.id].size)
        }
        sizes = await self._sizes(record.machine, list(unsized.values()))
        size_of = dict(zip(unsized, sizes, strict=True))
        new = [_make(record, item, size_of.get(item.id)) for item in missing]
        new += [
            replace(assets[name], size=size)
            for name, size in size_of.items()
            if name in assets and size
        ]
        if new:
            await self._repository.add(new)
            assets |= {asset.id: asset for asset in new}
        known = self._known.setdefault(record.prompt_id, {})  # others may have added assets
        known |= {
            asset_id: asset
            for asset_id, asset in assets.items()
            if size_of.get(asset_id, asset.size) is not None
        }
        self._limit(record.prompt_id)
        return [assets[item.id] for item in items]

    def begin(self, record: RunRecord) -> None:
        """Note that a run is new: the store has no asset of it, so it is not asked for any."""
        self._known.setdefault(record.prompt_id, {})
        self._limit(record.prompt_id)

    def _limit(self, newest: str) -> None:
        """Forget the assets of the runs that were used least recently, if there are too many."""
        self._known.move_to_end(newest)
        while len(self._known) > KEPT_RUNS:
            self._known.popitem(last=False)

    async def _sizes(self, machine_id: str, files: list[NodeFile]) -> list[int | None]:
        if len(files) == 1:  # without a task, which would begin later
            return [await self._size(machine_id, files[0])]
        return await asyncio.gather(*(self._size(machine_id, file) for file in files))

    async def _size(self, machine_id: str, file: NodeFile) -> int | None:
        """Return the size of a file in bytes, 0 if it cannot be read, None if it is not known now.

        It is not known while ComfyUI, which has the file, is not connected or does not answer.
        """
        place = file.type, file.subfolder, file.filename
        machine = self._machines.find(machine_id)
        try:
            if self._kept_outputs.may_have(machine_id):
                opened = await self._kept_outputs.open(machine_id, *place)
                if opened is not None:
                    return await asyncio.to_thread(_size_of, opened)
            if machine is None:
                return 0
            size = await machine.file_size(*place)
            if size is None and (client := machine.reachable_client()) is not None:
                query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
                size = await wait_for(client.size(query), REPLY_TIMEOUT)
        except (ComfyUIUnavailableError, asyncio.TimeoutError):
            return None
        except ComfyDeployError:
            return 0
        return size


def _make(record: RunRecord, item: _Item, size: int | None) -> Asset:
    file = item.file
    text = None
    if file is None:
        kind, subfolder, filename = "temp", "", f"{item.id}.txt"
        text = storable(item.text)
        size, content_type = len(text.encode()), "text/plain"
    else:
        kind, subfolder, filename = map(storable, (file.type, file.subfolder, file.filename))
        content_type = media_type(filename) or BINARY
    return Asset(
        id=item.id,
        created_at=record.finished_at or utc_now(),
        machine=record.machine,
        kind=kind,
        subfolder=subfolder,
        filename=filename,
        size=size or 0,
        content_type=content_type,
        file_path=None if file is None else "/".join(filter(None, (kind, subfolder, filename))),
        prompt_id=record.prompt_id,
        node_id=storable(item.node_id),
        text=text,
        owned=file is not None and kind in ("output", "temp"),
    )


def output_of(asset: Asset, assets_url: str) -> dict[str, Any]:
    """Return the asset of an output as an output of a job."""
    return {
        "node_id": asset.node_id,
        "name": asset.filename if asset.text is None else f"{asset.node_id}.txt",
        "type": _type_of(asset),
        "content_type": asset.content_type,
        "size_bytes": asset.size,
        "id": asset.id,
        "hash": hash_of(asset),
        "url": content_url(asset, assets_url),
        "url_expires_at": NEVER,
        "job_id": asset.prompt_id,
    }


def content_url(asset: Asset, assets_url: str) -> str:
    """Return the address of the content of an asset."""
    return f"{assets_url}/{quote(asset.id, safe='')}/content"


def hash_of(asset: Asset) -> str | None:
    """Return the hash of an asset as the Comfy API writes it."""
    return None if asset.blake3 is None else f"blake3:{asset.blake3}"


def _size_of(opened: io.FileIO) -> int:
    with opened:
        return os.fstat(opened.fileno()).st_size


def _type_of(asset: Asset) -> str:
    if asset.text is not None:
        return "text"
    if suffix_of(asset.filename) == ".latent":
        return "latent"
    family = asset.content_type.partition("/")[0]
    return family if family in ("image", "video", "audio", "text") else "file"


def _items(record: RunRecord, outputs: dict[str, Any]) -> Iterator[_Item]:
    seen = set()
    for node_id, output in outputs.items():
        for file in files_of(output):
            key = (node_id, file.type, file.subfolder, file.filename)
            if key not in seen:
                seen.add(key)
                yield _Item(_id(record, *key), node_id, file, "")
        for number, text in enumerate(texts_of(output)):
            yield _Item(_id(record, node_id, str(number), text), node_id, None, text)


def _id(record: RunRecord, *parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, json.dumps([record.prompt_id, *parts])))


class Assets:
    """Finds, adds and deletes assets."""

    def __init__(
        self,
        repository: AssetRepository,
        machines: MachineRegistry,
        hasher: Hasher,
        kept_outputs: KeptOutputs,
    ) -> None:
        self._repository = repository
        self._machines = machines
        self._hasher = hasher
        self._kept_outputs = kept_outputs

    async def add(
        self, file: StoredFile, machine: Machine, *, file_path: str, content_type: str
    ) -> tuple[Asset, bool]:
        """Make an asset of a file that was uploaded; return whether its content is new, too."""
        known = await self._repository.of_blake3(file.blake3)
        same = [asset for asset in known if _place(asset) == _place_of(file, machine)]
        asset = Asset(
            id=str(uuid.uuid4()),
            created_at=utc_now(),
            machine=machine.id,
            kind=file.type,
            subfolder=file.subfolder,
            filename=file.name,
            size=file.size,
            content_type=content_type or file.content_type,
            blake3=file.blake3,
            file_path=file_path or file.name,
            owned=not file.reused or any(asset.owned for asset in same),
        )
        await self._repository.add([asset])
        return asset, not (file.reused or known)

    async def from_hash(self, blake3: str, file_path: str | None) -> Asset:
        """Make an asset of a file that the server has; APIError if it has no such file.

        ``file_path`` is the place that it is to have, by default its present one.
        """
        found = await self.find(blake3)
        if found is None:
            raise APIError("blob_not_found", f"There is no file with the hash blake3:{blake3}")
        if file_path is not None:
            kind, subfolder, name = split_path(file_path)
            is_model = kind != "input"
            if found.kind != kind or (is_model and found.subfolder != subfolder):
                found = await self._copied(found, kind, subfolder, name)
            found = replace(found, content_type=media_type(name) or found.content_type)
        asset = replace(
            found,
            id=str(uuid.uuid4()),
            created_at=utc_now(),
            file_path=file_path or found.file_path or found.filename,
            prompt_id=None,
            node_id=None,
        )
        await self._repository.add([asset])
        return asset

    async def find(self, blake3: str) -> Asset | None:
        """Return an asset whose file has this content now, or None.

        It may also be a file of this machine whose hash is cached, and which has no id yet.
        """
        for asset in await self._repository.of_blake3(blake3):
            if await self._is_unchanged(asset):
                return asset
        for path in await self._hasher.with_content(blake3):
            located = await self._at(path, blake3)
            if located is not None:
                return located
        return None

    async def get(self, asset_id: str) -> Asset:
        """Return an asset; its hash is computed if the file is small."""
        asset = await self._get(asset_id)
        if asset.blake3 is None and asset.text is None and asset.size <= HASHED_AT_ONCE:
            with suppress(ComfyDeployError):
                asset = replace(asset, blake3=await self._hash(asset))
        return asset

    async def delete(self, asset_id: str) -> None:
        """Delete an asset and, if no other one has it, its file.

        A file that existed before the upload is kept, as are files that have changed since then,
        and files on other machines, because ComfyUI has no route that deletes files.
        """
        asset = await self._get(asset_id)
        unchanged = asset.blake3 is None or await self._is_unchanged(asset)
        if not await self._repository.delete(asset) or not unchanged:
            return
        with suppress(ComfyDeployError, OSError):
            folders = await self._folders(asset.machine)
            if folders is not None:
                await asyncio.to_thread(_remove, folders, asset)

    async def open(self, asset: Asset) -> io.FileIO | None:
        """Open the file of an asset; None if it is on another machine."""
        if self._kept_outputs.may_have(asset.machine):
            kept = await self._kept_outputs.open(
                asset.machine, asset.kind, asset.subfolder, asset.filename
            )
            if kept is not None:
                return kept
        try:
            folders = await self._folders(asset.machine)
            return None if folders is None else await open_in_thread(_open, folders, asset)
        except ComfyUIUnavailableError:
            raise
        except ComfyDeployError as exc:
            raise APIError("output_unavailable", exc.message) from None

    async def name_for(self, asset_id: str, machine: Machine) -> str:
        """Return the value for a reference to an asset: the name of its file, or its text.

        A file of another machine is copied to the machine that runs the workflow.
        """
        try:
            asset = await self._get(asset_id)
            if asset.text is not None:
                return asset.text
            file = await self.open(asset)
        except APIError as exc:
            raise APIError("missing_asset", exc.message, details={"asset_id": asset_id}) from None
        if asset.machine == machine.id:
            if file is not None:
                await asyncio.to_thread(file.close)
            name = "/".join(filter(None, (asset.subfolder, asset.filename)))
            return f"{name} [{asset.kind}]" if asset.kind in ("output", "temp") else name
        return await self._name_on(asset, file, machine)

    async def _name_on(self, asset: Asset, file: io.FileIO | None, machine: Machine) -> str:
        """Copy a file to another machine; return its name there."""
        if asset.kind.startswith("models/"):
            raise APIError(
                "missing_asset",
                f"The model {asset.filename} is not on machine {machine.id!r}",
                details={"asset_id": asset.id},
            )
        source: Any = file
        if source is None:
            source = await asyncio.to_thread(tempfile.TemporaryFile)
            client = await self._machines.get(asset.machine).ready()
            await client.fetch(view_query(asset), source)
            source.seek(0)
        client = await machine.ready()
        name, subfolder = await client.upload(source, asset.filename, subfolder=asset.subfolder)
        return "/".join(filter(None, (subfolder, name)))

    async def _get(self, asset_id: str) -> Asset:
        asset = await self._repository.get(storable(asset_id))
        if asset is None:
            raise APIError("not_found", f"There is no asset {asset_id!r}")
        return asset

    async def _folders(self, machine_id: str) -> Folders | None:
        machine = self._machines.find(machine_id)
        if machine is None:
            raise NotFoundError(f"The machine {machine_id!r} does not exist any more")
        if machine.path is None:
            await machine.ready()  # only now it is known where its ComfyUI is
        folders = await machine.folders()
        return folders if folders.base is not None else None

    async def _hash(self, asset: Asset) -> str | None:
        """Return the hash of a file of this machine; None if it is on another one."""
        folders = await self._folders(asset.machine)
        if folders is None:
            return None
        path = await asyncio.to_thread(_path, folders, asset)
        return (await self._hasher.hash(folders, path, with_blake3=True)).blake3

    async def _is_unchanged(self, asset: Asset) -> bool:
        try:
            found = await self._hash(asset)
            if found is None:
                client = await self._machines.get(asset.machine).ready()
                return await client.size(view_query(asset)) == asset.size
        except ComfyDeployError:
            return False
        return found == asset.blake3

    async def _at(self, path: Path, blake3: str) -> Asset | None:
        """Return the file at a path of the default machine as an asset without an id."""
        machine = self._machines.get()
        try:
            folders = await self._folders(machine.id)
            place = None if folders is None else await asyncio.to_thread(_locate, folders, path)
            size = (await asyncio.to_thread(path.stat)).st_size
        except (ComfyDeployError, OSError):
            return None
        if place is None:
            return None
        kind, subfolder = place
        return Asset(
            id="",
            created_at=utc_now(),
            machine=machine.id,
            kind=kind,
            subfolder=subfolder,
            filename=path.name,
            size=size,
            content_type=media_type(path.name) or BINARY,
            blake3=blake3,
        )

    async def _copied(self, asset: Asset, kind: str, subfolder: str, name: str) -> Asset:
        """Return an asset with a copy of the file in another folder."""
        folders, file = await self._folders(asset.machine), await self.open(asset)
        if folders is None or file is None:
            raise APIError("blob_not_found", f"machine {asset.machine!r} has no such {kind} file")
        name = await asyncio.to_thread(copy_into, folders, file, kind, subfolder, name)
        return replace(asset, kind=kind, subfolder=subfolder, filename=name, owned=True)


def asset_of(asset: Asset, assets_url: str, *, created_new: bool | None = None) -> dict[str, Any]:
    """Return the body of the reply for an asset."""
    return {
        "id": asset.id,
        "hash": hash_of(asset),
        "size_bytes": asset.size,
        "content_type": asset.content_type,
        "file_path": asset.file_path,
        "created_new": created_new,
        "created_at": asset.created_at,
        "url": content_url(asset, assets_url),
        "url_expires_at": NEVER,
        "expires_at": None,
        "job_id": asset.prompt_id,
    }


def view_query(asset: Asset) -> dict[str, str]:
    """Return the query of ComfyUI's ``GET /view`` for the file of an asset."""
    return {"filename": asset.filename, "subfolder": asset.subfolder, "type": asset.kind}


def _place(asset: Asset) -> tuple[str, str, str, str]:
    return asset.machine, asset.kind, asset.subfolder, asset.filename


def _place_of(file: StoredFile, machine: Machine) -> tuple[str, str, str, str]:
    return machine.id, file.type, file.subfolder, file.name


def _path(folders: Folders, asset: Asset) -> Path:
    """Return the path of an asset's file, which must be in its folder."""
    top = folders.directory(asset.kind)
    path = folders.resolve(str(top / asset.subfolder / asset.filename))
    if not path.is_relative_to(top.resolve()):
        raise NotFoundError(f"The file {asset.filename} is outside the folder {asset.kind}")
    return path


def _open(folders: Folders, asset: Asset) -> io.FileIO:
    return folders.open_for_read(_path(folders, asset))


def _remove(folders: Folders, asset: Asset) -> None:
    path = _path(folders, asset)
    directory = folders.open_directory(path.parent)
    try:
        os.unlink(path.name, dir_fd=directory)
    finally:
        os.close(directory)


def _locate(folders: Folders, path: Path) -> tuple[str, str] | None:
    """Return the folder and the subfolder of a file, as `Folders.directory` names them."""
    kinds = ["input", "output", "temp"]
    kinds += [f"models/{name}" for name in folders.model_folders() if name != "custom_nodes"]
    for kind in kinds:
        top = folders.directory(kind).resolve()
        if path.is_relative_to(top):
            subfolder = path.parent.relative_to(top).as_posix()
            return kind, "" if subfolder == "." else subfolder
    return None
