"""Assets: the files of ComfyUI's folders, and the outputs of runs, by id and by hash."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import uuid
from collections import OrderedDict
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any
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
    from ..machines.machine import Machine
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..runs.records import RunRecord


KEPT_RUNS = 200  # runs whose assets are kept in memory
HASHED_AT_ONCE = 64 * 1024 * 1024  # bytes of a file whose hash is computed before a reply
BINARY = "application/octet-stream"
_NAMESPACE = uuid.UUID("5b0b1f3c-6c1e-5d0e-9a53-0f4c8a1d7e42")


@dataclass(frozen=True, kw_only=True)
class Asset:
    """The record of an asset."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: str = field(default_factory=utc_now)  # ISO 8601, UTC
    machine: str
    kind: str  # its folder: ``input``, ``output``, ``temp`` or ``models/<folder>``
    subfolder: str
    filename: str
    size: int = 0  # bytes
    content_type: str
    blake3: str | None = None  # hexadecimal, if known
    file_path: str | None = None  # the name that the client gave the file
    prompt_id: str | None = None  # the run and the node that have made it; None for uploads
    node_id: str | None = None
    text: str | None = None  # the content of a text output, which has no file
    owned: bool = False  # the file is deleted with the last of its assets

    @property
    def place(self) -> tuple[str, str, str]:
        """The place of the file on its machine: folder, subfolder and name."""
        return self.kind, self.subfolder, self.filename

    def view_query(self) -> dict[str, str]:
        """Return the query of ComfyUI's ``GET /view`` for the file."""
        return dict(zip(("type", "subfolder", "filename"), self.place, strict=True))

    def to_reply(self, root: str, *, created_new: bool | None = None) -> dict[str, Any]:
        """Return the body of the reply for an asset; ``root`` is the address of the Comfy API."""
        return {
            **self._described(root),
            "file_path": self.file_path,
            "created_new": created_new,
            "created_at": self.created_at,
            "expires_at": None,
        }

    def to_output(self, root: str) -> dict[str, Any]:
        """Return an output as one of its job."""
        return {
            **self._described(root),
            "node_id": self.node_id,
            "name": self.filename if self.text is None else f"{self.node_id}.txt",
            "type": self._type(),
        }

    def _type(self) -> str:
        if suffix_of(self.filename) == ".latent":
            return "latent"
        family = self.content_type.partition("/")[0]
        return family if family in ("image", "video", "audio", "text") else "file"

    def _described(self, root: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "hash": None if self.blake3 is None else f"blake3:{self.blake3}",
            "size_bytes": self.size,
            "content_type": self.content_type,
            "url": f"{root}/assets/{quote(self.id, safe='')}/content",
            "url_expires_at": NEVER,
            "job_id": self.prompt_id,
        }


_NAMES = tuple(field.name for field in fields(Asset))
_COLUMNS = ", ".join(_NAMES)


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
        return next(iter(_select(db, "id = ? AND NOT deleted", asset_id)), None)

    @reading
    def of_run(self, db: sqlite3.Connection, prompt_id: str) -> list[Asset]:
        """Return the outputs of a run that are stored as assets, also if they were deleted."""
        return _select(db, "prompt_id = ?", prompt_id)

    @reading
    def of_blake3(self, db: sqlite3.Connection, blake3: str) -> list[Asset]:
        """Return the assets with this content, newest first."""
        return _select(db, "blake3 = ? AND NOT deleted ORDER BY position DESC", blake3)

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
        others = db.execute(
            "UPDATE assets SET owned = 1 WHERE machine = ? AND kind = ? AND subfolder = ?"
            " AND filename = ? AND NOT deleted",
            (asset.machine, *asset.place),
        )
        return others.rowcount == 0


def _select(db: sqlite3.Connection, condition: str, value: str) -> list[Asset]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM assets WHERE {condition}", (value,))  # noqa: S608 - our own
    return [Asset(**{**dict(row), "owned": bool(row["owned"])}) for row in rows]


