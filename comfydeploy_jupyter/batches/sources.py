"""Values of an input that are the outputs of runs and batches: ``{"$each": [{"batch": id}]}``.

How many they are is known when these have ended: then the batch gets its points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidRequestError
from ..graphs.inputs import EACH, MAX_POINTS, OUTPUT, WITH
from ..runs.chains import MAX_FILE, Chains, Reference
from ..runs.records import FINAL
from .plan import OpenValues
from .records import unknown_batch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .records import BatchRepository


class Source(NamedTuple):
    """What `EACH` lists: the outputs of a run or of the points of a batch, or a value itself."""

    value: Any
    of: str = ""  # "run" or "batch"
    id: str = ""
    file: str = ""  # names the outputs, without an index all of them; empty: what the input takes


def sources_of(inputs: Mapping[str, Any] | None) -> dict[str, list[Source]]:
    """Return the sources of each input that has some; raise if one is wrong."""
    found = {}
    for name, value in (inputs or {}).items():
        if not isinstance(value, dict) or EACH not in value:
            continue
        if further := value.keys() - {EACH, WITH}:
            text = f"has {min(further)!r} besides {EACH!r}"
            raise InvalidRequestError.of_field(f"inputs.{name}", text)
        listed = value[EACH] if isinstance(value[EACH], list) else [value[EACH]]
        if len(listed) > MAX_POINTS:
            text = f"has {len(listed)} sources; a batch has at most {MAX_POINTS} points"
            raise InvalidRequestError.of_field(f"inputs.{name}", text)
        found[name] = [_source(name, each) for each in listed]
    return found


def _source(name: str, value: Any) -> Source:
    of = value.keys() & {"run", "batch"} if isinstance(value, dict) else set()
    if not of:
        return Source(value)
    kind, file = min(of), value.get("file") or ""
    known = len(of) == 1 and value.keys() <= {kind, "file"}
    texts = all(isinstance(each, str) and each.isprintable() for each in (value[kind], file))
    if not known or not texts or len(file) > MAX_FILE:
        text = f'{EACH} lists {{"run": "<id>"}} and {{"batch": "<id>"}}, also with "file": "images"'
        raise InvalidRequestError.of_field(f"inputs.{name}", text)
    return Source(value, kind, value[kind], file)


def with_values(
    inputs: Mapping[str, Any], values: Mapping[str, list[Any]]
) -> dict[str, dict[str, Any]]:
    """Return the inputs of a batch with values in the place of sources."""
    return {**inputs, **{name: {**inputs[name], EACH: each} for name, each in values.items()}}


class Sources:
    """Finds the runs and batches whose outputs are the points of others."""

    def __init__(self, repository: BatchRepository, chains: Chains) -> None:
        self._repository = repository
        self._chains = chains

    async def check(self, sources: Mapping[str, list[Source]]) -> None:
        """Raise if a run or a batch does not exist, or certainly has no such output."""
        found = await self.states([each for listed in sources.values() for each in listed])
        for name, listed in sources.items():
            for each in listed:
                if each.of == "batch" and found["batch", each.id] is None:
                    raise unknown_batch(each.id, f"inputs.{name}")
        runs = [
            _reference(name, s) for name, each in sources.items() for s in each if s.of == "run"
        ]
        async for _ in self._chains.check(runs, several=True):
            pass

    async def states(self, sources: Collection[Source]) -> dict[tuple[str, str], str | None]:
        """Return the states of runs and batches; None: it was deleted."""
        ids = {of: [s.id for s in sources if s.of == of] for of in ("run", "batch")}
        batches = await self._repository.states(ids["batch"]) if ids["batch"] else {}
        found = {"run": await self._chains.statuses(ids["run"]), "batch": batches}
        return {(s.of, s.id): found[s.of].get(s.id) for s in sources if s.of}

    async def values(self, name: str, sources: list[Source], kind: str) -> list[Any]:
        """Return the values of an input of a kind that its sources give, which have ended."""
        found: list[Any] = []
        references: list[Reference] = []
        for source in [*sources, None]:
            if source is not None and source.of == "run":
                references.append(_reference(name, source, kind))
                continue
            found += [value async for value in self._chains.spread(references)]
            references = []
            if source is not None and source.of == "batch":
                runs = await self._repository.successful(source.id)
                references = [Reference(name, run, source.file, "", kind) for run in runs]
            elif source is not None:
                found.append(source.value)
        return found


def _reference(name: str, source: Source, kind: str = "") -> Reference:
    return Reference(name, source.id, source.file, "", kind)


def stand_ins(sources: Mapping[str, list[Source]]) -> dict[str, list[Any]]:
    """Return values with which a batch is checked before the outputs that it needs are there."""
    found = {}
    for name, each in sources.items():
        values = [source.value for source in each if not source.of]
        waits = len(values) < len(each)
        found[name] = OpenValues([*values, {OUTPUT: {"run": "none"}}]) if waits else values
    return found


def has_ended(state: str | None) -> bool:
    """Return whether nothing more comes of a source in a state."""
    return state is None or state in (*FINAL, "done")
