"""The form of a workflow's inputs."""

from __future__ import annotations

import random
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import traitlets as t

from ..client.server import plain
from ..client.text import counted
from ..display.page import View, script
from ..errors import ComfyDeployError, InvalidRequestError, UnknownInputError
from ..graphs.definitions import unwrapped
from ..graphs.form import page_value
from ..graphs.formats import class_of, inputs_of, is_link
from ..graphs.inputs import apply_inputs
from ..graphs.seeds import MAX_SEED, SeedMode, apply_seeds
from ..graphs.validation import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..graphs.definitions import AnyDefinitions
    from ..graphs.external import Target
    from ..graphs.form import FormField, InputGroup, WorkflowForm
    from ..graphs.formats import Graph, UIGraph
    from ..graphs.inputs import AppliedInputs
    from .base import Panel


MAX_SHOWN = 80
"""How many characters of a value without a field are shown at most."""


def unlocked_seeds(
    fields: Sequence[FormField], graph: Graph, ui: UIGraph | None, definitions: AnyDefinitions
) -> list[str]:
    """Return the keys of the seeds that ComfyUI's editor would draw anew for each run."""
    settled = apply_seeds(graph, SeedMode.AUTO, ui=ui, definitions=definitions)
    before = {f"{field.node_id}.{field.input_name}": field for field in fields}
    return [
        before[name].key
        for name, seed in settled.seeds.items()
        if name in before and seed != before[name].value
    ]


def read_number(field: FormField, text: str) -> int | float:
    """Return the number that was typed into a field."""
    try:
        value = float(text) if field.kind == "float" else int(text)
    except ValueError as error:
        what = "a number" if field.kind == "float" else "a whole number"
        raise InvalidRequestError.of_field(field.label, f"must be {what}") from error
    for bound, word in ((field.min, "least"), (field.max, "most")):
        if bound is not None and (value < bound if word == "least" else value > bound):
            problem = f"must be at {word} {plain_number(bound)}"
            raise InvalidRequestError.of_field(field.label, problem)
    return value


def draw_seed(field: FormField) -> int:
    """Return a random seed in the range of a field."""
    low = 0 if field.min is None else max(0, int(field.min))
    high = MAX_SEED if field.max is None else min(MAX_SEED, int(field.max))
    return random.randint(low, max(low, high))


def is_within(key: str, tops: Collection[str]) -> bool:
    """Return whether a key belongs to an input of one of these dynamic combos or groups."""
    parts = key.split(".")
    return any(".".join(parts[:number]) in tops for number in range(1, len(parts)))


