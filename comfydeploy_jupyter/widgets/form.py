"""The form of a workflow's inputs."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import parse_qsl

import traitlets as t

from ..client.server import plain, without_none
from ..display.page import View, in_thread, script
from ..errors import ComfyDeployError, InvalidRequestError, UnknownInputError
from ..graphs.form import can_show, page_value
from ..graphs.formats import inputs_of
from ..graphs.seeds import MAX_SEED
from ..graphs.shown_form import FormStructure, form_rows, is_within, read_value, shorten
from ..graphs.validation import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..graphs.definitions import AnyDefinitions
    from ..graphs.external import Target
    from ..graphs.form import FormField, InputGroup, WorkflowForm
    from ..graphs.formats import Graph
    from .base import Panel


def draw_seed(field: FormField) -> int:
    """Return a random seed in the range of a field."""
    low = 0 if field.min is None else max(0, int(field.min))
    high = MAX_SEED if field.max is None else min(MAX_SEED, int(field.max))
    return random.randint(low, max(low, high))


P = ParamSpec("P")
T = TypeVar("T")


def _exclusive(
    method: Callable[Concatenate[Form, P], T],
) -> Callable[Concatenate[Form, P], T]:
    """Let threads call such methods of a form one after the other.

    JupyterLab's messages come in several threads, and those of the panel show the form anew.
    """

    @wraps(method)
    def call(form: Form, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with form.lock:
            return method(form, *args, **kwargs)

    return call


class Form(View):
    """The inputs of a workflow: labels, controls, ranges and defaults.

    Numbers are sent to and from the page as text, because seeds above 2**53 are not exact there.
    """

    _esm = script("form")

    # the machine that receives uploaded files; None for the default one
    machine = t.Unicode(None, allow_none=True).tag(sync=True)
    # Another one for each workflow. The page sends it with each file that it has uploaded.
    form_number = t.Int(0).tag(sync=True)
    fields: t.List[Any] = t.List().tag(sync=True)
    # The present values. The page sends changes as messages, which keep their order; they are put
    # into the dict itself, so that they are not sent back.
    values = t.Dict().tag(sync=True)
    locked: t.List[str] = t.List().tag(sync=True)
    opened = t.Bool(False).tag(sync=True)
    # The problem of a field by its key.
    problems = t.Dict().tag(sync=True)
    # Inputs that code has set and that have no field: [{"key", "value"}].
    others: t.List[Any] = t.List().tag(sync=True)

    def __init__(self, panel: Panel) -> None:
        self.lock = threading.RLock()  # of all that the form shows
        self._structure = FormStructure([], {})
        self._typed: dict[tuple[str, str | None], int] = {}  # numbers of messages, by key and page
        self._others: dict[str, Any] = {}
        self._drawn: set[str] = set()  # the keys of drawn seeds that no user has set since
        self._is_kept = False  # while the form of the same workflow is made anew
        self.on_change: Callable[[], object] = lambda: None  # after a value has changed
        super().__init__(panel)

    @_exclusive
    def show(
        self,
        fields: Sequence[FormField],
        graph: Graph,
        unlocked: Sequence[str] = (),
        *,
        groups: Sequence[InputGroup] = (),
        definitions: AnyDefinitions = None,
        make: Callable[[Graph], WorkflowForm] | None = None,
    ) -> None:
        """Show the inputs of another workflow."""
        self._structure = FormStructure(
            fields, graph, groups=groups, definitions=definitions, make=make
        )
        with self.hold_sync():
            if not self._is_kept:
                self.form_number += 1
                self._drawn.clear()
            self._lay_out({})
            self.locked = [f.key for f in fields if f.kind == "seed" and f.key not in unlocked]
            self.problems = {}
        self._set_others({})
        # The page may have other values of the very same fields.
        self.send_state("values")

    @property
    def _fields(self) -> dict[str, FormField]:
        return self._structure.fields

    def _lay_out(self, values: Mapping[str, Any]) -> None:
        """Show the fields; those that are not in ``values`` have the values of the workflow."""
        groups = self._structure.groups
        self.fields = form_rows(list(self._fields.values()), list(groups.values()))
        self.values = {
            key: values.get(key, page_value(field, field.initial))
            for key, field in self._fields.items()
        }

    def _rebuild(self, inputs: Mapping[str, Any]) -> None:
        """Show the form that the workflow has with other options, or more or fewer inputs.

        The inputs of a new option have its defaults, or the values of the workflow. All other
        inputs keep their values.
        """
        kept = self._structure.rebuild(inputs, self.values)
        if kept is None:
            return
        with self.hold_sync():
            self._lay_out(kept)
            self.problems = {k: text for k, text in self.problems.items() if k in self._fields}
        self.send_state("values")

    def _grow(self, group: InputGroup, by: int) -> None:
        """Add an input to a group, or remove the last one."""
        if group.rows is not None:
            rows = self._structure.rows(group, self.values)
            self._set_rows(group, [*rows, {}] if by > 0 else rows[:-1])
            return
        inputs = self._structure.grown(group, by, self.values)
        if inputs is not None:
            self._rebuild(inputs)

    def _set_rows(self, group: InputGroup, rows: object) -> None:
        """Show other rows in a group; raise InvalidInputError if it cannot have these."""
        whole = self._structure.completed(group, rows)
        inputs = {**self._structure.chosen(self.values), group.key: whole}
        self._rebuild(self._structure.of(inputs))
        shown = self._structure.groups[group.key].rows or {}
        self._put(
            {
                key: value
                for index, row in zip(shown, whole, strict=True)
                for name, value in row.items()
                if (key := f"{group.key}.{index}.{name}") in self._fields
                and isinstance(value, (str, int, float))
            }
        )

    @_exclusive
    def changed(self) -> dict[str, Any]:
        """Return the inputs that differ from the workflow, by their keys."""
        values, faults = self._read_all()
        self.problems = {key: str(error.details["problem"]) for key, error in faults.items()}
        for error in faults.values():
            raise error
        return self._changes(values)

    @_exclusive
    def valid(self) -> dict[str, Any]:
        """Return what `changed` does, but without the inputs whose values are not valid."""
        return self._changes(self._read_all()[0])

    @_exclusive
    def graph(self) -> Graph:
        """Return the workflow with the values of the form, as far as these are valid."""
        return self._structure.applied(self.valid()).graph

    def _read_all(self) -> tuple[dict[str, Any], dict[str, InvalidRequestError]]:
        """Return the value of each field, that of the workflow for an invalid one, and why."""
        values, faults = {}, {}
        for key, field in self._fields.items():
            try:
                values[key] = read_value(field, self.values[field.key])
            except InvalidRequestError as error:
                values[key], faults[key] = field.initial, error
        return values, faults

    def _changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        added, lists = self._structure.added(), self._lists(values)
        changed = {
            key: values[field.key]
            for field in self._fields.values()
            if values[field.key] != field.initial or field.key in added
            for key in field.keys
            if not is_within(key, lists)
        }
        return {**changed, **dict.fromkeys(self._structure.removed()), **lists, **self._others}

    def _lists(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rows of the groups that have others than in the workflow."""
        structure = self._structure
        return {group.key: structure.rows(group, values) for group in structure.rearranged()}

    @_exclusive
    def to_send(self) -> dict[str, Any]:
        """Return the inputs of a run: every value of the form, so that the run's record has all.

        External inputs that were not changed are left out, since their defaults may mean "none".
        """
        changed = self.changed()
        unchanged = {
            key: field.initial
            for field in self._fields.values()
            if field.key == f"{field.node_id}.{field.input_name}" and field.initial is not None
            for key in field.keys
            if not is_within(key, self._structure.groups.keys() & changed.keys())
        }
        return {**unchanged, **changed}

    @_exclusive
    def draw(self) -> dict[str, int]:
        """Return new numbers for the seeds that are not locked, by key; `show_drawn` shows them."""
        drawn = {
            key: draw_seed(field)
            for key, field in self._fields.items()
            if field.kind == "seed" and key not in self.locked
        }
        self._drawn.update(drawn)
        return {twin: seed for key, seed in drawn.items() for twin in self._fields[key].keys}

    @_exclusive
    def show_drawn(self, seeds: Mapping[str, Any]) -> None:
        """Show the seeds of a run that was accepted, except where a user has set others since."""
        shown = {key: seeds[key] for key in self._drawn if key in self._fields and key in seeds}
        self._put(shown)
        self._drawn.update(shown)

    @_exclusive
    def set(self, key: str, value: object) -> None:
        """Set one input by any name that `Comfy.run` takes, also an input without a field."""
        value = plain(value)
        group = None if key in self._fields else self._structure.group_of(key)
        if group is not None:
            self._set_rows(group, value)
            return
        if isinstance(value, (str, int, float)) and key not in self._fields:
            self._make_room(key)
        field = self._structure.field_of(key)
        if field is not None and can_show(field, value):
            self._put({field.key: value})
        else:
            others = self._without(self._structure.targets(key))
            self._set_others(others if self._is_said(key, value) else {**others, key: value})

    def _is_said(self, key: str, value: object) -> bool:
        """Return whether a field that sets several inputs sets this one to this value."""
        field = self._structure.twin_of(key)
        if field is None or not can_show(field, value):
            return False
        return bool(page_value(field, value) == self.values[field.key])

    def _given(self, inputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return the inputs that have values; those without a field last, so that they count."""
        given = [(key, value) for key, value in inputs.items() if value is not None]
        return sorted(given, key=lambda item: item[0] not in self._fields)

    def _make_room(self, key: str) -> None:
        """Add an input to a group if a name is that of the group's next input."""
        groups = self._structure.groups.values()
        following = {added: group for group in groups for added in group.next}
        for node_id, name in self._structure.targets(key) if following else ():
            if f"{node_id}.{name}" in following:
                self._grow(following[f"{node_id}.{name}"], 1)

    def mark_errors(self, node_errors: Mapping[str, Any]) -> None:
        """Mark the fields that ComfyUI's ``node_errors`` name."""
        problems = {}
        for field in self._fields.values():
            # The node that loads the file of an input has the name of that input.
            loader = f"{field.node_id}.{field.input_name}"
            for node_id in (field.node_id, loader):
                fault = node_errors.get(node_id)
                if not isinstance(fault, dict):
                    continue
                errors, kind = fault.get("errors"), str(fault.get("class_type") or "")
                for error in errors if isinstance(errors, list) else ():
                    facts = error.get("extra_info") if isinstance(error, dict) else None
                    name = facts.get("input_name") if isinstance(facts, dict) else None
                    if name and (node_id == loader or name == field.input_name):
                        problems[field.key] = sentence(error, kind)
        self.problems = problems

    def mark_inputs(self, invalid: Mapping[str, Any]) -> str:
        """Mark the fields whose values break the contract of the workflow."""
        fields = self._fields
        self.problems = {key: str(text) for key, text in invalid.items() if key in fields}
        labels = {key: fields[key].label if key in fields else key for key in invalid}
        return "; ".join(f"{labels[key]}: {text}" for key, text in invalid.items())

    def focus_problem(self) -> None:
        """Move the focus in the page to the first field with a problem."""
        key = next((key for key in self._fields if key in self.problems), None)
        if key is not None:
            self.send({"kind": "focus", "key": key})

    def _without(self, targets: frozenset[Target]) -> dict[str, Any]:
        """Return the inputs without a field, except those that set one of these targets."""
        return {
            key: value
            for key, value in self._others.items()
            if not self._structure.targets(key) & targets
        }

    def _set_others(self, others: Mapping[str, Any]) -> None:
        self._others = dict(others)
        self.others = [{"key": key, "value": shorten(value)} for key, value in others.items()]

    def _shows(self, field: FormField | None, value: object) -> bool:
        """Return whether there is a field that shows a value; it shows null as an empty one."""
        return field is not None and (value is None or can_show(field, value))

    @_exclusive
    def reuse(self, inputs: Mapping[str, Any], seeds: Mapping[str, int], graph: Graph) -> list[str]:
        """Show the values of an earlier run, and lock its seeds."""
        inputs = self._structure.told_by(graph, inputs)
        self._rebuild(self._structure.of(inputs))
        applied = self._structure.applied(inputs)
        known, values = applied.graph, {}
        for key, field in self._fields.items():
            value = known[field.node_id].get("inputs", {}).get(field.input_name, field.initial)
            values[key] = seeds.get(f"{field.node_id}.{field.input_name}", value)
        self._put({k: v for k, v in values.items() if self._shows(self._fields[k], v)})
        self._set_others(
            {
                key: value
                for key, value in inputs.items()
                if key not in applied.unknown
                and not self._shows(self._structure.field_of(key), value)
                and self._structure.group_of(key) is None
                and not self._is_said(key, value)
            }
        )
        self.locked = [key for key, field in self._fields.items() if field.kind == "seed"]
        return self._structure.untold(graph, self._changes(self._read_all()[0]))

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep all values, also those that are not valid, while the form is made anew.

        Values that are typed meanwhile are taken afterwards.
        """
        with self.lock:
            values, faults = self._read_all()
            changed, locked = self._changes(values), list(self.locked)
            invalid = {key: self.values[key] for key in faults}
            self._is_kept = True
            try:
                yield
            finally:
                self._is_kept = False
            self._rebuild(self._structure.of(changed))
            self._put({key: value for key, value in invalid.items() if key in self._fields})
            self.locked = locked
            for key, value in self._given(changed):
                self.set(key, value)

    @_exclusive
    def use(self, inputs: Mapping[str, Any], locked: Sequence[str]) -> list[str]:
        """Show other values in place of all changes."""
        self.reset()
        self._rebuild(self._structure.of(inputs))
        unknown = []
        for key, value in self._given(inputs):
            try:
                self.set(key, value)
            except UnknownInputError:
                unknown.append(key)
        self.locked = [key for key in locked if key in self._fields]
        return unknown

    @_exclusive
    def reset(self) -> None:
        """Set all inputs to the values of the workflow."""
        self._rebuild({})
        self._set_others({})
        self._put({key: field.initial for key, field in self._fields.items()})

    def received(self, path: Path, message: dict[str, Any]) -> None:
        """Upload a file for a page that cannot do it by itself; the page then chooses it."""
        answer = {"kind": "stored", "id": message["id"]}
        try:
            answer["name"] = str(self._panel.comfy.upload(path, machine=self.machine))
        except ComfyDeployError as error:
            answer["error"] = str(error)
        self.send(answer)

    def take_typed(self, messages: Iterable[dict[str, Any]]) -> None:
        """Take typed values that may have been sent before.

        JupyterLab sends some messages to the kernel's main thread and others to a subshell, so that
        a click on another part of the panel may arrive before the message with the value.
        """
        for message in messages:
            self._on_typed(message, None)

    def _receive(self, *message: Any) -> None:
        with self.lock:
            super()._receive(*message)

    @_exclusive
    def _on_typed(self, message: dict[str, Any], _: object) -> None:
        typed = {
            key: value
            for key, value in message["values"].items()
            if key in self._fields and self._is_newest(key, message)
        }
        self.values.update(typed)
        self._note(typed)
        self._follow_options(typed)
        # What the kernel sends of these values from now on is newer than what was typed.
        self.send({"kind": "took", "id": message.get("id")})

    def _is_newest(self, key: str, message: dict[str, Any]) -> bool:
        """Return whether no value was received that was typed after that of a message.

        JupyterLab sends the first messages of a page to the kernel's main thread, which may be
        busy, and later ones to a subshell.
        """
        page, number = message.get("page"), message.get("number")
        if number is None:
            return True
        if number <= self._typed.get((key, page), 0):
            return False
        self._typed[key, page] = number
        return True

    def _on_uploaded(self, message: dict[str, Any], _: object) -> None:
        key = str(message["key"])
        # Another workflow may be shown since the upload began, and have the same field.
        if message["form_number"] == self.form_number and key in self._fields:
            self._put({key: str(message["name"])})

    @in_thread
    def _on_options(self, message: dict[str, Any]) -> None:
        """Ask for the options of a field, for a page that cannot reach the server."""
        answer = {"kind": "options", "id": message["id"]}
        field = self._fields.get(str(message["key"]))
        query = dict(parse_qsl("" if field is None else field.remote))
        try:
            answer["reply"] = self._panel.comfy.server.get(
                "node-options", **without_none({**query, "machine": self.machine})
            )
        except ComfyDeployError as error:
            answer["error"] = str(error)
        self.send(answer)

    def _on_lock(self, message: dict[str, Any], _: object) -> None:
        others = [key for key in self.locked if key != message["key"]]
        self._drawn.discard(str(message["key"]))
        self.locked = [*others, str(message["key"])] if message["locked"] else others

    def _on_open(self, message: dict[str, Any], _: object) -> None:
        self.opened = bool(message["opened"])

    def _on_draw(self, message: dict[str, Any], _: object) -> None:
        key = str(message["key"])
        self._put({key: draw_seed(self._fields[key])})

    def _on_reset(self, _: object, __: object) -> None:
        self.reset()

    def _on_grow(self, message: dict[str, Any], _: object) -> None:
        group = self._structure.groups.get(str(message["key"]))
        if group is not None:
            self._grow(group, 1 if message.get("more") else -1)

    def _on_arrange(self, message: dict[str, Any], _: object) -> None:
        """Take the order of the rows of a group: their places so far, and null for a new row."""
        self.take_typed(message.get("typed") or ())
        with self.lock:
            group = self._structure.groups.get(str(message["key"]))
            if group is None or group.rows is None:
                return
            rows = self._structure.rows(group, self.values)
            order = message["order"]
            if group.least <= len(order) <= group.most:
                self._set_rows(group, [{} if n is None else rows[n] for n in order])

    @_exclusive
    def _put(self, values: Mapping[str, object]) -> None:
        written = {key: page_value(self._fields[key], value) for key, value in values.items()}
        self.values.update(written)
        if written:
            self._note(written)
            self.send_state("values")
            self._follow_options(written)

    def _follow_options(self, keys: Iterable[str]) -> None:
        """Show the inputs of the chosen options of dynamic combos."""
        for key in keys:
            field = self._fields.get(key)
            if field is not None and field.dynamic and self._is_news(field):
                inputs = self._structure.chosen(self.values)
                self._rebuild({k: v for k, v in inputs.items() if not is_within(k, {key})})

    def _is_news(self, field: FormField) -> bool:
        """Return whether the chosen option is not the one whose inputs are shown."""
        shown = inputs_of(self._structure.graph.get(field.node_id, {})).get(field.input_name)
        return bool(shown != self.values[field.key])

    def _note(self, keys: Iterable[str]) -> None:
        """Remove the problems of fields that change, and what code has set for the same inputs."""
        keys = frozenset(keys)
        self._drawn -= keys
        if keys & self.problems.keys():
            self.problems = {k: text for k, text in self.problems.items() if k not in keys}
        if self._others:
            names = {name for key in keys for name in self._fields[key].keys}
            targets = (self._structure.targets(name) for name in names)
            self._set_others(self._without(frozenset().union(*targets)))
        self.on_change()
