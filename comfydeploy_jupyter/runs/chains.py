"""Inputs of runs that are outputs of other runs: ``{"$output": {"run": id, "file": "…"}}``.

In the graph of a run, a mark stands for such an output. `Chains.fill` replaces the marks once the
runs that are needed have succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import uuid
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidRequestError, NotFoundError
from ..graphs.formats import mapping
from ..graphs.inputs import EACH, OUTPUT, VARY, marks_in
from ..graphs.outputs import NodeFile, files_of, keyed_texts
from ..util import worker
from ..util.jsons import dumps, loads
from ..util.media_types import is_hdr, is_picture, media_type
from .inputs import place
from .prepare import node_names
from .progress import NodeName
from .records import FINAL, Made

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence

    from ..machines.machine import Machine
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from .active import ActiveRuns
    from .inputs import PoolInputs
    from .records import RunRecord, RunRepository

MAX_DEPTH = 8  # of lists and objects in a value that may contain an output
MAX_REFERENCES = 1000  # of one run
MAX_TEXT = 1_000_000  # characters of a text that becomes an input
MAX_FILE = 1000  # characters of what names an output
PORTION = 200  # runs in one read
_INDEX = re.compile(r"\[([0-9]{1,6})\]\Z")
_TEXT_KINDS = ("text", "multiline")
_PICTURE_KINDS = ("image", "image_alpha", "image_batch")
# What a selector may name without a node, besides nothing
_GROUPS = ("files", "images", "videos", "audio", "texts")


@dataclass
class Reference:
    """An output of a run that is an input of another one."""

    input: str  # the key in ``inputs``
    run: str
    file: str  # names the output; empty: the only one
    mark: str  # stands for it in the graph
    kind: str = ""  # of the input, if known

    def error(self, problem: str) -> InvalidRequestError:
        return InvalidRequestError.of_field(f"inputs.{self.input}", problem)

    @property
    def value(self) -> dict[str, Any]:
        """The value of an input that it is."""
        return {OUTPUT: {"run": self.run, **({"file": self.file} if self.file else {})}}

    @property
    def index(self) -> int | None:
        found = _INDEX.search(self.file)
        return None if found is None else int(found[1])

    @property
    def path(self) -> str:
        """The selector without its index."""
        return _INDEX.sub("", self.file)

    @property
    def names_node(self) -> bool:
        return self.path not in ("", *_GROUPS)


class Output(NamedTuple):
    """An output of a run that can be an input: a file or a text, with its name for people."""

    name: str
    file: str  # names it by the id of its node
    value: NodeFile | str

    def suits(self, group: str) -> bool:
        """Return whether it belongs to a group of outputs, ``images`` for example."""
        value = self.value
        if isinstance(value, str):
            return group == "texts"
        if group == "images":
            return is_picture(value.filename) or is_hdr(value.filename)
        kind = (media_type(value.filename) or "").partition("/")[0]
        return group == "files" or group.startswith(kind or "-")


def take_out(
    inputs: Mapping[str, Any] | None, prompt_id: str | None
) -> tuple[dict[str, Any] | None, list[Reference]]:
    """Return the inputs of a request with a mark for each output of a run, and these outputs."""
    found: list[Reference] = []

    def marked(value: Any, key: str, depth: int) -> Any:
        if isinstance(value, list) and depth:
            return [marked(each, key, depth - 1) for each in value]
        if not isinstance(value, dict) or not depth:
            return value
        if OUTPUT in value:
            found.append(_read(value, key))
            return found[-1].mark
        if several := value.keys() & {VARY, EACH}:
            text = f"has {min(several)!r}, which is for the inputs of a batch"
            raise InvalidRequestError.of_field(f"inputs.{key}", text)
        return {name: marked(each, key, depth - 1) for name, each in value.items()}

    result = {key: marked(value, key, MAX_DEPTH) for key, value in (inputs or {}).items()}
    for each in found:
        if each.run == prompt_id:
            raise each.error("a run cannot use its own output")
    if len(found) > MAX_REFERENCES:
        raise found[-1].error(f"a run takes at most {MAX_REFERENCES} outputs, not {len(found)}")
    return result or None, found


def _read(value: Mapping[str, Any], key: str) -> Reference:
    body, mark = value[OUTPUT], f"{OUTPUT}-{uuid.uuid4().hex}"
    reference = Reference(key, "", "", mark)
    if not isinstance(body, dict) or len(value) > 1 or not body.keys() <= {"run", "file"}:
        example = '{"$output": {"run": "<id of a run>", "file": "SaveImage.images[0]"}}'
        raise reference.error(f"an output of a run is written {example}")
    run, file = body.get("run"), body.get("file")
    if not isinstance(run, str) or not run or not run.isprintable():
        raise reference.error('"run" of $output must be the id of a run')
    if file is not None and (not isinstance(file, str) or len(file) > MAX_FILE):
        raise reference.error('"file" of $output must be a text such as "SaveImage.images[0]"')
    reference.run, reference.file = run, file or ""
    return reference


def place_in(reference: Reference, names: Mapping[str, NodeName]) -> tuple[str | None, str]:
    """Return the node that a selector names (None: any), and the rest of it.

    A node is named by its id, its title or its class.
    """
    path = reference.path
    if not reference.names_node:
        return None, path
    dots = [at for at, character in enumerate(path) if character == "."]
    for at in (len(path), *reversed(dots)):
        head, rest = path[:at], path[at + 1 :]
        if head in names:
            return head, rest
        nodes = [node for node, name in names.items() if name.title == head] or [
            node for node, name in names.items() if name.class_type == head
        ]
        if len(nodes) == 1:
            return nodes[0], rest
        if nodes:
            ids = ", ".join(f"{node}.{rest}" if rest else node for node in nodes[:8])
            raise reference.error(f"several nodes of the run are named {head!r}; name one: {ids}")
    raise reference.error(f"the run {reference.run!r} has no node for {reference.file!r}")


def choose(
    reference: Reference, outputs: Mapping[str, Any], names: Mapping[str, NodeName]
) -> NodeFile | str:
    """Return the output that a reference names, of a run that has ended."""
    found, index = _matching(reference, outputs, names), reference.index
    if index is not None and index < len(found):
        return found[index].value
    what = reference.file or "an output"
    if not found:
        raise reference.error(f"the run {reference.run!r} has no output {reference.file}".rstrip())
    known = ", ".join(each.name for each in found[:8])
    if index is not None:
        has = f"has {len(found)} of these: {known}"
        raise reference.error(f"{what} is out of range: the run {reference.run!r} {has}")
    if len(found) > 1:
        raise reference.error(
            f"the run {reference.run!r} has {len(found)} outputs for this; name one of them as"
            f' "file": {known}'
        )
    return found[0].value


def _matching(
    reference: Reference, outputs: Mapping[str, Any], names: Mapping[str, NodeName]
) -> list[Output]:
    """Return all outputs that a reference without its index names."""
    node, rest = place_in(reference, names)
    titles = [name.title for name in names.values()]
    found = list(_outputs_of(outputs if node is None else {node: outputs.get(node)}, names, titles))
    if rest in _GROUPS:
        return [each for each in found if each.suits(rest)]
    if rest:
        return [each for each in found if _key_of(each.name) == rest]
    return _suitable(found, reference.kind)


def _outputs_of(
    outputs: Mapping[str, Any], names: Mapping[str, NodeName], titles: Sequence[str]
) -> Iterator[Output]:
    for node, output in outputs.items():
        name = names.get(node)
        title = name.title if name is not None and titles.count(name.title) == 1 else node
        counts: dict[str, int] = {}
        found: list[tuple[str, NodeFile | str]] = [(file.kind, file) for file in files_of(output)]
        for key, value in [*found, *keyed_texts(output)]:
            at = counts[key] = counts.get(key, -1) + 1
            yield Output(f"{title}.{key}[{at}]", f"{node}.{key}[{at}]", value)


def _key_of(name: str) -> str:
    return name.rpartition(".")[2].partition("[")[0]


def _suitable(found: list[Output], kind: str) -> list[Output]:
    """Return the outputs that an input of a kind takes, without previews if others are saved."""
    texts = [each for each in found if isinstance(each.value, str)]
    files = [each for each in found if not isinstance(each.value, str)]
    group = "images" if kind in _PICTURE_KINDS else f"{kind.removesuffix('_path')}s"
    fitting = [each for each in files if each.suits("audio" if kind == "audio" else group)]
    files = fitting or files
    saved = [e for e in files if isinstance(e.value, NodeFile) and e.value.type != "temp"]
    if kind in _TEXT_KINDS:
        return texts or saved or files
    return saved or files or texts


class Chains:
    """Finds the outputs of runs that are inputs of others, and puts them into their graphs."""

    def __init__(
        self,
        repository: RunRepository,
        machines: MachineRegistry,
        active: ActiveRuns,
        kept_outputs: KeptOutputs,
        inputs: PoolInputs,
    ) -> None:
        self._repository = repository
        self._machines = machines
        self._active = active
        self._kept_outputs = kept_outputs
        self._inputs = inputs

    async def record(self, prompt_id: str) -> RunRecord | None:
        """Return the record of a run, also of one whose end could not be stored yet."""
        run = self._active.find(prompt_id)
        return run.record if run is not None else await self._repository.get(prompt_id)

    async def statuses(self, prompt_ids: Collection[str]) -> dict[str, str]:
        """Return the statuses of those runs that exist."""
        found = {each: run.record.status for each in prompt_ids if (run := self._active.find(each))}
        left = [each for each in prompt_ids if each not in found]
        return found | (await self._repository.statuses(left) if left else {})

    async def check(
        self, references: Sequence[Reference], *, several: bool = False
    ) -> AsyncIterator[str | None]:
        """Yield for each output its run if that has not ended; raise if it is certainly not there.

        Each names one output, or with ``several`` any number.
        """
        async for reference, made, names in self._read(references):
            if made is None:
                raise await self._missing(reference)
            if made.status in FINAL and made.status != "success":
                error = reference.error(f"the run {made.prompt_id!r} {why_no_output(made)}")
                error.details["status"] = made.status
                raise error
            if made.status == "success" and not several:
                choose(reference, made.outputs, names)
            else:
                place_in(reference, names)
            yield None if made.status in FINAL else made.prompt_id

    async def spread(self, references: Sequence[Reference]) -> AsyncIterator[dict[str, Any]]:
        """Yield all outputs that references name, each as the value of an input.

        If the run has not succeeded, or the reference has an index, that is one, and what is wrong
        with it is found out when it is used.
        """
        async for reference, made, names in self._read(references):
            if made is None or made.status != "success" or reference.index is not None:
                yield reference.value
                continue
            for each in _matching(reference, made.outputs, names):
                yield replace(reference, file=each.file).value

    async def fill(
        self, prompt: bytes, references: Sequence[Reference], machine: Machine | None
    ) -> bytes:
        """Return a graph with the outputs in the place of their marks.

        Files are put into the input folder of the machine, or, if it is None, into the one from
        which the runs of pools get theirs. Errors name the input. ComfyUIUnavailableError: a
        machine that has a file, or is to get it, does not answer now.
        """
        whole = await worker.run(_whole_marks, prompt)
        values = {}
        left = [each for each in references if each.mark in whole]  # the others are there already
        async for reference, made, names in self._read(left):
            if made is None:
                raise await self._missing(reference)
            output = choose(reference, made.outputs, names)
            if isinstance(output, str) and len(output) > MAX_TEXT:
                text = f"the text has {len(output)} characters; an input takes {MAX_TEXT} at most"
                raise reference.error(text)
            if not isinstance(output, str):
                here = made.machine if whole[reference.mark] else ""
                output = await self._place(reference, output, made.machine, machine, here)
            values[reference.mark] = output
        return await worker.run(_filled, prompt, values)

    async def _read(
        self, references: Sequence[Reference]
    ) -> AsyncIterator[tuple[Reference, Made | None, Mapping[str, NodeName]]]:
        """Yield references with what their runs have made (None: deleted), and with node names.

        They are read in portions, between which the event loop has a turn. Whole records of many
        runs would be so many objects that Python's garbage collector blocks it.
        """
        for start in range(0, len(references), PORTION):
            portion = references[start : start + PORTION]
            found: dict[str, tuple[Made, Mapping[str, NodeName]]] = {}
            named = dict[str, bool]()  # whether the names are needed
            for each in portion:
                if run := self._active.find(each.run):
                    record = run.record
                    known = record.prompt_id, record.machine, record.status
                    found[each.run] = Made(*known, record.outputs, record.error), run.nodes
                else:
                    named[each.run] = named.get(each.run, False) or each.names_node
            if named:
                graphs = [run_id for run_id, is_named in named.items() if is_named]
                rows = await self._repository.made([*named], graphs)
                names = [dict[str, NodeName]() for _ in rows]
                if graphs:
                    names = await worker.run(_names_of, *(graph for _, graph in rows))
                found |= {
                    made.prompt_id: (made, n) for (made, _), n in zip(rows, names, strict=True)
                }
            elif start:
                await asyncio.sleep(0)
            for each in portion:
                yield each, *found.get(each.run, (None, {}))

    async def _missing(self, reference: Reference) -> NotFoundError:
        deleted = await self._repository.was_deleted(reference.run)
        text = f"the run {reference.run!r} was deleted"
        return NotFoundError.of_field(
            f"inputs.{reference.input}",
            text if deleted else f"there is no run {reference.run!r}",
        )

    async def _place(
        self,
        reference: Reference,
        output: NodeFile,
        source: str,
        target: Machine | None,
        here: str,
    ) -> str:
        """Put a file into an input folder; return its name for a loader."""
        try:
            file = await self._open(source, output)
            if target is not None and target.id == here and output.type in ("output", "temp"):
                await asyncio.to_thread(file.close)
                name = f"{output.subfolder}/{output.filename}".lstrip("/")
                return f"{name} [{output.type}]"
            with contextlib.closing(file):
                if target is None:
                    folders, client = await self._inputs.folders(), None
                else:
                    folders = await target.folders()
                    client = await target.ready() if folders.base is None else None
                return await place(file, output.filename, folders, client)
        except NotFoundError:
            gone = f"the output {output.filename!r} of the run {reference.run!r} does not exist any"
            raise NotFoundError.of_field(f"inputs.{reference.input}", f"{gone} more") from None

    async def _open(self, machine_id: str, output: NodeFile) -> IO[bytes]:
        place_of = output.type, output.subfolder, output.filename
        file = await self._kept_outputs.open_file(machine_id, *place_of)
        if file is not None:
            return file
        query = dict(zip(("type", "subfolder", "filename"), place_of, strict=True))
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            await (await self._machines.get(machine_id).ready()).fetch(query, copy)
        except BaseException:
            copy.close()
            raise
        return copy


def _names_of(*graphs: bytes | None) -> list[dict[str, NodeName]]:
    """Return the names of the nodes of graphs; those with the same names share them."""
    found = [{} if graph is None else node_names(loads(graph)) for graph in graphs]
    known = dict[tuple[Any, ...], dict[str, NodeName]]()
    return [known.setdefault(tuple(names.items()), names) for names in found]


def why_no_output(record: RunRecord | Made) -> str:
    """Return why a run that has ended has no outputs for others, as the end of a sentence."""
    if record.status == "cancelled":
        return "was cancelled"
    error = mapping(record.error)
    node = error.get("node_title") or error.get("node_type")
    message = str(error.get("message") or error.get("type") or "no reason is known").strip()
    return f"failed: {f'{node}: ' if node else ''}{message}"


def _whole_marks(prompt: bytes) -> dict[str, bool]:
    """Return the marks in a graph, and whether each is a whole value everywhere."""
    found: dict[str, bool] = {}
    for node in loads(prompt).values():
        for value in mapping(node.get("inputs")).values():
            for mark in marks_in(value):
                found[mark] = found.get(mark, True) and not (
                    isinstance(value, str) and value != mark
                )
    return found


def _filled(prompt: bytes, values: Mapping[str, str]) -> bytes:
    """Return a graph with values in the place of marks."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            if value in values:
                return values[value]
            for mark in marks_in(value):
                value = value.replace(mark, values.get(mark, mark))
            return value
        if isinstance(value, list):
            return [fill(each) for each in value]
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        return value

    graph = loads(prompt)
    for node in graph.values():
        if marks_in(node.get("inputs")):
            node["inputs"] = fill(node["inputs"])
    return dumps(graph).encode()
