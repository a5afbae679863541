"""With what each run was made: found out after its end, with low priority.

What may change soon is noted first: which files its graph names, and their states. The hashes of
large files are computed once nothing runs. A file that was changed before that has no hash, and a
run whose server ended is marked: the record never says more than what is known.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import math
import os
import re
import shutil
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from .._version import __version__
from ..errors import (
    ComfyDeployError,
    ConflictError,
    ForbiddenPathError,
    NoSpaceError,
    NotFoundError,
    StoreUnavailableError,
)
from ..files.hashes import FileKey
from ..files.pictures import picture_of
from ..files.thumbnails import SIDE
from ..graphs.models import model_links
from ..graphs.outputs import files_of, keyed_texts
from ..machines.hardware import gpus_of_driver, system_stats
from ..machines.outputs import FileSource
from ..receipts import RECORD_FORMAT, redacted
from ..util import jsons, worker
from ..util.jsons import loads
from ..util.secrets import clean_arguments, clean_url
from ..util.tasks import BackgroundTasks, wait_until_set
from ..util.times import timestamp_of, utc_now
from .content import Decoded, decode, text_content
from .facts import named_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..comfyui.folders import Folders
    from ..files.hashes import Hasher
    from ..files.pictures import Pictures, RunPicture
    from ..machines.machine import Machine
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..runs.active import ActiveRuns
    from ..runs.feed import RunEvent
    from ..runs.records import RunRecord
    from ..runs.run import Run
    from ..snapshots.environment import Environment as SnapshotEnvironment
    from ..snapshots.service import Snapshots
    from ..store.session import Session
    from ..transfers.queue import Transfers
    from .facts import Named
    from .records import ProvenanceRepository, Row, Stored, Wanted

log = logging.getLogger(__name__)

GATHER = 0.5  # seconds in which ended runs are collected, and in which none may begin or end
LAG = 5.0  # seconds at most until the record of a run is begun while runs follow each other
LOOK_INTERVAL = 30.0  # seconds between two looks without a reason
AT_ONCE = 32  # runs
SMALL = 64 * 1024 * 1024  # bytes of a file that is hashed although something runs
MAX_DECODED = 256 * 1024 * 1024  # bytes of a file that is decoded
PORTION = 32 * 1024 * 1024  # bytes of files that one worker process decodes
ABSENT = "it is not there"
OUTSIDE = "it is a link to a file outside of ComfyUI's folders, which extra_roots does not allow"
APPROXIMATE = "vae_approx"  # the folder of small VAEs
CHANGED = "it was changed after the run had ended"
REPLACED = "its file was replaced or removed since ComfyUI had loaded it"
UNCERTAIN = "ComfyUI had it in memory, perhaps from before its file was changed"
MAX_PACK_FILES = 5000
MAX_PACK_SIZE = 200_000_000  # bytes
_CUDA = re.compile(r"\+cu(\d+)(\d)$")  # at the end of torch's version


class Output(io.BytesIO):
    """A file that a run has made: hashes what is written, and keeps it if it can be decoded."""

    def __init__(
        self, record: RunRecord, entry: dict[str, Any], picture: RunPicture | None
    ) -> None:
        super().__init__()
        self.record = record
        self.entry = entry  # of the record that users get; has the place of the file
        self.picture = picture  # of which a small copy is to be kept
        self._digest, self._size = hashlib.sha256(), 0

    def write(self, chunk: Any) -> int:
        self._digest.update(chunk)
        self._size += len(chunk)
        return super().write(chunk) if self._size <= MAX_DECODED else len(chunk)

    def note(self) -> list[Output]:
        """Note size and hash; return the file if it is to be decoded."""
        self.entry |= {"size": self._size, "sha256": self._digest.hexdigest()}
        if self._size <= MAX_DECODED:
            return [self]
        reason = f"it is larger than {MAX_DECODED >> 20} MiB, so it was not decoded"
        self.entry["reason"] = reason
        return []


@dataclass
class Environment:
    """What the process of a ComfyUI executes: it is read once, as soon as it is connected."""

    system: dict[str, Any]  # the object that the connection has made
    started: str | None  # when the process began, as far as that is known
    body: dict[str, Any]
    # The models that it has loaded: the states of their files, and their entries in a record.
    loaded: dict[tuple[str | None, str], tuple[Any, dict[str, Any]]] = field(default_factory=dict)
    before: Environment | None = None  # that of the process before it

    def at(self, time: str) -> Environment | None:
        """Return this or the one before it, which was there at a time, if that is known."""
        found: Environment | None = self
        while found is not None and (found.started or "") > time:
            found = found.before
        return found


class Executed(NamedTuple):
    """A run whose prompt is to be looked at."""

    prompt: bytes
    body: dict[str, Any]  # its record
    started: str = ""
    cached: frozenset[str] = frozenset()  # nodes that were not executed
    environment: Environment | None = None


class Provenance:
    """Notes with what each run was made."""

    def __init__(
        self,
        repository: ProvenanceRepository,
        machines: MachineRegistry,
        hasher: Hasher,
        snapshots: Snapshots,
        kept_outputs: KeptOutputs,
        pictures: Pictures,
        active: ActiveRuns,
        session: Session,
        transfers: Transfers,
    ) -> None:
        self._repository = repository
        self._machines = machines
        self._hasher = hasher
        self._snapshots = snapshots
        self._kept_outputs = kept_outputs
        self._pictures = pictures
        self._active = active
        self._session = session
        self._transfers = transfers
        self._environments: dict[str, Environment] = {}
        self._reading = defaultdict[str, asyncio.Lock](asyncio.Lock)  # by machine
        self._connected = asyncio.Event()
        self._wake = asyncio.Event()
        self._read = asyncio.Event()  # somebody waits for a record
        self._ended = asyncio.Event()
        self._ends = 0
        self._noted = asyncio.Event()
        self._tasks = BackgroundTasks(log)

    def open(self) -> None:
        self._active.follow(self._run_ended, "status")
        self._machines.connected = self._connected.set
        self._connected.set()
        self._wake.set()
        self._tasks.keep(self._read_environments, "Reading what ComfyUIs execute")
        self._tasks.keep(self._note_runs, "Noting with what runs were made")
        self._tasks.keep(self._hash_files, "Hashing the files of runs")

    async def close(self) -> None:
        await self._tasks.close()

    async def record(self, prompt_id: str) -> dict[str, Any]:
        """Return the record of a run; NotFoundError if there is no such run, or it runs."""
        stored = await self._repository.get(prompt_id)
        if stored is None:
            raise NotFoundError(f"There is no run {prompt_id!r}")
        if not stored.record.finished:
            raise ConflictError(
                "A run has its record once it has ended",
                details={"prompt_id": prompt_id, "status": stored.record.status},
            )
        if stored.state == "wanted":
            self._wake.set()  # no event tells of a run of ComfyUI's editor
            self._read.set()
        return await worker.run(shown, stored)

    async def shown(self, prompt_id: str) -> dict[str, Any]:
        """Return the record of a run without secrets, with the places of what was hidden."""
        record = await self.record(prompt_id)
        found, hidden = await asyncio.to_thread(redacted, record, paths=False)
        return {**found, "redacted": hidden}

    async def look(self, machine: Machine, record: dict[str, Any]) -> dict[str, Any]:
        """Return with what the graph of a record would be executed on a machine now."""
        environment = (await self._environment(machine)).body
        body: dict[str, Any] = {"models": [], "inputs": []}
        prompt = jsons.dumps(record["prompt"]).encode()
        await self._note_names(machine, [Executed(prompt, body)])
        await self._hash(machine, body)
        return _made_with(environment, body)

    # -- noting --------------------------------------------------------------------------------

    def _run_ended(self, _run: Run, _event: RunEvent) -> None:
        self._ends += 1
        self._wake.set()
        self._ended.set()

    async def _note_runs(self) -> None:
        while True:
            await wait_until_set(self._wake, LOOK_INTERVAL)
            self._wake.clear()
            await self._until_quiet()
            after = 0
            while found := await self._wanted("wanted", after):
                after = found[-1].number
                try:
                    await self._note(found)
                except Exception:  # one of them must not keep the others waiting
                    for run in found:
                        await self._give_up_unless(self._note([run]), run)
                if len(found) < AT_ONCE:
                    break  # those that ended meanwhile are gathered, too

    async def _until_quiet(self) -> None:
        """Wait until no run begins or ends, at most for `LAG`, unless somebody waits for a record.

        What is noted competes with the next run for the processors and the interpreter lock.
        """
        clock = asyncio.get_running_loop().time
        latest, before = clock() + LAG, None
        while clock() < latest and before != (now := (self._ends, len(self._active))):
            before = now
            if await wait_until_set(self._read, min(GATHER, latest - clock())):
                break
        self._read.clear()

    async def _give_up_unless(self, work: Awaitable[None], run: Wanted) -> None:
        """Do something for a record; if that fails for another reason than the store, end it."""
        try:
            await work
        except (NoSpaceError, StoreUnavailableError):
            raise
        except Exception as error:
            log.exception("The record of run %s is not complete", run.record.prompt_id)
            reason = f"the rest could not be found out: {type(error).__name__}"
            notes = [*run.body.get("notes", ()), reason]
            body = {"noted_at": utc_now(), **run.body, **_without_states(run.body), "notes": notes}
            await self._repository.keep([(run.number, "complete", body, None)])

    async def _wanted(self, state: Any, after: int) -> list[Wanted]:
        sessions = self._session.claimed
        return await self._repository.wanted(state, sessions, AT_ONCE, after)

    async def _note(self, runs: Sequence[Wanted]) -> None:
        noted: list[tuple[Wanted, dict[str, Any], dict[str, Any] | None]] = []
        prompts = defaultdict[str, list[Executed]](list)  # by machine
        for run in runs:
            record, environment = run.record, None
            body: dict[str, Any] = {"noted_at": utc_now(), "models": [], "inputs": [], "notes": []}
            if record.session != self._session.id and not record.from_editor:
                body["notes"].append("Jupyter ended before this was noted")
            machine = self._machines.find(record.machine)
            if machine is None:
                body["notes"].append(f"the machine {record.machine!r} was removed before that")
            elif record.started_at is not None and run.prompt is not None:
                environment = (await self._environment(machine)).at(record.started_at)
                if environment is None:
                    body["notes"].append("ComfyUI was restarted before this was noted")
                cached = frozenset(record.cached_nodes)
                prompts[machine.id].append(
                    Executed(run.prompt, body, record.started_at, cached, environment)
                )
            noted.append((run, body, environment.body if environment is not None else None))
        for machine_id, found in prompts.items():
            await self._note_names(self._machines.get(machine_id), found)
        await self._note_outputs([(run.record, body) for run, body, _ in noted])
        for run, body, _ in noted:
            await self._hash(self._machines.find(run.record.machine), body, largest=SMALL)
        await self._keep([(run.number, body, shared) for run, body, shared in noted])

    async def _read_environments(self) -> None:
        """Read what a ComfyUI executes as soon as it is connected, before it is changed on disk."""
        while True:
            await wait_until_set(self._connected, LOOK_INTERVAL)
            self._connected.clear()
            await asyncio.sleep(GATHER)
            for machine in [*self._machines]:
                if machine.connected:
                    try:
                        await self._environment(machine)
                    except Exception:  # the others are read nevertheless
                        log.exception("What machine %r executes could not be read", machine.id)

    async def _environment(self, machine: Machine) -> Environment:
        """Return the present environment of a ComfyUI.

        A lost connection changes nothing, if the process is known and is the same one.
        """
        async with self._reading[machine.id]:
            session = machine.session
            system = session.system if session is not None else {}
            found = self._environments.get(machine.id)
            if found is None or found.system is not system:
                began = await self._snapshots.started(machine)
                started = timestamp_of(began) if began is not None else None
                if found is not None and started is not None and started == found.started:
                    found.system = system
                else:
                    if found is not None:
                        found.before = None
                    body = await self._read_environment(machine)
                    found = Environment(system, started, body, before=found)
                    self._environments[machine.id] = found
            return found

    async def _read_environment(self, machine: Machine) -> dict[str, Any]:
        stats = await system_stats(machine)
        system = stats.get("system") or machine.system
        found = await self._snapshots.versions(machine)
        comfyui: dict[str, Any] = {"version": None, "commit": None}
        if found is not None and found.snapshot.comfyui is not None:
            comfyui = found.snapshot.comfyui.model_dump()
        comfyui["version"] = comfyui["version"] or system.get("comfyui_version")
        comfyui["launch_args"] = clean_arguments(machine.launch_args)
        here = found is not None and found.here
        gpus = await asyncio.to_thread(gpus_of_driver) if here else []
        built = _CUDA.search(system.get("pytorch_version") or "")
        return {
            "comfyui": comfyui,
            "python": system.get("python_version"),
            "torch": system.get("pytorch_version"),
            "cuda": f"{built[1]}.{built[2]}" if built else None,
            "os": system.get("os"),
            "devices": [
                {name: device.get(name) for name in ("name", "type", "vram_total")}
                for device in stats.get("devices") or ()
                if isinstance(device, dict)
            ],
            "driver": next((gpu["driver"] for gpu in gpus), None),
            **python_packages(found, system),
            "node_packs": None if found is None else await asyncio.to_thread(_packs, found),
            "comfydeploy_jupyter": __version__,
            "warnings": [] if found is None else found.warnings,
        }

    async def _note_names(self, machine: Machine, prompts: Sequence[Executed]) -> None:
        """Note what prompts name."""
        definitions, folders = await machine.definitions(), await machine.folders(search=False)
        large = [each for each in prompts if len(each.prompt) > jsons.PROCESS_ABOVE]
        named = {id(each): await worker.call(named_in, each.prompt, definitions) for each in large}

        def look() -> None:
            for each in prompts:
                found = named.get(id(each)) or named_in(each.prompt, definitions)
                each.body["node_packs"], each.body["unknown_classes"] = found.packs, found.unknown
                if folders.base is not None:
                    _look_at(folders, found, each)
                else:
                    _unseen(found, each.body)

        await asyncio.to_thread(look)

    async def _note_outputs(self, runs: Sequence[tuple[RunRecord, dict[str, Any]]]) -> None:
        left = deque[Output]()
        for record, body in runs:
            body["outputs"] = entries = []
            shown = None if record.batch is None else picture_of(record)  # on the sheet
            for node_id, output in record.outputs.items():
                entries += [
                    {"node_id": node_id, "key": key, "content": text_content(text)._asdict()}
                    for key, text in keyed_texts(output)
                ]
                for file in files_of(output):
                    entry: dict[str, Any] = {
                        "node_id": node_id,
                        "type": file.type,
                        "subfolder": file.subfolder,
                        "filename": file.filename,
                        "content": None,
                    }
                    entries.append(entry)
                    picture = shown if shown is not None and file == shown.file else None
                    left.append(Output(record, entry, picture))
        machines = {output.record.machine for output in left}
        sources = {machine: await self._kept_outputs.source(machine) for machine in machines}
        waiting: list[Output] = []
        while left:
            if sources[left[0].record.machine] != FileSource():
                waiting += await asyncio.to_thread(_read_here, left, sources)
            if left and _size(waiting) <= PORTION:
                waiting += await self._read_there(left.popleft())
            if waiting and (not left or _size(waiting) > PORTION):
                await self._decode(waiting)
                waiting = []

    async def _decode(self, waiting: Sequence[Output]) -> None:
        files = [(o.entry["filename"], o.getvalue(), o.picture is not None) for o in waiting]
        try:
            found = await worker.call_later(decode, files)
        except ComfyDeployError as error:  # the process was killed
            found = [Decoded(None, error.message)] * len(waiting)
        copies: dict[str, bytes | None] = {}
        for output, decoded in zip(waiting, found, strict=True):
            output.entry["content"] = decoded.content
            if decoded.reason:
                output.entry["reason"] = decoded.reason
            if output.picture is not None:
                copies[output.picture.prompt_id] = decoded.copy
        if copies:
            await self._pictures.keep(copies, SIDE)

    async def _read_there(self, output: Output) -> list[Output]:
        """Read a file that its ComfyUI has to be asked for, and note what it is."""
        try:
            await self._fetch(output.record, output.entry, output)
        except ComfyDeployError as error:
            output.entry["reason"] = error.message
            return []
        return output.note()

    async def open_output(self, record: RunRecord, output: Mapping[str, str]) -> BinaryIO:
        """Open an output of a run, wherever it is; `ComfyDeployError` if it is not there.

        ``output`` has the place of the file, as in the records of runs.
        """
        found = await self._kept_outputs.open_file(record.machine, *_place(output))
        if found is not None:
            return io.BufferedReader(found)
        await self._fetch(record, output, content := io.BytesIO())
        content.seek(0)
        return content

    async def _fetch(
        self, record: RunRecord, output: Mapping[str, str], content: io.BytesIO
    ) -> None:
        client = await self._machines.get(record.machine).ready()
        query = dict(zip(("type", "subfolder", "filename"), _place(output), strict=True))
        await client.fetch(query, content, MAX_DECODED)

    # -- hashing -------------------------------------------------------------------------------

    async def _hash_files(self) -> None:
        """Hash the large files of runs while nothing runs."""
        while True:
            after = 0
            while found := await self._wanted("pending", after):
                after = found[-1].number
                for run in found:
                    await self._until_idle()
                    await self._give_up_unless(self._complete(run), run)
            await wait_until_set(self._noted, LOOK_INTERVAL)
            self._noted.clear()

    async def _until_idle(self) -> None:
        while any(self._active.by_status().values()):
            self._ended.clear()
            await wait_until_set(self._ended, LOOK_INTERVAL)

    async def _complete(self, run: Wanted) -> None:
        await self._hash(self._machines.find(run.record.machine), run.body)
        await self._keep([(run.number, run.body, None)])

    async def _hash(
        self, machine: Machine | None, body: dict[str, Any], largest: float = math.inf
    ) -> None:
        """Hash the files of a record that have at most so many bytes."""
        for entry in _files(body):
            if "state" not in entry or entry["size"] > largest:
                continue
            key, found = FileKey(**entry.pop("state")), None
            if machine is not None:
                with suppress(ComfyDeployError, OSError):
                    folders = await machine.folders(search=False)
                    found = await self._hasher.in_state(folders, key)
            if found is None:
                entry["reason"] = "it was changed or removed before it could be hashed"
            else:
                entry["sha256"] = found

    async def _keep(
        self, found: Sequence[tuple[int, dict[str, Any], dict[str, Any] | None]]
    ) -> None:
        """Store records: the numbers of their runs, what is known, and the environments."""
        models = [entry for _, body, _ in found for entry in body.get("models", ())]
        unknown = {entry["sha256"]: entry for entry in models if "sha256" in entry}
        sources = await self._transfers.sources(unknown) if unknown else {}
        for entry in models:
            if entry.get("sha256") in sources:
                entry["url"] = sources[entry["sha256"]]
        rows: list[Row] = []
        for number, body, environment in found:
            pending = any("state" in entry for entry in _files(body))
            rows.append((number, "pending" if pending else "complete", body, environment))
        await self._repository.keep(rows)
        if any(state == "pending" for _, state, _, _ in rows):
            self._noted.set()


def python_packages(found: SnapshotEnvironment | None, system: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of Python packages, and from where those are that pip's index lacks."""
    if found is None:  # newer ComfyUIs tell the versions of their own packages
        listed = system.get("comfy_package_versions")
        told = [each for each in listed or () if isinstance(each, dict)]
        own = {
            str(each.get("name")): str(each["installed"]) for each in told if each.get("installed")
        }
        return {"packages": own or None}
    python, needs = found.snapshot.python, found.needs
    versions = found.versions or {each.name: each.version or "unknown" for each in python.packages}
    base = set(needs.get("", ())) if needs is not None else set()
    if needs is not None:
        needs = {k: [n for n in names if k == "" or n not in base] for k, names in needs.items()}
        wanted = {name for names in needs.values() for name in names}
        versions = {name: version for name, version in versions.items() if name in wanted}
    sources = {
        each.name: each.requirement
        for each in python.packages
        if each.name in versions and each.requirement != f"{each.name}=={each.version}"
    }
    return {
        "packages": versions or None,
        "package_sources": sources,
        "package_indexes": python.indexes,
        "needs": needs,
    }


