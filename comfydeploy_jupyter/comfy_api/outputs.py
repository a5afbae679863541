"""The outputs of runs as assets."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ..comfyui.client import REPLY_TIMEOUT
from ..errors import ComfyDeployError, ComfyUIUnavailableError
from ..graphs.node_outputs import files_of, texts_of
from ..store.database import storable
from ..util.media_types import media_type, suffix_of
from ..util.tasks import wait_for
from ..util.timestamps import utc_now
from .asset_records import Asset
from .job import NEVER

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Sequence

    from ..graphs.node_outputs import NodeFile
    from ..machines.kept_outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..runs.records import RunRecord
    from .asset_records import AssetRepository

KEPT_RUNS = 200  # runs whose assets are kept in memory
BINARY = "application/octet-stream"
_NAMESPACE = uuid.UUID("5b0b1f3c-6c1e-5d0e-9a53-0f4c8a1d7e42")


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
        """Return the assets of a run's outputs, in the order of its outputs."""
        items = list(_items(record, record.outputs if outputs is None else outputs))
        if not items:
            return []
        known = self._known.get(record.prompt_id, {})
        assets = dict(known)
        if record.prompt_id not in self._known:
            stored = await self._repository.of_runs([record.prompt_id])
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


def outputs_of(assets: Sequence[Asset], assets_url: str) -> list[dict[str, Any]]:
    """Return the assets of a run's outputs as outputs of its job."""
    return [output_of(asset, assets_url) for asset in assets]


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
