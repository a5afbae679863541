"""The form of a workflow as pages and programs show it, check it and change it.

`form.workflow_form` finds the fields. Here they become the rows of a form, with the values of
certain inputs: those also decide which fields there are, since the option of a dynamic combo brings
its own inputs, and inputs and rows can be added to groups and removed.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from functools import lru_cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidRequestError
from .definitions import AnyDefinitions, NodeDefinitions
from .external import KINDS
from .form import (
    FormField,
    InputGroup,
    WorkflowForm,
    above,
    can_show,
    page_value,
    row_values,
    workflow_form,
)
from .formats import class_of, inputs_of, is_link, unwrapped
from .inputs import AppliedInputs, InputNames, apply_inputs, is_output, marks_in
from .prices import partner_nodes
from .seeds import SeedMode, apply_seeds
from .ui import SavedWorkflow
from .video_edit import read_edit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .external import Target
    from .formats import Graph
    from .ui import AnySaved

SHOWN = 12
"""How many fields a form shows at first, seeds apart; the others are below "More inputs"."""

SHOWN_SEEDS = 12
"""How many seeds a form shows at first."""

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

_HEIGHT = re.compile(r"(?:^|(?<=[.\s]))(h)eight$", re.IGNORECASE)

ABSENT: dict[str, Any] = {
    **dict.fromkeys(
        ("section", "row", "choices", "default", "min", "max", "least", "most", "step")
    ),
    **dict.fromkeys(("width", "edit", "rows")),
    **dict.fromkeys(("hint", "tooltip", "remote", "models", "unit", "range"), ""),
    **dict.fromkeys(("more", "dynamic", "slider", "required", "can_grow", "can_shrink"), False),
    **dict.fromkeys(("may_be_empty", "choosable"), True),
}
"""What a fact of a row is if a brief form leaves it out."""

_OF_ROWS = ("section", "row", "choices", "width", "more", "choosable")
"""Those that are not the same for all nodes of a class."""

_DECLARED = attrgetter(
    *("input_name", "kind", "raw", "required", "min", "max", "step", "slider"),
    *("remote", "models", "features", "video", "dynamic", "tooltip"),
)
"""What else rows of one kind have in common if it is the same for their fields."""

UNNAMED = ("value", "default_value")
"""Names of inputs whose node says what they are."""


def form_rows(
    fields: Sequence[FormField],
    groups: Sequence[InputGroup],
    alike: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of a form.

    Fields of one node are next to each other. Those that the author of the workflow chose keep the
    author's order. What many fields have in common is put into ``alike``, if that is given, and
    rows have only its number.
    """
    shown = seeds = 0
    rows: list[dict[str, Any]] = []
    in_sight: set[str] = set()  # dynamic combos and groups, whose inputs are shown as well
    keys = {group.key for group in groups}
    with_rows = {group.key: group for group in groups if group.rows is not None}
    declared: dict[object, dict[str, Any]] = {}  # many nodes of a large workflow have one class
    for field in fields:
        # Inputs that the author of the workflow chose, or that need a value, are never folded, nor
        # seeds, unless the author chose others.
        external = field.key != f"{field.node_id}.{field.input_name}"
        chosen = field.chosen or field.required or (external and not field.unchosen)
        always = chosen or is_within(field.key, in_sight)
        if field.kind == "seed" and not field.unchosen and seeds < SHOWN_SEEDS:
            always, seeds = True, seeds + 1
        more = not always and (field.advanced or shown >= SHOWN)
        shown += not more
        if not more:
            in_sight.update(key for key in (field.key,) if field.dynamic)
            if keys:
                in_sight.update(key for key in above(field.key) if key in keys)
        # what the fields of a section have in common
        section = f"title {field.title}" if field.chosen and field.title else field.node_id
        row = _field_row(field, with_rows, declared, alike, more=more)
        row["of"] = section
        rows.append(row)
    firsts: dict[tuple[bool, str], int] = {}
    for place, row in enumerate(rows):
        firsts.setdefault((row["more"], row["of"]), place)
    order = {
        row["key"]: place if field.chosen else firsts[row["more"], row["of"]]
        for place, (row, field) in enumerate(zip(rows, fields, strict=True))
    }
    rows.sort(key=lambda row: order[row["key"]])
    _find_widths(rows)
    return _in_sections(_with_groups(rows, groups))