class Assets:
    """Finds, adds and deletes assets, and makes them of the outputs of runs.

    The id of an output depends only on its run, its node and its file or text. So each output has
    the same id for every client, and after every restart.
    """

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
        self._of_runs: OrderedDict[str, dict[str, Asset]] = OrderedDict()

    def begin(self, prompt_id: str) -> dict[str, Asset]:
        """Return the assets of a run that are in memory; of a new run, the store has no others."""
        known = self._of_runs.setdefault(prompt_id, {})
        self._of_runs.move_to_end(prompt_id)
        while len(self._of_runs) > KEPT_RUNS:  # those that were used least recently
            self._of_runs.popitem(last=False)
        return known

    async def of_run(self, record: RunRecord, outputs: dict[str, Any] | None = None) -> list[Asset]:
        """Return the assets of these outputs of a run, by node, by default all; in their order."""
        made = list(_outputs(record, record.outputs if outputs is None else outputs))
        if not made:
            return []
        known = self._of_runs.get(record.prompt_id)
        assets = dict(known or {})
        if known is None:
            stored = await self._repository.of_run(record.prompt_id)
            assets |= {asset.id: asset for asset in stored}
        unsized = [
            asset
            for asset in made
            if asset.text is None
            and asset.id not in (known or {})
            and not assets.get(asset.id, asset).size
        ]
        found = await asyncio.gather(*map(self._size, unsized))
        sizes = dict(zip((asset.id for asset in unsized), found, strict=True))
        new = [
            replace(assets.get(asset.id, asset), size=sizes.get(asset.id) or asset.size)
            for asset in made
            if asset.id not in assets or sizes.get(asset.id)
        ]
        if new:
            await self._repository.add(new)
            assets |= {asset.id: asset for asset in new}
        self.begin(record.prompt_id).update(  # others may have added assets
            (asset_id, asset)
            for asset_id, asset in assets.items()
            if sizes.get(asset_id, asset.size) is not None
        )
        return [assets[asset.id] for asset in made]

    async def _size(self, asset: Asset) -> int | None:
        """Return the size of a file in bytes, 0 if it cannot be read, None if it is not known now.

        It is not known while ComfyUI, which has the file, is not connected or does not answer.
        """
        machine = self._machines.find(asset.machine)
        try:
            if (kept := await self._kept(asset)) is not None:
                return await asyncio.to_thread(_size_of, kept)
            if machine is None:
                return 0
            size = await machine.file_size(*asset.place)
            if size is None and (client := machine.reachable_client()) is not None:
                size = await wait_for(client.size(asset.view_query()), REPLY_TIMEOUT)
        except (ComfyUIUnavailableError, asyncio.TimeoutError):
            return None
        except ComfyDeployError:
            return 0
        return size

    async def _kept(self, asset: Asset) -> io.FileIO | None:
        """Open the copy of an output whose machine has ended, if there is one."""
        source = self._kept_outputs.copies(asset.machine)
        return await open_in_thread(source.open, *asset.place) if source.copies else None

    async def add(
        self, file: StoredFile, machine: Machine, *, file_path: str, content_type: str
    ) -> tuple[Asset, bool]:
        """Make an asset of a file that was uploaded; return whether its content is new, too."""
        known = await self._repository.of_blake3(file.blake3)
        place = machine.id, file.type, file.subfolder, file.name
        owned = any(other.owned and (other.machine, *other.place) == place for other in known)
        asset = Asset(
            machine=machine.id,
            kind=file.type,
            subfolder=file.subfolder,
            filename=file.name,
            size=file.size,
            content_type=content_type or file.content_type,
            blake3=file.blake3,
            file_path=file_path or file.name,
            owned=owned or not file.reused,
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

        It may also be a file of this machine whose hash is cached, and which is not stored.
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
        if (kept := await self._kept(asset)) is not None:
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
        if file is None:
            source = await asyncio.to_thread(tempfile.TemporaryFile)
            client = await self._machines.get(asset.machine).ready()
            await client.fetch(asset.view_query(), source)
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
                return await client.size(asset.view_query()) == asset.size
        except ComfyDeployError:
            return False
        return found == asset.blake3

    async def _at(self, path: Path, blake3: str) -> Asset | None:
        """Return the file at a path of the default machine as an asset that is not stored."""
        machine = self._machines.get()
        try:
            folders = await self._folders(machine.id)
            place = None if folders is None else await asyncio.to_thread(_locate, folders, path)
            size = (await asyncio.to_thread(path.stat)).st_size
        except (ComfyDeployError, OSError):
            return None
        if place is None:
            return None
        return Asset(
            machine=machine.id,
            kind=place[0],
            subfolder=place[1],
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


def _outputs(record: RunRecord, outputs: dict[str, Any]) -> Iterator[Asset]:
    """Yield outputs of a run as assets; the sizes of files are 0."""
    made = partial(
        Asset,
        created_at=record.finished_at or utc_now(),
        machine=record.machine,
        prompt_id=record.prompt_id,
    )
    for node_id, output in outputs.items():
        node = storable(node_id)
        places = ((file.type, file.subfolder, file.filename) for file in files_of(output))
        for place in dict.fromkeys(places):
            kind, subfolder, filename = map(storable, place)
            yield made(
                id=_id(record, node_id, *place),
                kind=kind,
                subfolder=subfolder,
                filename=filename,
                content_type=media_type(filename) or BINARY,
                file_path="/".join(filter(None, (kind, subfolder, filename))),
                node_id=node,
                owned=kind in ("output", "temp"),
            )
        for number, text in enumerate(texts_of(output)):
            asset_id, content = _id(record, node_id, str(number), text), storable(text)
            yield made(
                id=asset_id,
                kind="temp",
                subfolder="",
                filename=f"{asset_id}.txt",
                size=len(content.encode()),
                content_type="text/plain",
                node_id=node,
                text=content,
            )


def _id(record: RunRecord, *parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, json.dumps([record.prompt_id, *parts])))


def _size_of(opened: io.FileIO) -> int:
    with opened:
        return os.fstat(opened.fileno()).st_size


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
