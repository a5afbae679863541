"""Small copies of the pictures of runs, wherever their files are."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, BinaryIO

from ..errors import ComfyDeployError, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from ..graphs.outputs import NodeFile
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from .thumbnails import Thumbnails

MAX_PICTURE = 100_000_000  # bytes of a remote picture
CHUNK = 1 << 20
AT_ONCE = 8  # open files


class Pictures:
    """Finds the pictures of runs, and makes small copies."""

    def __init__(
        self, machines: MachineRegistry, kept_outputs: KeptOutputs, thumbnails: Thumbnails
    ) -> None:
        self._machines = machines
        self._kept_outputs = kept_outputs
        self._thumbnails = thumbnails
        self._room = asyncio.Semaphore(AT_ONCE)

    async def small(self, file: NodeFile, machine_id: str, side: int) -> bytes | None:
        """Return a small copy of a picture as WebP; None if there is none, or it is damaged."""
        async with self._room:
            return await self._small(file, machine_id, side)

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
            content = bytearray()
            async for part in answer.content.iter_chunked(CHUNK):
                content += part
                if len(content) > MAX_PICTURE:
                    raise InvalidRequestError(f"{file.filename} is too large for a copy")
        return bytes(content)
