"""Small copies of the pictures of runs, wherever their files are."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ComfyDeployError, NoSpaceError, StoreUnavailableError
from ..graphs.outputs import files_of
from ..store.database import Repository, reading, writing
from ..util import worker
from ..util.media_types import is_hdr, is_picture
from .thumbnails import small_copies

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ..graphs.outputs import NodeFile
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..runs.records import RunRecord
    from ..store.database import Database

MAX_PICTURE = 100_000_000  # bytes of a remote picture
AT_ONCE = 8  # remote pictures
PORTION = 200  # remote pictures that are on the disk at a time
KEPT = 5000  # small copies, each of about 10 kB


class RunPicture(NamedTuple):
    """The picture that stands for a run."""

    prompt_id: str
    machine: str
    file: NodeFile


def picture_of(record: RunRecord) -> RunPicture | None:
    """Return the picture that stands for a run; a saved one is preferred."""
    if record.status != "success":
        return None
    files = [file for output in record.outputs.values() for file in files_of(output)]
    shown = [file for file in files if is_picture(file.filename) or is_hdr(file.filename)]
    shown.sort(key=lambda file: (file.type != "output", is_hdr(file.filename)))
    return RunPicture(record.prompt_id, record.machine, shown[0]) if shown else None


class Pictures(Repository):
    """Makes small copies of the pictures of runs, in worker processes, as JPEG or WebP.

    The last ones are stored: a sheet is made again and again while pictures arrive, and after a
    restart. Those of points are made when the outputs of their runs are read for the record
    (`proofs`).
    """

    def __init__(
        self, database: Database, machines: MachineRegistry, kept_outputs: KeptOutputs
    ) -> None:
        super().__init__(database)
        self._machines = machines
        self._kept_outputs = kept_outputs
        self._room = asyncio.Semaphore(AT_ONCE)

    async def small(
        self, pictures: Sequence[RunPicture | None], side: int, *, keep: bool = True
    ) -> list[bytes | None]:
        """Return copies that are small, but not below a side, if the pictures are not.

        None for a picture that is not there, or damaged. Without ``keep`` none is stored: those of
        more pictures than there is room for would only replace each other.
        """
        wanted = dict.fromkeys(filter(None, pictures))
        found: dict[str, bytes | None] = {}
        found |= await self._kept([picture.prompt_id for picture in wanted], side)
        missing = [picture for picture in wanted if picture.prompt_id not in found]
        if missing:
            made = await self._make(missing, side)
            found |= made
            if keep:
                await self.keep(made, side)
        return [None if picture is None else found[picture.prompt_id] for picture in pictures]

    async def keep(self, copies: Mapping[str, bytes | None], side: int) -> None:
        """Store the small copies of the pictures of runs; larger ones replace smaller ones."""
        with suppress(NoSpaceError, StoreUnavailableError):  # they can be made again
            await self._keep(copies, side)

    @writing
    def _keep(self, db: sqlite3.Connection, copies: Mapping[str, bytes | None], side: int) -> None:
        db.executemany(
            "INSERT OR REPLACE INTO run_pictures (run, side, content) SELECT runs.id, ?1, ?2"
            " FROM runs LEFT JOIN run_pictures ON run = runs.id"
            " WHERE prompt_id = ?3 AND coalesce(side, 0) < ?1",
            [(side, copy, run_id) for run_id, copy in copies.items() if copy is not None],
        )
        db.execute(
            "DELETE FROM run_pictures WHERE id <= (SELECT max(id) FROM run_pictures) - ?", (KEPT,)
        )

    @reading
    def _kept(
        self, db: sqlite3.Connection, prompt_ids: Collection[str], side: int
    ) -> dict[str, bytes]:
        rows = db.execute(
            "SELECT prompt_id, content FROM json_each(?) JOIN runs ON prompt_id = value"
            " JOIN run_pictures ON run = runs.id WHERE side >= ?",
            (json.dumps([*prompt_ids]), side),
        )
        return dict(map(tuple, rows))

    async def _make(self, pictures: Sequence[RunPicture], side: int) -> dict[str, bytes | None]:
        """Return copies by the ids of their runs."""
        machines = {picture.machine for picture in pictures}
        sources = {machine: await self._kept_outputs.source(machine) for machine in machines}
        openers = [
            partial(sources[machine].open, file.type, file.subfolder, file.filename)
            for _, machine, file in pictures
        ]
        made = await worker.call(small_copies, openers, side)
        here = [*zip(pictures, made, strict=True)]
        remote = [picture for picture, copy in here if copy is False]
        found = {picture.prompt_id: copy or None for picture, copy in here}
        for start in range(0, len(remote), PORTION):
            some = remote[start : start + PORTION]
            copies = await self._of_remote(some, side)
            found |= zip((each.prompt_id for each in some), copies, strict=True)
        return found

    async def _of_remote(self, pictures: Sequence[RunPicture], side: int) -> list[bytes | None]:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp))
        try:
            openers = await asyncio.gather(
                *(self._fetch(each, folder / str(place)) for place, each in enumerate(pictures))
            )
            return [copy or None for copy in await worker.call(small_copies, openers, side)]
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _fetch(self, picture: RunPicture, path: Path) -> Callable[[], io.FileIO | None]:
        """Write a picture to a file; the file is not complete if that is not possible."""
        _, machine, file = picture
        query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        with suppress(ComfyDeployError, OSError):
            async with self._room:
                client, content = await self._machines.get(machine).ready(), io.BytesIO()
                await client.fetch(query, content, MAX_PICTURE)
                await asyncio.to_thread(path.write_bytes, content.getbuffer())
        return partial(io.FileIO, path)
