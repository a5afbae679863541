"""Makes the receipts of runs of this server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import ComfyDeployError, ConflictError, InvalidRequestError, TooLargeError
from ..receipts import MAX_SIZE, NO_CRYPTOGRAPHY, make
from ..util import worker
from ..util.system import replace_file
from .environment import FILES, environment_of, file_of

if TYPE_CHECKING:
    from pathlib import Path

    from ..machines.registry import MachineRegistry
    from ..runs.service import RunService
    from .service import Provenance

KEY_SIZE = 32  # bytes of an Ed25519 key


class Receipts:
    """Packs the record of a run with its files."""

    def __init__(
        self, folder: Path, provenance: Provenance, runs: RunService, machines: MachineRegistry
    ) -> None:
        self._key = folder / "receipt_key"
        self._provenance = provenance
        self._runs = runs
        self._machines = machines

    async def make(self, run_id: str, *, inputs: bool, sign: bool) -> bytes:
        """Return the receipt of a run as bytes.

        ConflictError as long as its record is not complete.
        """
        if sign and find_spec("cryptography") is None:
            raise InvalidRequestError.of_field("sign", f"is not possible: {NO_CRYPTOGRAPHY}")
        record = await self._provenance.record(run_id)
        if not record["complete"]:
            names = ", ".join(record["pending"]) or "everything"
            raise ConflictError(f"The record is not complete yet; still to be hashed: {names}")
        private_key = await asyncio.to_thread(self._read_key) if sign else None
        made = _Contents()
        run = await self._runs.record(run_id)
        for output in record["outputs"]:
            if "filename" in output:
                source = None
                with contextlib.suppress(ComfyDeployError):  # it was deleted: its hashes remain
                    source = await self._provenance.open_output(run, output)
                if source is not None:
                    await made.add("outputs", output["filename"], source)
        machine = self._machines.find(record["machine"])
        for file in record["inputs"] if inputs and machine is not None else ():
            assert machine is not None
            folder, name = os.path.split(file["name"].partition(" [")[0])
            opened = None
            with contextlib.suppress(ComfyDeployError):
                opened = await machine.open_file(file["folder"], folder, name)
            if opened is not None:
                await made.add("inputs", name, opened)
        outputs, files = made.files["outputs"], made.files["inputs"]
        return await worker.call(make, record, outputs, files, private_key, _environment_files)

    def _read_key(self) -> bytes:
        """Return the key of this server, which is made at its first use."""
        with contextlib.suppress(FileNotFoundError):
            return self._key.read_bytes()
        made = self._key.with_suffix(f".{os.getpid()}")
        replace_file(made, os.urandom(KEY_SIZE))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(made, self._key)
        finally:
            made.unlink()
        return self._key.read_bytes()


class _Contents:
    """The contents of files by folder and name."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {"outputs": {}, "inputs": {}}
        self._size = 0

    async def add(self, folder: str, name: str, source: Any) -> None:
        try:
            content = await asyncio.to_thread(source.read, MAX_SIZE - self._size + 1)
        finally:
            await asyncio.to_thread(source.close)
        self._size += len(content)
        if self._size > MAX_SIZE:
            raise TooLargeError(f"The files of the run have more than {MAX_SIZE >> 20} MiB")
        plain = "".join(c if c.isprintable() and c not in "\\:" else "_" for c in name)
        there, path, number = self.files[folder], PurePosixPath(plain), 1
        name = path.name or "file"
        while name in there:
            name, number = f"{path.stem}-{number}{path.suffix}", number + 1
        there[name] = content


def _environment_files(record: dict[str, Any]) -> dict[str, bytes]:
    environment = environment_of(record)
    return {name: file_of(environment, form) for form, (name, _) in FILES.items()}