def _with_groups(rows: list[dict[str, Any]], groups: Sequence[InputGroup]) -> list[dict[str, Any]]:
    """Insert the row of each group after its inputs, or after those of its node."""
    if not groups:
        return rows
    nodes = {group.node_id: group for group in groups}
    keys = {group.key for group in groups}
    last: dict[str, int] = {}  # the place of the last row of each group and of each node
    for place, row in enumerate(rows):
        last.update((key, place) for key in above(row["key"]) if key in keys or key in nodes)
    after: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for group in groups:
        place = last.get(group.key, last.get(group.node_id, len(rows)))
        near = rows[place] if place < len(rows) else {"more": True, "of": group.node_id}
        after[place].append(_group_row(group, near))
    made = []
    for place, row in enumerate(rows):
        made += [row, *after[place]]
    return [*made, *after[len(rows)]]


def _group_row(group: InputGroup, near: Mapping[str, Any]) -> dict[str, Any]:
    noun = "value" if group.rows is None else "row"
    return {
        "key": group.key,
        "label": group.label,
        "title": group.title,
        "node": group.node_id,
        "input": group.input_name,
        "kind": "group",
        "rows": None if group.rows is None else list(group.rows.values()),
        "hint": f"{group.count} {noun}{'' if group.count == 1 else 's'}",
        "can_grow": bool(group.next),
        "can_shrink": bool(group.last),
        "next": dict(group.next),
        "last": list(group.last),
        "least": group.least,
        "most": group.most,
        "more": near["more"],
        "of": near["of"],
    }


def _find_widths(rows: list[dict[str, Any]]) -> None:
    """Find the width that belongs to each height: that of its node, or one with such a label."""
    by_key, by_label = {}, {}
    for row in reversed(rows):
        if row["kind"] == "int":
            by_key[row["more"], row["key"]] = by_label[row["more"], row["label"]] = row["key"]
    for row in rows:
        if row["kind"] == "int":
            names = _name_of_width(row["key"]), _name_of_width(row["label"])
            row["width"] = by_key.get((row["more"], names[0])) or by_label.get(
                (row["more"], names[1])
            )


def _name_of_width(name: str) -> str | None:
    """Return the name of the width that belongs to the name of a height; None for other names."""
    found = _HEIGHT.search(name) if name[-5:].lower() == "eight" else None
    return found and f"{name[: found.start(1)]}{'width' if found[1] == 'h' else 'Width'}"


