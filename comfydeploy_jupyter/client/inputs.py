"""The inputs of a workflow that a user may want to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .graph_text import html_table, shown, text_table
from .names import UnknownNameError, unknown_name

if TYPE_CHECKING:
    from ..graphs.form_fields import FormField
    from ..graphs.inputs import InputNames
    from .workflow import Workflow


class Inputs(Mapping[str, Any]):
    """The inputs of a workflow that a user may want to change: keys to values.

    An input can be read and set by each name that `Workflow.set` takes, and by its label.

    Parameters
    ----------
    workflow : Workflow
        The workflow.
    named : callable
        Returns the names by which its inputs can be set.
    """

    __slots__ = ("_named", "_workflow")

    def __init__(self, workflow: Workflow, named: Callable[[], InputNames]) -> None:
        self._workflow = workflow
        self._named = named

    def __getitem__(self, key: str) -> Any:
        found = self._find(key)
        if len(found) != 1:
            names = self._names()
            if found:
                known = [names[field.key] for field in found]
                raise UnknownNameError(f"{key!r} matches several inputs: {', '.join(known)}")
            close = self._named().close_to(str(key))
            raise unknown_name(key, names.values(), "input of this workflow", close=close)
        (field,) = found
        file = self._workflow.file(field.node_id, field.input_name)
        return field.value if file is None else file

    def __setitem__(self, key: str, value: object) -> None:
        found = self._find(key)
        keys = found[0].keys if len(found) == 1 else (key,)
        self._workflow.set(dict.fromkeys(keys, value))

    def __iter__(self) -> Iterator[str]:
        return iter([field.key for field in self._workflow.form])

    def __len__(self) -> int:
        return len(self._workflow.form)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._names().values())

    def _find(self, key: str) -> list[FormField]:
        """Return the fields that a name fits."""
        form = self._workflow.form
        exact = [field for field in form if field.key == key]
        if exact:
            return exact
        targets = {f"{node_id}.{name}" for node_id, name in self._named().find(key)}
        named = [f for f in form if targets & {*f.keys, f"{f.node_id}.{f.input_name}"}]
        return named or [field for field in form if field.label == key]

    def _names(self) -> dict[str, str]:
        """Return the name of each input for people, by its key."""
        names = self._named()
        return {
            field.key: names.name(field.node_id, field.input_name)
            if field.key == f"{field.node_id}.{field.input_name}"
            else field.key
            for field in self._workflow.form
        }

    def _rows(self) -> list[tuple[str, str, str, str]]:
        names = self._names()
        return [
            (names[field.key], field.label, shown(field.value), _range_of(field))
            for field in self._workflow.form
        ]

    def __repr__(self) -> str:
        return text_table(self._rows()) or "no inputs"

    def _repr_html_(self) -> str:
        return html_table(("name", "input", "value", "range"), self._rows())


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