def shorten(value: object) -> str:
    """Return a value as text of at most `MAX_SHOWN` characters."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"


def plain_number(number: float) -> str:
    """Return a number as text, without a decimal point if it is an integer."""
    return f"{int(number)}" if float(number).is_integer() else f"{number:g}"


SHOWN = 12
"""How many fields a form shows at first; the others are below "More inputs"."""

MAX_STEPS = 256
"""A number with at most so many values between its bounds has a slider."""

EXACT = 2**53
"""Larger integers are not exact in a browser."""

UNITS = {
    "pixels": r"((image|target|output|canvas|custom|final|tile|cell)_)?(width|height)|\w+_pixels",
    "megapixels": r"megapixels",
    "seconds": r"(\w+_)?seconds(_\w+)?",
    "frames": r"(\w+_)?(frames|frame_count)",
    "frames per second": r"fps|(\w+_)?frame_rate",
    "degrees": r"(\w+_)?degrees",
}
"""Units, and the names of inputs that say them; ComfyUI's node definitions have no units. Names
such as ``length`` and ``duration`` mean different things in different nodes."""

UNNAMED = ("value", "default_value")
"""Names of inputs whose node says what they are."""


def form_rows(fields: Sequence[FormField], groups: Sequence[InputGroup]) -> list[dict[str, Any]]:
    """Return the rows of a form.

    Fields of one node are next to each other. Those that the author of the workflow chose keep the
    author's order.
    """
    shown = 0
    rows: list[dict[str, Any]] = []
    in_sight: set[str] = set()  # dynamic combos and groups, whose inputs are shown as well
    keys = {group.key for group in groups}
    for field in fields:
        # Inputs that the author of the workflow chose, or that need a value, are never folded.
        external = field.key != f"{field.node_id}.{field.input_name}"
        chosen = field.chosen or field.required or external
        always = chosen or is_within(field.key, in_sight)
        more = not always and (field.advanced or shown >= SHOWN)
        shown += not more
        if not more:
            in_sight.update(key for key in (field.key,) if field.dynamic)
            in_sight.update(key for key in keys if field.key.startswith(f"{key}."))
        # what the fields of a section have in common
        section = f"title {field.title}" if field.chosen and field.title else field.node_id
        rows.append({**_page_field(field, more=more), "of": section})
    firsts: dict[tuple[bool, str], int] = {}
    for place, row in enumerate(rows):
        firsts.setdefault((row["more"], row["of"]), place)
    order = {
        row["key"]: place if field.chosen else firsts[row["more"], row["of"]]
        for place, (row, field) in enumerate(zip(rows, fields, strict=True))
    }
    rows.sort(key=lambda row: order[row["key"]])
    for group in groups:
        _insert_group(rows, group)
    return _in_sections(rows)


def _insert_group(rows: list[dict[str, Any]], group: InputGroup) -> None:
    """Insert the row of a group after its inputs, or after those of its node."""
    node = f"{group.node_id}."
    own = [n for n, row in enumerate(rows) if row["key"].startswith(f"{group.key}.")]
    near = own or [n for n, row in enumerate(rows) if row["key"].startswith(node)]
    place = near[-1] + 1 if near else len(rows)
    row = {
        "key": group.key,
        "label": group.label,
        "title": group.title,
        "kind": "group",
        "hint": counted(group.count, "value"),
        "can_grow": group.following is not None,
        "can_shrink": group.last is not None,
        "more": rows[place - 1]["more"] if near else True,
        "of": rows[place - 1]["of"] if near else group.node_id,
    }
    rows.insert(place, row)


def _in_sections(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put neighbouring inputs of a node into a section, whose heading has the node's title.

    ``label`` remains the whole label. ``parts`` are what is before, in and after the part that is
    shown below the heading; a row without a section shows the whole label.
    """
    made: list[dict[str, Any]] = []
    for _, group in groupby(rows, key=itemgetter("of", "more")):
        part = list(group)
        title = part[0]["title"]
        several = len(part) > 1 and title
        suffixes = {_suffix(row["label"]) for row in part}
        suffix = suffixes.pop() if several and len(suffixes) == 1 else ""
        section = {"id": len(made), "title": f"{title}{suffix}"} if several else None
        for row in part:
            before = f"{title}: " if several and row["label"].startswith(f"{title}: ") else ""
            after = suffix if before else ""
            shown = row["label"].removeprefix(before).removesuffix(after)
            facts = {key: value for key, value in row.items() if key not in ("of", "title")}
            made.append({**facts, "section": section, "parts": [before, shown, after]})
    return made


def _suffix(label: str) -> str:
    """Return the node id that `workflow_form` has added to a label, with its brackets."""
    start = label.rfind(" (node ")
    return label[start:] if start >= 0 and label.endswith(")") else ""


def _page_field(field: FormField, *, more: bool) -> dict[str, Any]:
    """Return a field as the script in the page takes it."""
    kind = field.kind
    value = field.initial
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    written = page_value(field, value)
    if kind in {"int", "float"} and not number and value is not None:
        kind = "text"
    if kind == "color" and value is not None and not str(written).startswith("#"):
        kind = "text"
    return {
        "key": field.key,
        "label": field.label,
        "title": field.title,
        "kind": kind,
        "original": written,
        "required": field.required,
        "options": field.options,
        "min": field.min,
        "max": field.max,
        "step": field.step,
        "slider": kind in {"int", "float"} and _slides(field),
        "range": _range(field) if kind in {"int", "float"} else "",
        "tooltip": field.tooltip,
        "hint": _hint(field),
        "more": more,
    }