def _packs(found: SnapshotEnvironment) -> list[dict[str, Any]]:
    """Return the enabled packs, with a hash of their files if no commit or version tells them."""
    packs = []
    for node in found.snapshot.custom_nodes:
        if not node.disabled:
            packs.append(pack := node.model_dump(exclude_none=True, exclude={"disabled"}))
            if node.name in found.node_sources and (node.kind == "files" or node.modified):
                pack["sha256"] = _hash_of_tree(found.node_sources[node.name])
    return packs


def _hash_of_tree(root: Path) -> str | None:
    """Return a hash of the names and contents of all files of a pack; None if it is too large."""
    digest, count, size = hashlib.sha256(), 0, 0
    files = [root] if root.is_file() else sorted(root.rglob("*"))
    for file in files:
        name = file.relative_to(root).as_posix()
        if {"__pycache__", ".git"} & set(file.parts) or not file.is_file():
            continue
        with suppress(OSError):
            count, size = count + 1, size + file.stat().st_size
            if count > MAX_PACK_FILES or size > MAX_PACK_SIZE:
                return None
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{name} {content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return models and input files of a record; one with a ``state`` has no hash yet."""
    return [*body.get("models", ()), *body.get("inputs", ())]


def _without_states(body: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        kind: [{k: v for k, v in entry.items() if k != "state"} for entry in body.get(kind, ())]
        for kind in ("models", "inputs")
    }


def _place(output: Mapping[str, str]) -> tuple[str, str, str]:
    return output["type"], output["subfolder"], output["filename"]


def _read_here(left: deque[Output], sources: Mapping[str, FileSource]) -> list[Output]:
    """Read the next files, until one is not here, or a portion is read; note what they are."""
    found: list[Output] = []
    while left and _size(found) <= PORTION:
        output = left[0]
        place, ended = sources[output.record.machine], output.record.finished_at
        try:
            source = place.open(*_place(output.entry))
            if source is None:
                break
            with source:
                shutil.copyfileobj(source, output, 1 << 20)
                changed = timestamp_of(os.fstat(source.fileno()).st_mtime)
            if ended is not None and changed > ended and not place.copies:  # these are made later
                output.entry["note"] = CHANGED
        except ComfyDeployError as error:
            output.entry["reason"] = error.message
        except OSError as error:
            output.entry["reason"] = f"it cannot be read: {error.strerror}"
        else:
            found += output.note()
        left.popleft()
    return found


def _size(waiting: Sequence[Output]) -> int:
    return sum(output.tell() for output in waiting)


def _unseen(named: Named, body: dict[str, Any]) -> None:
    reason = "its folder is not on this computer"
    body["models"] = [{"folder": f, "name": n, "reason": reason} for f, n in named.models]
    body["inputs"] = [{"folder": f, "name": n, "reason": reason} for f, n in named.files]


def _look_at(folders: Folders, named: Named, run: Executed) -> None:
    """Note the states of the files that a prompt names."""
    body, started = run.body, run.started
    for (folder, name), nodes in [*named.models.items(), *named.perhaps.items()]:
        where = [folder] if folder is not None else list(folders.model_folders())
        paths = ((each, path / name) for each in where for path in _paths(folders, each))
        entry = _entry(folders, folder, name, paths, started)
        if "state" not in entry and (folder, name) in named.perhaps:
            continue  # it is only a text
        parts = _parts(folders, name) if folder == "vae" and entry.get("reason") == ABSENT else ()
        entries = [_entry(folders, *part, started) for part in parts] or [entry]
        for each in entries:
            key = each["folder"], each["name"]
            body["models"].append(_loaded(each, key, run, cached=nodes <= run.cached))
    for folder, name in named.files:
        entry = _entry(folders, folder, name, [(folder, folders.directory(folder) / name)], started)
        if "state" in entry:  # else it is a text that only looks like the name of a file
            body["inputs"].append(entry)


def _parts(folders: Folders, name: str) -> Iterator[tuple[str, str, list[tuple[str, Path]]]]:
    """Yield the files of a small VAE, such as ``taesd``, whose name is that of no file."""
    for kind in ("encoder", "decoder"):
        for folder in _paths(folders, APPROXIMATE):
            for path in sorted(folder.glob(f"{escape(name)}_{kind}.*")):
                yield APPROXIMATE, path.name, [(APPROXIMATE, path)]


def _loaded(
    entry: dict[str, Any], model: tuple[str | None, str], run: Executed, *, cached: bool
) -> dict[str, Any]:
    """Return the entry of a model: what is in memory, if the nodes that name it were cached."""
    if run.environment is None:
        return entry
    loaded, state = run.environment.loaded, entry.get("state")
    before = loaded.get(model)
    if not cached and "note" in entry:
        loaded.pop(model, None)
    elif not cached:
        loaded[model] = state, entry
    elif before is not None and before[0] != state:
        return {**before[1], "note": REPLACED}
    elif before is None and state is not None:
        changed = timestamp_of(state["ctime_ns"] / 1e9)
        if changed > (run.environment.started or changed):
            return {**entry, "note": UNCERTAIN}
    return entry


def _paths(folders: Folders, name: str) -> Sequence[Path]:
    with suppress(NotFoundError):
        return folders.model_folder(name).paths
    return ()


def _entry(
    folders: Folders, folder: str | None, name: str, paths: Any, started: str
) -> dict[str, Any]:
    found: dict[str, Any] = {"folder": folder, "name": name}
    reason = ABSENT
    for where, path in paths:
        for spelling in _spellings(where, path):
            try:
                real = folders.resolve(str(spelling))
                status = real.stat()
            except (ComfyDeployError, OSError) as error:
                if isinstance(error, ForbiddenPathError) and spelling.is_file():
                    reason = OUTSIDE
                elif spelling.is_dir():
                    reason = "it is a folder, whose files are not hashed"
                continue
            found |= {"folder": where, "size": status.st_size}
            if spelling.name != path.name:
                found["file"] = spelling.name
            found["state"] = vars(FileKey.of(real, status))
            if started and timestamp_of(status.st_mtime) > started:
                found["note"] = "it was changed after the run had begun"
            return found
    return found | {"reason": reason}


def _spellings(where: str, path: Path) -> Iterator[Path]:
    yield path
    if where in ("embeddings", "loras"):  # texts may name them without their suffixes
        yield from (path.with_name(path.name + end) for end in (".safetensors", ".pt", ".bin"))


# -- the record -------------------------------------------------------------------------------


def shown(stored: Stored) -> dict[str, Any]:
    """Return the record of a run, as users get it."""
    record, body = stored.record, stored.body
    workflow = None if stored.workflow is None else loads(stored.workflow)
    return {
        "format": RECORD_FORMAT,
        "prompt_id": record.prompt_id,
        "status": record.status,
        "machine": record.machine,
        "created_at": record.created_at,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "execution_time": record.execution_time,
        "workflow_id": record.workflow_id,
        "version": record.version,
        "seeds": record.seeds,
        "cached_nodes": record.cached_nodes,
        "noted_at": body.get("noted_at"),
        "complete": stored.state == "complete",
        "pending": [entry["name"] for entry in _files(body) if "state" in entry],
        **_made_with(stored.environment or {}, body, workflow),
        "outputs": body.get("outputs", []),
        "notes": [*body.get("notes", []), *_unknown(stored.environment)],
        "prompt": None if stored.prompt is None else loads(stored.prompt),
        "workflow": workflow,
    }


def _made_with(
    environment: dict[str, Any], body: dict[str, Any], workflow: object = None
) -> dict[str, Any]:
    # By the names that ComfyUI gives the modules of packs in folders or files.
    packs = {p["name"].removesuffix(".py"): p for p in environment.get("node_packs") or ()}
    used: dict[str, list[str]] = body.get("node_packs") or {}
    shown = {k: v for k, v in environment.items() if k not in ("node_packs", "needs")}
    if (needs := environment.get("needs")) is not None:
        names = {"", *(packs[name]["name"] for name in used if name in packs)}
        wanted = {package for name in names for package in needs.get(name, ())}
        for key in ("packages", "package_sources"):
            shown[key] = {k: v for k, v in (shown[key] or {}).items() if k in wanted}
    files = _without_states(body)
    links = model_links(workflow) if files["models"] else {}
    for entry in files["models"]:
        listed = links.get(PurePosixPath(entry["name"].replace("\\", "/")).name)
        if "url" not in entry and listed is not None and listed.fits(entry.get("sha256")):
            entry["url"] = clean_url(listed.url or "")
    return {
        "environment": shown or None,
        "node_packs": [
            {**packs.get(name, {"name": name, "reason": "it is not known"}), "classes": classes}
            for name, classes in used.items()
        ],
        "unknown_classes": body.get("unknown_classes", []),
        **files,
    }


def _unknown(environment: dict[str, Any] | None) -> list[str]:
    """Return what is not known of an environment, in words."""
    if environment is None or environment.get("packages"):
        return []
    return ["the versions of its Python packages are not known, but for Python and torch"]
