"""Whether a run can be made again: it is executed once more, and the two records are compared.

The repetition is an ordinary run with the label `LABEL`, so it survives restarts like any other,
and the result is made from the two records alone. With ``nodes`` there are two repetitions, which
also keep the pictures between the nodes: the first node whose pictures differ is the cause.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import re
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PromptInvalidError,
    RunTimeoutError,
)
from ..graphs.formats import class_of, node_label, title_of
from ..graphs.outline import run_order
from ..graphs.outputs import NodeFile
from ..machines.hardware import free_memory_of
from ..receipts import checked_record
from ..request_models import RunRequest
from ..runs.records import RunFilter
from ..runs.shown import shown_file
from ..util import worker
from ..util.secrets import with_options
from ..util.tasks import BackgroundTasks
from .content import UndecodedError, compare, difference_picture

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ..comfyui.definitions import DefinitionSet
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..runs.records import RunRecord, RunRepository
    from ..runs.run import Run
    from ..runs.service import RunService
    from .service import Provenance

log = logging.getLogger(__name__)

LABEL = "verifies"  # the id of the run that a repetition repeats
PART = "verification"  # ``1`` and ``2`` with ``nodes``
TAP = "verify."  # begins the ids of nodes that keep the pictures between the others
KEPT_RESULTS = 32
ATTEMPTS = 3  # repetitions for which ComfyUI has used its caches
MAX_COMPARED = 256 * 1024 * 1024  # bytes of a file whose difference is measured
Record = dict[str, Any]


class Verifier:
    """Repeats runs, and compares what was made."""

    def __init__(
        self,
        provenance: Provenance,
        runs: RunService,
        repository: RunRepository,
        machines: MachineRegistry,
    ) -> None:
        self._provenance = provenance
        self._runs = runs
        self._machines = machines
        self._repository = repository
        self._results: OrderedDict[tuple[str, ...], dict[str, Any]] = OrderedDict()
        self._at_work = set[str]()  # the runs that are being repeated
        self._tasks = BackgroundTasks(log)

    async def close(self) -> None:
        await self._tasks.close()

    async def begin(
        self,
        run_id: str,
        *,
        record: Record | None = None,
        machine_id: str | None,
        execute: bool,
        nodes: bool,
    ) -> dict[str, Any]:
        """Say what is different here; then execute the run once more.

        ``record``: that of a run of another computer. ConflictError if it is not possible now: the
        run has not ended, or the machine works.
        """
        before = record or await self.record(run_id)
        elsewhere = record is not None  # where machines may have the same names
        if elsewhere:
            _check_executed(before)
        place = machine_id or (None if elsewhere else before["machine"])
        machine = await self._idle_member(place, before["machine"])
        await machine.ready()
        after = await self._provenance.look(machine, before)
        found: dict[str, Any] = {"differences": [*differences(before, after)], "prompt_id": None}
        if execute:
            found["prompt_id"] = await self.repeat(run_id, before, machine, nodes=nodes)
        return {"success": True, **found}

    async def record(self, run_id: str) -> Record:
        """Return the record of a run of this server; ConflictError if it was never executed."""
        record = await self._provenance.record(run_id)
        _check_executed(record)
        return record

    async def repeat(
        self, run_id: str, before: Record, machine: Machine, *, nodes: bool
    ) -> str | None:
        """Execute the run of a record once more, on a machine that is idle; return the new id.

        If ComfyUI refuses it, because a file is missing for example, this is a failed run.
        """
        request = RunRequest.model_validate(
            {
                "workflow_api": before["prompt"],
                "workflow": before["workflow"],
                "machine": machine.id,
                "seed_mode": "saved",
                "metadata": {LABEL: run_id},
            }
        )
        if nodes:
            taps = with_taps(before["prompt"], await machine.definitions())
            update = {"workflow_api": taps, "metadata": {LABEL: run_id, PART: "1"}}
            request = request.model_copy(update=update)
        if run_id in self._at_work:
            raise ConflictError("the run is being repeated already")
        try:
            repetition = await self._repeat(machine, request)
        except PromptInvalidError as error:
            refused: str | None = error.extra.get("prompt_id")
            return refused
        self._at_work.add(run_id)
        self._tasks.start(
            self._follow(repetition, machine, request, nodes=nodes),
            "Repeating a run",
            when_done=lambda: self._at_work.discard(run_id),
        )
        return repetition.prompt_id

    def members(self, place: str | None, first: str) -> list[Machine]:
        """Return the machines on which a run may be repeated; that which has made it is first."""
        machine, pool = self._runs.destination(place)
        if pool is None:
            return [machine]
        members = self._machines.members(pool)
        if not members:
            raise NotFoundError(f"The pool {pool.id!r} has no machine")
        return sorted(members, key=lambda member: member.id != first)

    async def _idle_member(self, place: str | None, first: str) -> Machine:
        """Return a machine, or of a pool a member that executes nothing, else any."""
        members = self.members(place, first)
        for member in members if len(members) > 1 else ():
            with suppress(ComfyUIUnavailableError, RunTimeoutError):
                if await self.is_idle(member):
                    return member
        return members[0]

    async def is_idle(self, machine: Machine) -> bool:
        """Return whether a machine executes nothing, and nothing waits for it."""
        client = await machine.ready()
        active = self._runs.active.by_status()
        ours = any(count for (place, _), count in active.items() if place == machine.id)
        return not ours and not await client.queue_remaining()

    async def _repeat(self, machine: Machine, request: RunRequest) -> Run:
        """Empty the caches of an idle ComfyUI, and queue a run."""
        if not await self.is_idle(machine):
            raise ConflictError(
                f"Not now: the caches of the machine {machine.id!r} can be emptied only while it"
                " executes nothing",
                details={"machine": machine.id},
            )
        if (await free_memory_of(machine))["pending"]:
            raise ConflictError(
                f"Not now: another prompt came before the run could be repeated on {machine.id!r}",
                details={"machine": machine.id},
            )
        try:
            return await self._runs.submit(request)
        except InvalidRequestError as error:
            if error.details.get("field") != "workflow" or request.workflow is None:
                raise
            # The editor's graph was another one than ComfyUI executed, which counts here.
            return await self._runs.submit(request.model_copy(update={"workflow": None}))

    async def _follow(
        self, run: Run, machine: Machine, request: RunRequest, *, nodes: bool
    ) -> None:
        """Repeat a run until its caches were empty, and with ``nodes`` once more after that."""
        for part in ("1", "2") if nodes else (None,):
            if part == "2":
                labels = {**(request.metadata or {}), PART: part}
                request = request.model_copy(update={"metadata": labels})
                run = await self._repeat(machine, request)
            await run.ended.wait()
            for _ in range(ATTEMPTS):
                if not run.record.cached_nodes or run.record.status != "success":
                    break
                # ComfyUI had the prompt before it emptied its caches, which it does in between.
                run = await self._repeat(machine, request)
                await run.ended.wait()

    # -- the result ----------------------------------------------------------------------------

    async def result(self, run_id: str, record: Record | None = None) -> dict[str, Any]:
        """Return the result of the newest repetition of a run; NotFoundError if there is none.

        ``record``: as for `begin`.
        """
        found = await self._repetitions(run_id)
        if not found:
            raise NotFoundError(f"The run {run_id!r} was not repeated")
        wanted = [run for run in found if run is not None]
        first, second = found
        state = {
            "prompt_id": first.prompt_id,
            "second_id": second.prompt_id if second is not None else None,
        }
        key = (run_id, *(run.prompt_id for run in wanted))
        known = self._results.get(key)
        if known is None:
            running = {**state, "state": "running", **_NOTHING}
            if run_id in self._at_work or not all(run.finished for run in wanted):
                return running
            before = record or await self._provenance.record(run_id)
            made = [await self._provenance.record(run.prompt_id) for run in wanted]
            records = [before, *made]
            if not all(record["complete"] for record in records):
                return running
            known = self._results[key] = await self._compare(records, is_here=record is None)
            while len(self._results) > KEPT_RESULTS:
                self._results.popitem(last=False)
        return {**state, "state": "done", **known}

    async def newest(self, run_id: str) -> RunRecord | None:
        """Return the newest repetition of a run."""
        found = await self._repetitions(run_id)
        return None if found is None else found[1] or found[0]

    async def _repetitions(self, run_id: str) -> tuple[RunRecord, RunRecord | None] | None:
        """Return the newest repetition, and with ``nodes`` the second one of the same request."""
        which = RunFilter(metadata={LABEL: run_id})
        newest = await self._repository.newest(limit=2, which=which)
        if not newest:
            return None
        if newest[0].metadata.get(PART) == "2" and len(newest) == 2:
            return newest[1], newest[0]
        return newest[0], None

    async def _compare(self, records: Sequence[Record], *, is_here: bool) -> dict[str, Any]:
        """Compare a run, which was made here or elsewhere, with its repetitions."""
        before, first = records[:2]
        notes = [*before["notes"], *first["notes"]]
        about = before.get("receipt") or {"redacted": []}
        if hidden := [each for each in about["redacted"] if each.startswith("/prompt/")]:
            notes.append(f"the receipt hides values of the graph: {', '.join(hidden)}")
        outputs, first_different, cannot = list[dict[str, Any]](), None, None
        if first["status"] != "success":
            record = await self._runs.record(first["prompt_id"])
            reason = (record.error or {}).get("message") or f"it was {first['status']}"
            cannot = f"the repetition failed: {reason}"
        elif first["cached_nodes"]:
            cannot = "ComfyUI took nodes from its cache, so they were not executed again"
        if cannot is not None:
            outputs = [{**_named(output), "reason": cannot} for output in before["outputs"]]
        else:
            prompts = before["prompt_id"], first["prompt_id"]
            for output, other in pairs(before, first):
                found = await self._output(prompts, output, other)
                found["reason"] = found["reason"] or output.get("note", "")
                if found["share"] is not None and other is not None:
                    found["before"] = _shown(output, before) if is_here else None
                    found["after"] = _shown(other, first)
                outputs.append(found)
            if len(records) > 2:
                first_different = first_different_node(first, records[2])
            elif any(node_id.startswith(TAP) for node_id in first["prompt"]):
                notes.append("the nodes were not compared: there is no second repetition")
        after = first
        if first["started_at"] is None:  # it was refused, for example
            after = await self._provenance.look(self._machines.get(first["machine"]), before)
        return {
            "verdict": whole([output["verdict"] for output in outputs]),
            "differences": list(differences(before, after)),
            "outputs": outputs,
            "first_different": first_different,
            "notes": notes,
        }

    async def _output(
        self, prompts: tuple[str, str], output: Record, other: Record | None
    ) -> dict[str, Any]:
        found = _named(output)
        if other is None:
            return {**found, "verdict": "differs", "reason": "the repetition did not make it"}
        one, two = output.get("content"), other.get("content")
        if output.get("sha256") and output["sha256"] == other.get("sha256"):
            return {**found, "verdict": "identical"}  # whatever decoders made of it elsewhere
        if one is not None and two is not None:
            if one["sha256"] == two["sha256"]:
                return {**found, "verdict": "identical"}
        else:
            reason = str(output.get("reason") or other.get("reason") or "")
            if not output.get("sha256") or not other.get("sha256"):
                return {**found, "reason": reason}
            if reason:
                return {**found, "verdict": "differs", "reason": f"the files differ; {reason}"}
        found["verdict"] = "differs"
        try:
            files = await self._files(prompts, output, other)
            measured = await worker.call(_measured, *files, output["filename"])
        except NotFoundError:  # a file was deleted, or it is on another computer
            return {**found, "reason": "the file itself is not here, so it is not known how far"}
        except (ComfyDeployError, KeyError) as error:
            message = error.message if isinstance(error, ComfyDeployError) else ""
            return {**found, "reason": message}
        return {**found, **measured}

    async def _files(
        self, prompts: tuple[str, str], output: Record, other: Record
    ) -> tuple[bytes, bytes]:
        one, two = [
            await self._read(prompt_id, each)
            for prompt_id, each in zip(prompts, (output, other), strict=True)
        ]
        return one, two

    async def _read(self, prompt_id: str, output: Record) -> bytes:
        source = await self._provenance.open_output(await self._runs.record(prompt_id), output)
        try:
            content = await asyncio.to_thread(source.read, MAX_COMPARED + 1)
        finally:
            await asyncio.to_thread(source.close)
        if len(content) > MAX_COMPARED:
            raise InvalidRequestError("the file is too large to be compared")
        if await asyncio.to_thread(_hash, content) != output.get("sha256"):
            # ComfyUI gives the name of a file that was deleted to the next one, the repetition.
            raise NotFoundError("The file was changed since, or is another one of the same name")
        return content

    async def difference(self, run_id: str, number: int) -> bytes:
        """Return a picture of where an output of the repetition differs, as WebP."""
        found = await self._repetitions(run_id)
        if not found:
            raise NotFoundError(f"The run {run_id!r} was not repeated")
        records = [await self._provenance.record(each) for each in (run_id, found[0].prompt_id)]
        every = list(pairs(*records))
        output, other = every[number] if number < len(every) else ({}, None)
        if other is None or "filename" not in output:
            raise NotFoundError(f"The run has no output {number} of which there are two files")
        prompts = run_id, found[0].prompt_id
        return await worker.call(_pictured, *await self._files(prompts, output, other))


def _check_executed(record: Record) -> None:
    if record["started_at"] is None or record["prompt"] is None:
        raise ConflictError("the run was never executed, so there is nothing to repeat")


def checked(record: Record) -> tuple[Record, str]:
    """Return the record of a receipt and the name of its run here; nothing in it is trusted."""
    found = checked_record(record)
    text = json.dumps(found, sort_keys=True).encode()
    return found, f"receipt {hashlib.sha256(text).hexdigest()}"


_NO_MEASURE: Record = dict.fromkeys(("share", "largest", "mean", "before", "after"))
_NOTHING: Record = {
    "verdict": None,
    "differences": [],
    "outputs": [],
    "first_different": None,
    "notes": [],
}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _shown(output: Record, record: Record) -> Record:
    file = NodeFile("images", output["filename"], output["subfolder"], output["type"])
    return shown_file(file, record["machine"])


def _named(output: Record) -> Record:
    names = ("node_id", "key", "type", "subfolder", "filename")
    known = {name: output[name] for name in names if name in output}
    return {**_NO_MEASURE, **known, "verdict": "cannot", "reason": ""}


def _measured(one: bytes, two: bytes, filename: str) -> Record:
    try:
        return compare(io.BytesIO(one), io.BytesIO(two), filename)
    except UndecodedError as error:
        return {"reason": str(error)}


def _pictured(one: bytes, two: bytes) -> bytes:
    try:
        return difference_picture(io.BytesIO(one), io.BytesIO(two))
    except UndecodedError as error:
        raise NotFoundError(f"There is no difference picture: {error}") from None


def whole(verdicts: Collection[str]) -> str:
    """Return the verdict on all together; ``cannot`` if there are none."""
    known = (each for each in ("differs", "cannot", "identical") if each in verdicts)
    return next(known, "cannot")


def pairs(before: Record, after: Record) -> Iterator[tuple[Record, Record | None]]:
    """Yield each output of a run with that of its repetition: the same node, the same place."""
    others: dict[tuple[str, str], list[Record]] = {}
    for output in after["outputs"]:
        others.setdefault(_kind_of(output), []).append(output)
    for output in before["outputs"]:
        there = others.get(_kind_of(output))
        yield output, there.pop(0) if there else None


def _kind_of(output: Record) -> tuple[str, str]:
    return output["node_id"], "file" if "filename" in output else f"text {output.get('key')}"


# -- the pictures between the nodes --------------------------------------------------------------


def with_taps(prompt: Mapping[str, Any], definitions: DefinitionSet) -> dict[str, Any]:
    """Return a graph that also keeps the pictures of each node that makes some."""
    taps = {}
    for node_id, node in prompt.items():
        known = definitions.nodes.get(class_of(node))
        returns = known.returns if known is not None else ()
        for slot, kind in enumerate(returns if isinstance(returns, (list, tuple)) else ()):
            if kind == "IMAGE":
                inputs = {"images": [node_id, slot]}
                taps[f"{TAP}{node_id}.{slot}"] = {"class_type": "PreviewImage", "inputs": inputs}
    return {**prompt, **taps}


def first_different_node(first: Record, second: Record) -> dict[str, Any] | None:
    """Return the first node in the order of execution whose pictures differ."""
    different = set()
    for one, other in pairs(first, second):
        contents = one.get("content"), (other or {}).get("content")
        if one["node_id"].startswith(TAP) and contents[0] != contents[1]:
            different.add(one["node_id"].removeprefix(TAP).rpartition(".")[0])
    prompt = {k: node for k, node in first["prompt"].items() if not k.startswith(TAP)}
    for node_id in run_order(prompt):
        if node_id in different:
            node = prompt[node_id]
            name = node_label(node_id, class_of(node), title_of(node), unique=False)
            return {"node_id": node_id, "name": name}
    return None


# -- the environment -----------------------------------------------------------------------------


def differences(before: Record, after: Record) -> Iterator[str]:
    """Yield a sentence for each difference between that with which two runs were made."""
    one, two = before["environment"] or {}, after["environment"] or {}
    if not one or not two:
        yield "the environment of one of the two runs is not known"
    else:
        yield from _versions(one, two)
    yield from _packs(before["node_packs"], after["node_packs"])
    for kind, word in (("models", "model"), ("inputs", "input file")):
        yield from _files(before[kind], after[kind], word)
    for name in after.get("unknown_classes", ()):
        if name not in before.get("unknown_classes", ()):
            yield f"the node class {name} is not there"


def _versions(one: Record, two: Record) -> Iterator[str]:
    for name in ("python", "torch", "driver", "os"):
        if one.get(name) != two.get(name):
            yield f"{name} {two.get(name) or 'unknown'} instead of {one.get(name) or 'unknown'}"
    first, second = one.get("comfyui") or {}, two.get("comfyui") or {}
    for name, word in (("version", "ComfyUI"), ("commit", "ComfyUI's commit")):
        old, new = first.get(name), second.get(name)
        if old != new:
            yield f"{word} {new or 'unknown'} instead of {old or 'unknown'}"
    before, after = one.get("packages"), two.get("packages")
    if before and after:
        yield from _packages(before, after)
    elif before or after:
        yield "the Python packages of one of the two runs are not known"
    if second.get("modified") and not first.get("modified"):
        yield "ComfyUI's files were changed"
    arguments = [_relevant(each.get("launch_args") or ()) for each in (first, second)]
    if arguments[0] != arguments[1]:
        yield f"launch arguments {arguments[1]} instead of {arguments[0]}"
    devices = [", ".join(str(d.get("name")) for d in e.get("devices") or ()) for e in (one, two)]
    if devices[0] != devices[1]:
        yield f"device {devices[1] or 'unknown'} instead of {devices[0] or 'unknown'}"


def _packages(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Compare Python packages but for torch, whose version the running ComfyUI tells."""
    for name in sorted({*before, *after} - {"torch"}, key=str.lower):
        old, new = before.get(name), after.get(name)
        if new is None:
            yield f"the Python package {name} is not there"
        elif old is None:
            yield f"the Python package {name} {new} was not there"
        elif old != new:
            yield f"{name} {new} instead of {old}"


