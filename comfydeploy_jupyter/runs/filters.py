"""Which runs a request selects, as a condition in SQL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..store.database import DETAILS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LABEL = "EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND value = ?)"
_SEARCHED = (
    f"prompt_id || json_extract({DETAILS}, '$.inputs', '$.seeds', '$.error', '$.outputs')"
    " || coalesce(metadata, '')"
)


@dataclass(frozen=True)
class RunFilter:
    """The selected runs; by default all.

    Attributes
    ----------
    prompt_ids : sequence of str or None
        Only the runs with these ids.
    statuses : sequence of str
        Only runs with one of these statuses, if there are any.
    machine : str or None
        Only runs of this machine, or of this pool.
    structure : str or None
        Only runs of this workflow, with any input values.
    workflow_id : str or None
        Only runs of this stored workflow.
    before, after : str or None
        Only runs that were created before this time, and at it or after it.
    metadata : mapping of str to str or None
        Only runs with all of these labels.
    pinned : bool or None
        Only pinned runs, or only those that are not.
    search : str or None
        Only runs with this text in their id, inputs, seeds, error, outputs or labels; the case of
        ASCII letters is ignored.
    """

    prompt_ids: Sequence[str] | None = None
    statuses: Sequence[str] = ()
    machine: str | None = None
    structure: str | None = None
    workflow_id: str | None = None
    before: str | None = None
    after: str | None = None
    metadata: Mapping[str, str] | None = None
    pinned: bool | None = None
    search: str | None = None

    def where(self) -> tuple[str, list[Any]]:
        """Return the condition in SQL, and the values of its marks."""
        marks = ", ".join("?" * len(self.statuses))
        conditions = {
            "prompt_id IN (SELECT value FROM json_each(?))": _list_of(self.prompt_ids),
            f"status IN ({marks})": self.statuses or None,
            "(machine = ? OR pool = ?)": (
                None if self.machine is None else (self.machine, self.machine)
            ),
            "structure = ?": _one(self.structure),
            f"json_extract({DETAILS}, '$.workflow_id') = ?": _one(self.workflow_id),
            "created_at < ?": _one(self.before),
            "created_at >= ?": _one(self.after),
            "metadata IS NOT NULL": () if self.metadata else None,  # the condition of the index
            " AND ".join([_LABEL] * len(self.metadata or ())): (
                [part for label in self.metadata.items() for part in label]
                if self.metadata
                else None
            ),
            "pinned = ?": _one(self.pinned),
            # The record is JSON in ASCII, so the text is written in the same way.
            f"instr(lower({_SEARCHED}), ?)": (
                (json.dumps(self.search)[1:-1].lower(),) if self.search else None
            ),
        }
        used = {text: values for text, values in conditions.items() if values is not None}
        return " AND ".join(used) or "TRUE", [value for values in used.values() for value in values]


def _one(value: object) -> tuple[object, ...] | None:
    return None if value is None else (value,)


def _list_of(values: Sequence[str] | None) -> tuple[str] | None:
    return None if values is None else (json.dumps(list(values)),)


ALL = RunFilter()
