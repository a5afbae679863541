"""Small copies of the pictures of runs, wherever their files are."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import ComfyDeployError, InvalidRequestError, NotFoundError
from ..util import http

if TYPE_CHECKING:
    from ..graphs.outputs import NodeFile
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from .thumbnails import Thumbnails

MAX_PICTURE = 100_000_000  # bytes of a remote picture
AT_ONCE = 8  # open files
KEPT_BYTES = 32 * 1024 * 1024  # of small copies


class Pictures:
    """Finds the pictures of runs, and makes small copies."""

    def __init__(
        self, machines: MachineRegistry, kept_outputs: KeptOutputs, thumbnails: Thumbnails
    ) -> None:
        self._machines = machines
        self._kept_outputs = kept_outputs
        self._thumbnails = thumbnails
        self._room = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._bytes = 0

    async def small(
        self, file: NodeFile, prompt_id: str, machine_id: str, side: int
    ) -> bytes | None:
        """Return a small copy of a picture of a run as WebP; None if there is none, or damaged.

        The last ones are kept: a sheet is made again and again while pictures arrive.
        """
        key = (prompt_id, machine_id, file.type, file.subfolder, file.filename, side)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        async with self._room:
            found = await self._small(file, machine_id, side)
        if found is not None and key not in self._kept:
            self._kept[key] = found
            self._bytes += len(found)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return found

    async def _small(self, file: NodeFile, machine_id: str, side: int) -> bytes | None:
        place = file.type, file.subfolder, file.filename
        try:
            found = await self._kept_outputs.open(machine_id, *place)
            if found is None:
                found = await self._machines.get(machine_id).open_file(*place)
            if found is None:
                source: BinaryIO = io.BytesIO(await self._fetch(file, machine_id))
            else:
                source = io.BufferedReader(found)
            try:
                return await self._thumbnails.make(source, side)
            finally:
                await asyncio.to_thread(source.close)
        except ComfyDeployError:
            return None

    async def _fetch(self, file: NodeFile, machine_id: str) -> bytes:
        client = await self._machines.get(machine_id).ready()
        query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        async with client.view(query, {}) as answer:
            if answer.status != 200:
                raise NotFoundError(f"{file.filename} is not there")
            content, is_whole = await http.read(answer, MAX_PICTURE)
            if not is_whole:
                raise InvalidRequestError(f"{file.filename} is too large for a copy")
        return content