def _in_sections(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put neighbouring inputs of a node into a section, whose heading has the node's title.

    ``label`` remains the whole label. ``parts`` are what is before, in and after the part that is
    shown below the heading; a row without a section shows the whole label.
    """
    made: list[dict[str, Any]] = []
    for _, group in groupby(rows, key=itemgetter("of", "more")):
        part = list(group)
        title = part[0]["title"]
        suffix, section = "", None
        if len(part) > 1 and title:
            suffixes = {_suffix(row["label"]) for row in part}
            suffix = suffixes.pop() if len(suffixes) == 1 else ""
            section = {"id": len(made), "title": f"{title}{suffix}"}
        start = f"{title}: "
        for row in part:
            label = row["label"]
            before = start if section and label.startswith(start) else ""
            after = suffix if before else ""
            shown = label.removeprefix(before).removesuffix(after)
            # The box of a row shows its name.
            if before and row.get("row") and shown.startswith(f"{row['row']['title']} "):
                before += f"{row['row']['title']} "
                shown = label.removeprefix(before).removesuffix(after)
            del row["of"], row["title"]
            row["section"], row["parts"] = section, [before, shown, after]
            made.append(row)
    return made


def _suffix(label: str) -> str:
    """Return the node id that `workflow_form` has added to a label, with its brackets."""
    start = label.rfind(" (node ")
    return label[start:] if start >= 0 and label.endswith(")") else ""


def _field_row(
    field: FormField,
    with_rows: Mapping[str, InputGroup],
    declared: dict[object, dict[str, Any]],
    alike: list[dict[str, Any]] | None,
    *,
    more: bool,
) -> dict[str, Any]:
    kind = field.kind
    value = field.initial
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    written = page_value(field, value)
    if kind in {"int", "float"} and not number and value is not None:
        kind = "text"
    if kind == "color" and value is not None and not str(written).startswith("#"):
        kind = "text"
    named = field.input_name not in UNNAMED or (field.key, field.title)
    key = kind, named, repr(field.default), bool(field.options), _DECLARED(field)
    facts = declared.get(key)
    if facts is None:
        facts = _declared_facts(field, shown_as=kind)
        if alike is not None:
            facts = {name: fact for name, fact in facts.items() if ABSENT.get(name, "-") != fact}
            alike.append({"input": field.input_name, "kind": kind, **facts})
            facts = {"alike": len(alike) - 1}
        declared[key] = facts
    return {
        "key": field.key,
        "keys": list(field.keys),
        "node": field.node_id,
        "input": field.input_name,
        "label": field.label,
        "title": field.title,
        "kind": kind,
        "original": written,
        "options": field.options,
        **facts,
        "width": None,
        "more": more,
        "row": _place_in_rows(field, with_rows) if with_rows else None,
    }


def _declared_facts(field: FormField, *, shown_as: str) -> dict[str, Any]:
    """Return what the definition of an input says, in numbers and in words."""
    kind = field.kind
    unit = unit_of(field) if kind in {"int", "float"} else ""
    span = _range(field, unit) if kind in {"int", "float"} else ""
    return {
        "default": None if field.default is None else page_value(field, field.default),
        "min": field.min,
        "max": field.max,
        # exact in a page, where large integers are not
        "least": None if field.min is None else plain_number(field.min),
        "most": None if field.max is None else plain_number(field.max),
        "step": field.step,
        "unit": unit,
        "slider": shown_as in {"int", "float"} and _slides(field),
        "range": span if shown_as in {"int", "float"} else "",
        "hint": _hint(field, span),
        "required": field.required,
        "may_be_empty": not field.required or field.default == "",
        "remote": field.remote,
        "models": field.models,
        "edit": {"features": list(field.features), "video": field.video}
        if field.kind == "video_edit"
        else None,
        "dynamic": field.dynamic,
        "tooltip": field.tooltip,
    }


def _place_in_rows(field: FormField, with_rows: Mapping[str, InputGroup]) -> dict[str, Any] | None:
    """Return the innermost row that a field belongs to."""
    for key in reversed([*above(field.key)]) if with_rows else ():
        group = with_rows.get(key)
        if group is not None:
            index = field.key[len(key) + 1 :].partition(".")[0]
            numbers = {str(number): place for place, number in enumerate(group.rows or ())}
            if index not in numbers:
                return None
            title = f"{group.row_name} #{int(index) + 1}"
            place = numbers[index]
            return {"group": key, "place": place, "index": int(index), "title": title}
    return None


def _slides(field: FormField) -> bool:
    """Return whether the range of a number is small enough for a slider."""
    if field.min is None or field.max is None or not field.min < field.max:
        return False
    step = field.step or (1 if field.kind == "int" else 0)
    few = step > 0 and (field.max - field.min) / step <= MAX_STEPS
    return few or field.slider


def _hint(field: FormField, span: str) -> str:
    """Return in words whether a field needs a value, its range and its default."""
    parts = ["required", span] if field.required else [span]
    simple = isinstance(field.default, (str, int, float)) and field.default != ""
    if simple and field.kind not in {"seed", "multiline"}:
        default = page_value(field, field.default)
        if field.kind == "bool":
            default = "yes" if default else "no"
        parts.append(f"default {default}")
    return " · ".join(part for part in parts if part)


def _range(field: FormField, unit: str) -> str:
    """Return the range of a number and its unit in words, without limits of 64-bit integers."""
    low = "" if field.min is None or abs(field.min) >= EXACT else plain_number(field.min)
    high = "" if field.max is None or abs(field.max) >= EXACT else plain_number(field.max)
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
    return next(filter(None, (_unit(name, field.kind == "int") for name in names)), "")


@lru_cache(1024)
def _unit(name: str, whole: bool) -> str:
    found = (unit for unit, pattern in UNITS.items() if re.fullmatch(pattern, name))
    return next((unit for unit in found if whole or unit != "pixels"), "")


def plain_number(number: float) -> str:
    """Return a number as text, without a decimal point if it is an integer."""
    whole = isinstance(number, int) or number.is_integer()
    return f"{int(number)}" if whole else f"{number:g}"


def read_value(field: FormField, written: Any) -> Any:
    """Return the value that a field has if it shows this; raise InvalidRequestError.

    Numbers are shown as texts, see `page_value`.
    """
    if field.required and written in (None, "") and field.default != "":
        problem = "must have a value, because the workflow has none"
        raise InvalidRequestError.of_field(field.label, problem)
    if written == page_value(field, field.initial):
        return field.initial
    if field.dynamic and written not in (field.options or ()):
        options = ", ".join(map(str, field.options or ()))
        raise InvalidRequestError.of_field(field.label, f"must be one of {options}")
    if field.raw and not isinstance(unwrapped(field.initial), str):
        return _read_raw(field, str(written))
    if field.kind == "bool":
        return bool(written)
    if field.kind == "video_edit":
        return read_edit(field.label, str(written))
    if field.kind not in {"int", "float", "seed", "color"} or field.options:
        return written
    text = str(written).strip()
    if field.kind == "color":
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
            raise InvalidRequestError.of_field(field.label, "must be a colour like #1a2b3c")
        return int(text[1:], 16)
    return _read_number(field, text)


def _read_raw(field: FormField, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError.of_field(field.label, "must be JSON") from error


def _read_number(field: FormField, text: str) -> int | float:
    try:
        value = float(text) if field.kind == "float" else int(text)
    except ValueError as error:
        what = "a number" if field.kind == "float" else "a whole number"
        raise InvalidRequestError.of_field(field.label, f"must be {what}") from error
    for bound, word in ((field.min, "least"), (field.max, "most")):
        if bound is not None and not (value >= bound if word == "least" else value <= bound):
            problem = f"must be at {word} {plain_number(bound)}"
            raise InvalidRequestError.of_field(field.label, problem)
    return value


def unlocked_seeds(
    fields: Sequence[FormField], graph: Graph, ui: AnySaved | None, definitions: AnyDefinitions
) -> list[str]:
    """Return the keys of the seeds that ComfyUI's editor would draw anew for each run."""
    if ui is None:  # then only these are drawn
        graph = {key: each for key, each in graph.items() if class_of(each) in KINDS}
    else:
        whole = {field.node_id for field in fields if field.kind in ("seed", "int")}
        graph = {key: each for key, each in graph.items() if key in whole}
    settled = apply_seeds(graph, SeedMode.AUTO, ui=ui, definitions=definitions)
    if not settled.seeds:
        return []
    before = {f"{field.node_id}.{field.input_name}": field for field in fields}
    return [
        before[name].key
        for name, seed in settled.seeds.items()
        if name in before and seed != before[name].value
    ]


def is_within(key: str, tops: Collection[str]) -> bool:
    """Return whether a key belongs to an input of one of these dynamic combos or groups."""
    return bool(tops) and any(above in tops for above in above(key))


class RunValues(NamedTuple):
    """The graph that a run executed, the inputs of its request, and its seeds by node and input."""

    graph: Graph
    inputs: Mapping[str, Any]
    seeds: Mapping[str, int]


MAX_SHOWN = 80
"""How many characters of a value without a field are shown at most."""


def shorten(value: object) -> str:
    """Return a value as text of at most `MAX_SHOWN` characters."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"


def shown_form(
    graph: Graph,
    definitions: AnyDefinitions = None,
    ui: AnySaved | None = None,
    inputs: Mapping[str, Any] | None = None,
    run: RunValues | None = None,
    *,
    brief: bool = False,
) -> dict[str, Any]:
    """Return the form of a workflow with these inputs, or with those of a run.

    `handlers.workflows.WorkflowForm` describes it.
    """
    nodes, inputs = NodeDefinitions.of(definitions), inputs or {}
    saved = None if ui is None else SavedWorkflow.of(ui)
    made = workflow_form(graph, nodes, saved)
    structure = FormStructure(made, graph, nodes, saved)
    if run is not None:
        inputs = structure.told_by(run.graph, {**run.inputs, **inputs})
    structure.choose(inputs)
    if run is not None:
        own = {f"{f.node_id}.{f.input_name}": key for key, f in structure.fields.items()}
        seeds = {own[name]: seed for name, seed in run.seeds.items() if name in own}
        inputs = {**inputs, **seeds}
    fields, groups = structure.fields, list(structure.groups.values())
    values = {key: page_value(field, field.initial) for key, field in fields.items()}
    problems = {f"{each.node}.{each.input}": f"must be {each.expected}" for each in made.mismatches}
    present = {key: value for key, value in inputs.items() if value is not None}
    given = apply_inputs(structure.graph, present, strict=False, definitions=nodes)
    shown = list(fields.values())
    unlocked = unlocked_seeds(shown, structure.graph, saved, nodes)
    # a number that the editor draws anew, such as the value of a PrimitiveInt, is a seed
    shown = [
        each.copied(kind="seed") if each.kind == "int" and each.key in unlocked else each
        for each in shown
    ]
    others = _show_given(shown, given, values, problems, _row_groups(structure.groups))
    alike = list[dict[str, Any]]() if brief else None
    rows = form_rows(shown, groups, alike)
    costs = partner_nodes(given.graph, nodes)
    lists = _Numbered()
    for row in rows:
        if row["kind"] == "group":
            if row["rows"] is not None:
                declared = given.names.declared(row["node"])(row["input"])
                own_inputs = inputs_of(given.graph[row["node"]])
                found = {} if declared is None else row_values(declared, own_inputs)
                row["rows"] = list(found.values())
        else:
            row["choices"] = lists.number(row.pop("options"))
            if not brief:
                row["names"] = given.names.of(row["node"], row["input"])
            target = row["node"], row["input"]
            if saved is None:
                row["choosable"] = ":" not in row["node"]
            else:
                row["choosable"] = fields[row["key"]].chosen or made.author.can_choose(target)
    return {
        **({"rows": rows} if alike is None else _brief(rows, values, alike)),
        "values": values,
        "choices": lists.every,
        "unlocked": unlocked,
        "outputs": made.outputs,
        "problems": problems,
        "others": others,
        "unknown": given.unknown,
        "given": _written(inputs, fields, given, structure.saved),
        "price": costs["text"] if costs else "",
        "untold": [] if run is None else structure.untold(run.graph, present),
        "partner_nodes": costs,
        "mismatches": [str(each) for each in made.mismatches],
        "warnings": made.warnings,
    }


def _brief(
    rows: list[dict[str, Any]], values: Mapping[str, Any], alike: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return rows without what their reader knows, and once what several have in common."""
    titles: dict[int, str] = {}
    for row in rows:
        is_field, key = "alike" in row, row["key"]
        for name in _OF_ROWS if is_field else ABSENT:
            if name in row and row[name] == ABSENT[name]:
                del row[name]
        if "section" in row:
            titles[row["section"]["id"]] = row["section"]["title"]
            row["section"] = len(titles) - 1
        del row["label" if row["parts"] != ["", row["label"], ""] else "parts"]
        if not is_field:
            continue
        if key == f"{row['node']}.{row['input']}":
            del row["key"]
        if row["keys"] == [key]:
            del row["keys"]
        if row["original"] == values[key]:
            del row["original"]
        del row["input"], row["kind"]
    return {"rows": rows, "alike": alike, "sections": [*titles.values()]}


def _written(
    inputs: Mapping[str, Any], fields: Mapping[str, FormField], given: AppliedInputs, old: Any
) -> dict[str, Any]:
    """Return inputs by the keys of their fields, as the form writes them, if they are changes."""
    # `old` has the keys of the fields of the workflow itself.
    by_target = {(field.node_id, field.input_name): field for field in fields.values()}
    names, written = given.names, {}
    for name, value in inputs.items():
        if name in given.unknown:
            continue
        field = fields.get(name)
        if field is None and name not in names.external:
            shown = [by_target[target] for target in names.find(name) if target in by_target]
            # what sets inputs of several nodes is not meant
            field = next((f for f in shown if len(names.external.get(f.key, "1")) == 1), None)
        if (
            field is None
            or not isinstance(value, (str, int, float, dict))
            or not (isinstance(value, str) or can_show(field, value))
        ):
            written[name] = value
        elif page_value(field, value) != page_value(field, field.initial) or field.key not in old:
            written[field.key] = page_value(field, value)
    return written


def _show_given(
    fields: Sequence[FormField],
    given: AppliedInputs,
    values: dict[str, Any],
    problems: dict[str, str],
    groups: Collection[str],
) -> dict[str, str]:
    """Put the values of inputs into those of a form, and return the inputs without a field."""
    if not given.given:
        return {}
    shown = {(field.node_id, field.input_name): field for field in fields}
    sets = {key: field for field in fields for key in field.keys}
    others: dict[str, str] = {}
    # The groups of these rows show what has no field.
    lists = {key for (node, name), key in given.given.items() if f"{node}.{name}" in groups}
    for (node_id, name), key in given.given.items():
        value = unwrapped(inputs_of(given.graph[node_id]).get(name))
        field = shown.get((node_id, name))
        if field is not None and can_show(field, value):
            values[field.key] = written = page_value(field, value)
            problems.pop(field.key, None)
            try:
                read_value(field, written)
            except InvalidRequestError as error:
                problems[field.key] = str(error.details["problem"])
            continue
        twin = sets.get(f"{node_id}.{name}") or sets.get(key)
        if twin is None and key in lists:
            continue
        if twin is None or page_value(twin, value) != values[twin.key]:
            others[key] = shorten(value)
    return others


def _row_groups(groups: Mapping[str, InputGroup]) -> set[str]:
    return {key for key, group in groups.items() if group.rows is not None}


class _Numbered:
    """The different lists of choices of a form: many fields may have the same long one."""

    def __init__(self) -> None:
        self.every: list[list[Any]] = []
        self._numbers: dict[int, int] = {}

    def number(self, choices: list[Any] | None) -> int | None:
        """Return the number of a list."""
        if choices is None:
            return None
        number = self._numbers.setdefault(id(choices), len(self.every))
        if number == len(self.every):
            self.every.append(choices)
        return number


class FormStructure:
    """The fields and groups of a form, and the graph that has them.

    The option of a dynamic combo decides which further inputs there are, and a group has as many
    inputs or rows as were added to it.
    """

    def __init__(
        self, made: WorkflowForm, graph: Graph, nodes: NodeDefinitions, saved: SavedWorkflow | None
    ) -> None:
        self._workflow = self.graph = graph
        self._definitions, self._ui = nodes, saved
        self.fields = self.saved = {field.key: field for field in made.fields}
        self.groups = self._groups = {group.key: group for group in made.groups}

    def choose(self, inputs: Mapping[str, Any]) -> None:
        """Change to the fields that the workflow has with these inputs, with its own values."""
        chosen = self._deciding(inputs)
        if not chosen:
            return
        self.graph, made = self._form_with(chosen)
        moved = {
            field.key
            for field in made.fields
            if field.dynamic
            and (field.key not in self.saved or self.saved[field.key].value != field.value)
        }
        self.fields = {
            field.key: field.copied(value=self.saved[field.key].value)
            if field.key in self.saved and not is_within(field.key, moved)
            else field
            for field in made.fields
        }
        self.groups = {group.key: group for group in made.groups}

    def _form_with(self, inputs: Mapping[str, Any]) -> tuple[Graph, WorkflowForm]:
        changed = apply_inputs(
            self._workflow, inputs, strict=False, definitions=self._definitions
        ).graph
        return changed, workflow_form(changed, self._definitions, self._ui)

    def _deciding(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what among these inputs decides which fields there are."""
        if not inputs:
            return {}
        tops = {field.key for field in self.saved.values() if field.dynamic} | self._groups.keys()
        applied = apply_inputs(self._workflow, inputs, strict=False, definitions=self._definitions)
        given = (f"{node_id}.{name}" for node_id, name in applied.given)
        if not any(key in tops or is_within(key, tops) for key in given):
            return {}
        made = workflow_form(applied.graph, self._definitions, self._ui)
        fields = {field.key: field for field in made.fields}
        groups = {group.key: group for group in made.groups}
        rows = _row_groups(groups)
        grows = groups.keys() - rows  # autogrow groups
        more = [k for k in fields if k not in self.saved and is_within(k, grows)]
        fewer = [k for k in self.saved if k not in fields and is_within(k, grows)]
        options = {key: field.value for key, field in fields.items() if field.dynamic}
        chosen = {
            **options,
            **{key: fields[key].fresh for key in more if not is_within(key, rows)},
            **dict.fromkeys(fewer),
        }
        lists = self._lists_of(groups, options)
        return {**{k: v for k, v in chosen.items() if not is_within(k, lists)}, **lists}

    def _lists_of(
        self, groups: Mapping[str, InputGroup], options: Mapping[str, Any]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of groups: options and links, and values of the workflow beside them."""
        saved = self.saved
        changed = {k for k, v in options.items() if k not in saved or saved[k].value != v}
        lists: dict[str, list[dict[str, Any]]] = {}
        for group in groups.values():
            if group.rows is None or is_within(group.key, _row_groups(groups)):
                continue
            lists[group.key] = []
            for index, row in group.rows.items():
                kept: dict[str, Any] = {}
                for name, value in row.items():
                    key = f"{group.key}.{index}.{name}"
                    if key in options:
                        kept[name] = options[key]
                    elif not isinstance(value, (str, int, float)):
                        kept[name] = value
                    elif key in saved and not is_within(key, changed):
                        kept[name] = saved[key].value
                lists[group.key].append(kept)
        return lists

    def told_by(self, graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs with which the workflow has the values of a run, by their keys.

        The run's graph decides. The inputs of its request only set what the graph does not have as
        a value: external inputs that were replaced, and files that a node was added for. None is
        the value of an input that is removed from a group.
        """
        values = self._values_in(graph)
        names, kept = InputNames(self._workflow, self._definitions), {}
        lists = {
            group.key: self._rows_in(graph, group)
            for group in self._groups.values()
            if group.rows is not None and self._is_in(graph, group.node_id)
        }
        for key, value in inputs.items():
            if is_output(value):
                continue  # its file or text is in the graph
            targets = apply_inputs(self._workflow, {key: value}, strict=False).given
            if targets and targets.keys() <= values.keys():
                continue
            if key in names.external or not {".".join(t) for t in names.find(key)} <= lists.keys():
                kept[key] = value
        changed = {
            f"{node_id}.{name}": value
            for (node_id, name), value in values.items()
            if unwrapped(inputs_of(self._workflow[node_id]).get(name)) != value
        }
        changed = {key: v for key, v in changed.items() if not is_within(key, lists)}
        changed |= {
            key: rows
            for key, rows in lists.items()
            if rows != list((self._groups[key].rows or {}).values())
        }
        gone = [
            key
            for key, field in self.saved.items()
            if is_within(key, self._groups.keys() - _row_groups(self._groups))
            and self._is_in(graph, field.node_id)
            and field.input_name not in inputs_of(graph[field.node_id])
        ]
        return {**kept, **changed, **dict.fromkeys(gone)}

    def _rows_in(self, graph: Graph, group: InputGroup) -> list[dict[str, Any]]:
        """Return the rows that a run's graph has of a group."""
        node = graph[group.node_id]
        declared = self._definitions.declared_input(
            class_of(node), group.input_name, inputs_of(node)
        )
        return [] if declared is None else list(row_values(declared, inputs_of(node)).values())

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
            for key, field in self.saved.items()
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
            if not is_link(value) and not marks_in(value)  # an output that is not there yet
        }