# Options of ComfyUI (comfy/cli_args.py) that say where it is, not what it computes.
_PLACE = re.compile(
    r"--(port|listen|[\w-]*directory|database-url|extra-model-paths-config|tls-\w+|front-end-\w+"
    r"|enable-cors-header|(disable-)?auto-launch|verbose|log-stdout|preview-[\w-]+)"
)


def _relevant(arguments: Sequence[str]) -> str:
    given = with_options(arguments)
    return (
        " ".join(argument for option, argument in given if not _PLACE.fullmatch(option)) or "none"
    )


def _packs(before: Sequence[Record], after: Sequence[Record]) -> Iterator[str]:
    for pack in before:
        # Its folder may have another name elsewhere.
        same = (
            each
            for key in ("name", "id", "repository")
            for each in after
            if pack.get(key) and pack[key] == each.get(key)
        )
        now = next(same, None)
        if now is None:
            yield f"the node pack {pack['name']} is not there"
            continue
        for name, word in (("commit", "commit"), ("version", "version"), ("sha256", "content")):
            if pack.get(name) != now.get(name):
                old, new = pack.get(name) or "unknown", now.get(name) or "unknown"
                change = "" if name == "sha256" else f" ({new} instead of {old})"
                yield f"the node pack {pack['name']} has another {word}{change}"
                break


def _files(before: Sequence[Record], after: Sequence[Record], word: str) -> Iterator[str]:
    there = {(each["folder"], each["name"]): each for each in after}
    for file in before:
        now = there.get((file["folder"], file["name"]))
        if not file.get("sha256"):
            if file.get("reason") != "it is not there":
                yield f"the content of the {word} {file['name']} was not known"
        elif now is None or now.get("reason") == "it is not there":
            yield f"the {word} {file['name']} is not there"
        elif now.get("sha256") not in (None, file["sha256"]):
            yield f"the {word} {file['name']} has another content"
        elif "sha256" not in now:
            yield f"the content of the {word} {file['name']} is not known"