def _slides(field: FormField) -> bool:
    """Return whether the range of a number is small enough for a slider."""
    if field.min is None or field.max is None or not field.min < field.max:
        return False
    step = field.step or (1 if field.kind == "int" else 0)
    few = step > 0 and (field.max - field.min) / step <= MAX_STEPS
    return few or field.slider


def _hint(field: FormField) -> str:
    """Return in words whether a field needs a value, its range and its default."""
    parts = ["required" if field.required else ""]
    parts += [_range(field)] if field.kind in {"int", "float"} else []
    simple = isinstance(field.default, (str, int, float)) and field.default != ""
    if simple and field.kind not in {"seed", "multiline"}:
        default = page_value(field, field.default)
        if field.kind == "bool":
            default = "yes" if default else "no"
        parts.append(f"default {default}")
    return " · ".join(part for part in parts if part)


def _range(field: FormField) -> str:
    """Return the range of a number and its unit in words, without limits of 64-bit integers."""
    low = "" if field.min is None or abs(field.min) >= EXACT else plain_number(field.min)
    high = "" if field.max is None or abs(field.max) >= EXACT else plain_number(field.max)
    unit = unit_of(field)
    if high:
        text = f"{low} to {high}" if low else f"up to {high}"
        parts = [f"{text} {unit}".strip()]
    else:
        parts = [unit, f"from {low}" if low else ""]
    if (low or high) and field.step and field.step != 1 and field.kind == "int":
        parts.append(f"step {plain_number(field.step)}")
    return ", ".join(part for part in parts if part)


def unit_of(field: FormField) -> str:
    """Return the unit of a number if the name of its input says it, otherwise ``""``.

    A fractional width or height is not in pixels.
    """
    names = [field.input_name]
    if field.input_name in UNNAMED:
        names = [field.key, "_".join(field.title.lower().split())]
    for unit, pattern in UNITS.items():
        if unit == "pixels" and field.kind != "int":
            continue
        if any(re.fullmatch(pattern, name) for name in names):
            return unit
    return ""


