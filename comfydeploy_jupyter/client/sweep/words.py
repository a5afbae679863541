"""The inputs and values of a sweep in the words of the workflow's form."""

from __future__ import annotations

import functools
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ...graphs.form_fields import MEDIA_KINDS, page_value, words
from .grid import value_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ...graphs.form_fields import FormField
    from .grid import Axis
    from .plan import Plan

UNITS = {"width": "px", "height": "px", "megapixels": "MP", "seconds": "s"}
"""The units of numbers, by the name of the input or the last word of its label."""

FILE_KINDS = frozenset({"combo", *MEDIA_KINDS})
"""The kinds of form field whose values may be the names of files."""


class Words:
    """Names the swept inputs and their values as the form of the workflow shows them.

    The form is read when it is first needed, which requests the node definitions of ComfyUI.
    Without these, names and kinds are guessed from the graph.

    Parameters
    ----------
    plan : Plan
        What the sweep runs.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def name(self, key: str) -> str:
        """Return the label of a swept input, e.g. ``"KSampler: cfg"``."""
        return self.names.get(key, words(key))

    def value(self, key: str, value: Any) -> str:
        """Return a value on one line, shortened, with its unit."""
        return value_text(self.whole(key, value)) or "(empty)"

    def whole(self, key: str, value: Any) -> str:
        """Return a value as `value` does, but with all its lines."""
        field = self._fields.get(key)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, str):
            return self._short_files.get((key, value), value)
        if not isinstance(value, (int, float)):
            return value_text(value)
        text = value_text(value) if field is None else str(page_value(field, value))
        unit = "" if field is None or field.kind == "color" else _unit(field)
        return f"{text} {unit}".rstrip()

    def cell(self, key: str, value: Any) -> str | int | float:
        """Return a value for a table of data: a number without its unit, all else as `whole`."""
        field = self._fields.get(key)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_color = field is not None and field.kind == "color"
        return value if is_number and not is_color else self.whole(key, value)

    def label(self, values: Mapping[str, Any]) -> str:
        """Return the values of a point on one line, e.g. ``"Seed 3, Width 512 px"``."""
        return ", ".join(f"{self.name(key)} {self.value(key, v)}" for key, v in values.items())

    def axis_name(self, axis: Axis) -> str:
        """Return the labels of the inputs of an axis, separated by commas."""
        return ", ".join(map(self.name, axis.names))

    def axis_values(self, axis: Axis) -> list[str]:
        """Return a heading for each position of an axis."""
        return [
            ", ".join(self.value(name, value) for name, value in zip(axis.names, row, strict=True))
            for row in axis.values
        ]

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """The labels of all swept inputs by their names, in order; no two are the same."""
        found: dict[str, str] = {}
        for key in dict.fromkeys(key for point in self._plan.grid.points for key in point):
            field = self._fields.get(key)
            label = self._guessed(key) if field is None else field.label
            found[key] = f"{label} ({key})" if label in found.values() else label
        return found

    @functools.cached_property
    def _targets(self) -> dict[str, list[tuple[str, str]]]:
        return self._plan.targets(self._plan.grid.points)

    @functools.cached_property
    def _fields(self) -> dict[str, FormField]:
        """The field of each swept input, unless it sets several inputs or the form has none."""
        form = self._plan.workflow.form
        by_key = {key: field for field in form for key in field.keys}
        by_target = {(field.node_id, field.input_name): field for field in form}
        fields = {}
        for key in self._targets:
            targets = self._targets[key]
            only = by_target.get(targets[0]) if len(targets) == 1 else None
            field = by_key.get(key, only)
            if field is not None:
                fields[key] = field
        return fields

    @functools.cached_property
    def _short_files(self) -> dict[tuple[str, str], str]:
        """The names of files in folders, without the folders where these are not needed."""
        values: dict[str, set[str]] = {}
        for point in self._plan.grid.points:
            for key, value in point.items():
                field = self._fields.get(key)
                if isinstance(value, str) and field is not None and field.kind in FILE_KINDS:
                    values.setdefault(key, set()).add(value)
        return {
            (key, value): name for key, found in values.items() for value, name in _shorter(found)
        }

    def _guessed(self, key: str) -> str:
        """Return a label for an input that the form does not have as one field."""
        targets = self._targets.get(key, [])
        if len(targets) != 1:
            return words(key).capitalize()
        node_id, name = targets[0]
        return f"{self._plan.source.name(node_id).short}: {words(name)}"


def _shorter(paths: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Return each path with the name of its file, if these names are different."""
    names = {path: PurePosixPath(path.replace("\\", "/")).name or path for path in paths}
    return names.items() if len(set(names.values())) == len(names) else ()


def _unit(field: FormField) -> str:
    last = field.label.lower().split()[-1:]
    return UNITS.get(field.input_name) or (UNITS.get(last[0], "") if last else "")
