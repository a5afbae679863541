"""Assets: the files of ComfyUI's folders by id and by hash."""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ComfyDeployError, ComfyUIUnavailableError, NotFoundError
from ..files.uploads import copy_into, split_path
from ..store.database import storable
from ..util.media_types import media_type
from ..util.tasks import open_in_thread
from ..util.timestamps import utc_now
from .asset_records import Asset
from .errors import APIError
from .job import NEVER
from .outputs import BINARY, content_url, hash_of

if TYPE_CHECKING:
    import io
    from pathlib import Path

    from ..comfyui.folders import Folders
    from ..files.hashes import Hasher
    from ..files.uploads import StoredFile
    from ..machines.kept_outputs import KeptOutputs
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from .asset_records import AssetRepository

HASHED_AT_ONCE = 64 * 1024 * 1024  # bytes of a file whose hash is computed before a reply


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
        """Make an asset of a file that was uploaded."""
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
        """Make an asset of a file that the server has."""
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
        except ComfyDeployError as fault:
            raise APIError("output_unavailable", fault.message) from None

    async def name_for(self, asset_id: str, machine: Machine) -> str:
        """Return the value for a reference to an asset: the name of its file, or its text.

        A file of another machine is copied to the machine that runs the workflow.
        """
        try:
            asset = await self._get(asset_id)
            if asset.text is not None:
                return asset.text
            file = await self.open(asset)
        except APIError as fault:
            raise APIError("missing_asset", fault.message, details={"asset_id": asset_id}) from None
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