class FormStructure:
    """The fields and groups of a form, and the graph that has them.

    The option of a dynamic combo decides which further inputs there are, and an autogrow group has
    as many inputs as were added to it.
    """

    def __init__(
        self,
        fields: Sequence[FormField],
        graph: Graph,
        *,
        groups: Sequence[InputGroup] = (),
        definitions: AnyDefinitions = None,
        make: Callable[[Graph], WorkflowForm] | None = None,
    ) -> None:
        self._workflow = self.graph = graph
        self._definitions, self._make = definitions, make
        self._saved = {field.key: field for field in fields}
        self.fields = dict(self._saved)
        self.groups = {group.key: group for group in groups}

    def rebuild(
        self, inputs: Mapping[str, Any], values: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Change to the fields that the workflow has with other inputs."""
        if self._make is None:
            return None
        applied = apply_inputs(self._workflow, inputs, strict=False, definitions=self._definitions)
        made = self._make(applied.graph)
        moved = {
            field.key
            for field in made.fields
            if field.dynamic
            and (field.key not in self._saved or self._saved[field.key].value != field.value)
        }
        fields = [
            replace(field, value=self._saved[field.key].value)
            if field.key in self._saved and not is_within(field.key, moved)
            else field
            for field in made.fields
        ]
        before, self.graph = self.graph, applied.graph
        options = {field.key: field for field in made.fields if field.dynamic}
        switched = {
            key
            for key, field in options.items()
            if inputs_of(before[field.node_id]).get(field.input_name) != field.value
        }
        self.fields = {field.key: field for field in fields}
        self.groups = {group.key: group for group in made.groups}
        kept = {k: v for k, v in values.items() if not is_within(k, switched)}
        kept.update((key, field.value) for key, field in options.items())
        return kept

    def chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chosen options, and the inputs that were added to or removed from groups."""
        options = {key: values[key] for key, field in self.fields.items() if field.dynamic}
        return {**options, **dict.fromkeys(self.removed()), **self.added()}

    def of(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs among these that decide which fields there are."""
        dynamic = any(field.dynamic for field in self.fields.values()) or self.groups
        if self._make is None or not dynamic:
            return {}
        applied = apply_inputs(self._workflow, inputs, strict=False, definitions=self._definitions)
        made = self._make(applied.graph)
        fields = {field.key: field for field in made.fields}
        more, fewer = self._grown({group.key for group in made.groups}, fields)
        options = [key for key, field in fields.items() if field.dynamic]
        return {key: fields[key].value for key in (*options, *more)} | dict.fromkeys(fewer)

    def added(self) -> dict[str, Any]:
        """Return the inputs that were added to groups, with their initial values."""
        return {key: self.fields[key].value for key in self._grown(self.groups, self.fields)[0]}

    def removed(self) -> list[str]:
        """Return the keys of the inputs that were removed from groups."""
        return self._grown(self.groups, self.fields)[1]

    def _grown(
        self, groups: Collection[str], fields: Collection[str]
    ) -> tuple[list[str], list[str]]:
        """Return the inputs that groups have more, and fewer, than in the workflow."""
        more = [key for key in fields if key not in self._saved and is_within(key, groups)]
        fewer = [key for key in self._saved if key not in fields and is_within(key, groups)]
        return more, fewer

    def grown(self, group: InputGroup, by: int, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the inputs with one more in a group, or without its last one, for `rebuild`."""
        inputs = self.chosen(values)
        key = group.following if by > 0 else group.last
        if key is None:
            return None
        if by < 0:
            inputs.pop(key, None)
            inputs.update({key: None} if key in self._saved else {})
        elif key in inputs:
            del inputs[key]
        else:
            inputs[key] = group.default
        return inputs

    def told_by(self, graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs with which the workflow has the values of a run, by their keys.

        The run's graph decides. The inputs of its request only set what the graph does not have as
        a value: external inputs that were replaced, and files that a node was added for. None is
        the value of an input that is removed from a group.
        """
        values = self._values_in(graph)
        kept = {}
        for key, value in inputs.items():
            targets = apply_inputs(self._workflow, {key: value}, strict=False).given
            if not targets or not targets.keys() <= values.keys():
                kept[key] = value
        changed = {
            f"{node_id}.{name}": value
            for (node_id, name), value in values.items()
            if unwrapped(inputs_of(self._workflow[node_id]).get(name)) != value
        }
        gone = [
            key
            for key, field in self._saved.items()
            if is_within(key, self.groups)
            and self._is_in(graph, field.node_id)
            and field.input_name not in inputs_of(graph[field.node_id])
        ]
        return {**kept, **changed, **dict.fromkeys(gone)}

    def untold(self, graph: Graph, inputs: Mapping[str, Any]) -> list[str]:
        """Return the labels of fields, or names of inputs, that do not have the value of a run."""
        labels = {(f.node_id, f.input_name): f.label for f in self.fields.values()}
        given = apply_inputs(self._workflow, inputs, strict=False, definitions=self._definitions)
        wrong = [
            (node_id, name)
            for (node_id, name), value in self._values_in(graph).items()
            if unwrapped(inputs_of(given.graph[node_id]).get(name)) != value
        ]
        absent = [
            (field.node_id, field.input_name)
            for key, field in self._saved.items()
            if not self._is_in(graph, field.node_id)
            and key == f"{field.node_id}.{field.input_name}"
            and (field.node_id, field.input_name) not in given.given
        ]
        return [labels.get(target, ".".join(target)) for target in (*wrong, *absent)]

    def _is_in(self, graph: Graph, node_id: str) -> bool:
        """Return whether a run's graph has a node of the workflow, with the same class."""
        return class_of(graph.get(node_id, {})) == class_of(self._workflow.get(node_id, {}))

    def _values_in(self, graph: Graph) -> dict[Target, Any]:
        return {
            (node_id, name): unwrapped(value)
            for node_id, node in graph.items()
            if node_id in self._workflow and self._is_in(graph, node_id)
            for name, value in inputs_of(node).items()
            if not is_link(value)
        }

    def applied(self, inputs: Mapping[str, Any]) -> AppliedInputs:
        """Return the present graph with other inputs; unknown names are left out."""
        return apply_inputs(self.graph, inputs, strict=False, definitions=self._definitions)

    def targets(self, key: str) -> frozenset[Target]:
        """Return the inputs of the graph that a name sets."""
        return frozenset(apply_inputs(self.graph, {key: None}, definitions=self._definitions).given)

    def field_of(self, key: str) -> FormField | None:
        """Return the field that shows exactly the inputs that a name sets, or None."""
        if key in self.fields:
            return self.fields[key]
        targets = self.targets(key)
        shown = (f for f in self.fields.values() if (f.node_id, f.input_name) in targets)
        return next((f for f in shown if {n for n, _ in self.targets(f.key)} == {f.node_id}), None)

    def twin_of(self, key: str) -> FormField | None:
        """Return the field that sets several inputs, and those of a name among them, or None."""
        targets = self.targets(key)
        shared = (field for field in self.fields.values() if field.twins)
        return next(
            (f for f in shared if targets <= {t for twin in f.keys for t in self.targets(twin)}),
            None,
        )


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
        inputs = self._structure.grown(group, by, self.values)
        if inputs is not None:
            self._rebuild(inputs)

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

    def _read_all(self) -> tuple[dict[str, Any], dict[str, InvalidRequestError]]:
        """Return the value of each field, that of the workflow for an invalid one, and why."""
        values, faults = {}, {}
        for key, field in self._fields.items():
            try:
                values[key] = self._read(field)
            except InvalidRequestError as error:
                values[key], faults[key] = field.initial, error
        return values, faults

    def _changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        added = self._structure.added()
        changed = {
            key: values[field.key]
            for field in self._fields.values()
            if values[field.key] != field.initial or field.key in added
            for key in field.keys
        }
        return {**changed, **dict.fromkeys(self._structure.removed()), **self._others}

    @_exclusive
    def to_send(self) -> dict[str, Any]:
        """Return the inputs of a run: every value of the form, so that the run's record has all.

        External inputs that were not changed are left out, since their defaults may mean "none".
        """
        changed = self.changed()
        unchanged = {
            key: field.initial
            for field in self._fields.values()
            if field.key == f"{field.node_id}.{field.input_name}"
            for key in field.keys
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
        if isinstance(value, (str, int, float)):
            self._make_room(key)
        field = self._structure.field_of(key)
        if field is not None and isinstance(value, (str, int, float)):
            self._put({field.key: value})
        else:
            others = self._without(self._structure.targets(key))
            self._set_others(others if self._is_said(key, value) else {**others, key: value})

    def _is_said(self, key: str, value: object) -> bool:
        """Return whether a field that sets several inputs sets this one to this value."""
        if not isinstance(value, (str, int, float)):
            return False
        field = self._structure.twin_of(key)
        return field is not None and page_value(field, value) == self.values[field.key]

    def _given(self, inputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return the inputs that have values; those without a field last, so that they count."""
        given = [(key, value) for key, value in inputs.items() if value is not None]
        return sorted(given, key=lambda item: item[0] not in self._fields)

    def _make_room(self, key: str) -> None:
        """Add an input to a group if a name is that of the group's next input."""
        groups = self._structure.groups.values()
        following = {group.following: group for group in groups}
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
        self._put({k: v for k, v in values.items() if not isinstance(v, (list, dict))})
        self._set_others(
            {
                key: value
                for key, value in inputs.items()
                if key not in applied.unknown
                and (isinstance(value, (list, dict)) or self._structure.field_of(key) is None)
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

    def _read(self, field: FormField) -> Any:
        written = self.values[field.key]
        if field.required and written in (None, "") and field.default != "":
            raise InvalidRequestError.of_field(
                field.label, "must have a value, because the workflow has none"
            )
        if written == page_value(field, field.initial):
            return field.initial
        if field.kind == "bool":
            return bool(written)
        if field.kind not in {"int", "float", "seed", "color"} or field.options:
            return written
        text = str(written).strip()
        if field.kind == "color":
            if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
                raise InvalidRequestError.of_field(field.label, "must be a colour like #1a2b3c")
            return int(text[1:], 16)
        return read_number(field, text)
