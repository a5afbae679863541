"""The inputs of a workflow that a user may want to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .graph_text import html_table, shown, text_table
from .names import unknown_name

if TYPE_CHECKING:
    from ..graphs.form_fields import FormField
    from .workflow import Workflow


class Inputs(Mapping[str, Any]):
    """The inputs of a workflow that a user may want to change: keys to values.

    Setting one does the same as `Workflow.set`, so each name that it takes works.

    Parameters
    ----------
    workflow : Workflow
        The workflow.
    """

    __slots__ = ("_workflow",)

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    def __getitem__(self, key: str) -> Any:
        fields = {field.key: field for field in self._workflow.form}
        if key not in fields:
            raise unknown_name(key, fields, "input of this workflow")
        field = fields[key]
        file = self._workflow.file(field.node_id, field.input_name)
        return field.value if file is None else file

    def __setitem__(self, key: str, value: object) -> None:
        twins = next((field.twins for field in self._workflow.form if field.key == key), ())
        self._workflow.set(dict.fromkeys((key, *twins), value))

    def __iter__(self) -> Iterator[str]:
        return iter([field.key for field in self._workflow.form])

    def __len__(self) -> int:
        return len(self._workflow.form)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (field.key, field.label, shown(field.value), _range_of(field))
            for field in self._workflow.form
        ]

    def __repr__(self) -> str:
        return text_table(self._rows()) or "no inputs"

    def _repr_html_(self) -> str:
        return html_table(("key", "input", "value", "range"), self._rows())


def _range_of(field: FormField) -> str:
    """Return the range or the first choices of an input, and whether a value has to be given."""
    required = ["required"] if field.required else []
    return "; ".join([*required, *filter(None, [_values_of(field)])])


def _values_of(field: FormField) -> str:
    if field.options:
        more = " …" if len(field.options) > 4 else ""
        return ", ".join(map(str, field.options[:4])) + more
    if field.min is not None and field.max is not None:
        return f"{field.min} to {field.max}"
    return ""
