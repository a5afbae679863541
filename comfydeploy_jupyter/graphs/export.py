"""A workflow as a Python script that runs it.

`notebook` makes its cells from the same pieces.
"""

from __future__ import annotations

import builtins
import html
import keyword
import math
import re
import textwrap
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InvalidRequestError
from .form import FormField, InputGroup, with_rows, workflow_form
from .formats import AnyGraph, class_of, title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

WIDTH = 88
"""Width of the generated code, columns; longer texts are not split."""

MAX_VARIABLES = 24
"""The most inputs that become variables, the most useful ones; the others are in the graph."""

MAX_OPTIONS, MAX_COMMENT, MAX_MAKERS = 12, 300, 6
"""The most options and characters of a comment; the most nodes that the introduction names."""

MAX_BOUND = 1e6
"""Bounds of numbers beyond this are not shown, since they do not help users."""

MAX_DEPTH = 80
"""Python's parser allows at least 100 levels of brackets; some are around the graph."""

_TAKEN = frozenset(
    {*dir(builtins), "comfy", "comfydeploy_jupyter", "path", "result", "text", "workflow"}
)


@dataclass(frozen=True)
class ScriptParts:
    """The pieces of a script or notebook that runs a workflow."""

    title: str
    about: str
    variables: str  # code: an assignment with a comment for each input
    workflow: str  # code: ``workflow = comfy.load({…})``
    run: str  # code: ``result = comfy.run(workflow, inputs={…})``


Entries: TypeAlias = "Sequence[FormField | InputGroup]"
"""The inputs that become variables: fields, and groups of rows."""


def python_script(graph: AnyGraph, form: Entries | None = None, *, title: str = "") -> str:
    parts = script_parts(graph, form, title=title)
    variables = f"{parts.variables}\n\n" if parts.variables else ""
    return (
        f'"""{_in_docstring(parts.title)}.\n\n{_in_docstring(parts.about)}\n"""\n\n'
        "import comfydeploy_jupyter\n\n"
        f"{variables}"
        "comfy = comfydeploy_jupyter.connect()\n\n"
        f"{parts.workflow}\n\n"
        f"{parts.run}\n\n"
        'print(f"{result.status} after {result.execution_time or 0:.2f} s")\n'
        "for text in result.texts:\n"
        "    print(text)\n"
        'for path in result.save("outputs"):\n'
        "    print(path)\n"
    )


def script_parts(graph: AnyGraph, form: Entries | None = None, *, title: str = "") -> ScriptParts:
    """Return the pieces of scripts and notebooks; parameters are those of `python_script`."""
    form = with_rows(workflow_form(graph)) if form is None else form
    chosen, others = form[:MAX_VARIABLES], form[MAX_VARIABLES:]
    named = list(zip(variable_names(chosen), chosen, strict=True))
    assignments = [_assignment(name, field) for name, field in named]
    if others:
        keys = ", ".join(repr(field.key) for field in others[:3])
        more = _count(len(others), "more input")
        assignments.append(f"# {one_line(f'{more} can be given to run() by their keys: {keys} …')}")
    inputs = "".join(f"    {key!r}: {name},\n" for name, field in named for key in _keys(field))
    given = f", inputs={{\n{inputs}}}" if named else ""
    return ScriptParts(
        one_line(title) or "ComfyUI workflow",
        _about(graph, len(form)),
        "\n\n".join(assignments),
        f"workflow = comfy.load({literal(graph)})",
        f"result = comfy.run(workflow{given})",
    )


def _keys(field: FormField | InputGroup) -> tuple[str, ...]:
    return field.keys if isinstance(field, FormField) else (field.key,)


def variable_names(fields: Iterable[FormField | InputGroup]) -> list[str]:
    """Return a name for each field: a unique, valid identifier that Python does not use."""
    # The first of these that is unique is used: the ``input_id`` that the author of the workflow
    # chose, ``positive_prompt``, the name of the input, the name with the title of its node.
    names: list[str] = []
    taken = set(_TAKEN)
    for field in fields:
        name = next(name for name in _candidates(field) if name not in taken)
        taken.add(name)
        names.append(name)
    return names


def _candidates(field: FormField | InputGroup) -> Iterator[str]:
    own = field.key if field.key != f"{field.node_id}.{field.input_name}" else ""
    prompt = field.label if field.label in ("Positive prompt", "Negative prompt") else ""
    first = _identifier(own or prompt or field.input_name)
    if first not in ("value", "text", "string"):
        yield first
    yield _identifier(field.label.replace(":", " "))
    yield (numbered := _identifier(f"{first}_{field.node_id}"))
    yield from (f"{numbered}_{number}" for number in count(2))


def _identifier(text: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60].strip("_") or "value"
    if name[0].isdigit() or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"input_{name}"
    return name


def _assignment(name: str, field: FormField | InputGroup) -> str:
    comment = one_line("; ".join(_facts(field)))
    if len(comment) > MAX_COMMENT:
        comment = f"{comment[:MAX_COMMENT]} …"
    lines = textwrap.wrap(comment, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    if isinstance(field, InputGroup):
        value = literal([*(field.rows or {}).values()])
    elif field.kind == "color" and type(field.initial) is int and field.initial >= 0:
        value = f"0x{field.initial:06X}"
    else:
        value = literal(field.initial)
    return "\n".join([*(f"# {line}" for line in lines), f"{name} = {value}"])


def _facts(field: FormField | InputGroup) -> Iterator[str]:
    yield field.label
    if isinstance(field, InputGroup):
        yield f"{field.least} to {_count(field.most, 'row')}"
        for each in field.template:
            yield ", ".join([each.key, *list(_facts(each))[1:]])
        return
    if field.required:
        yield "required"
    if field.min is not None and abs(field.min) < MAX_BOUND:
        bounded = field.max is not None and abs(field.max) < MAX_BOUND
        yield f"{field.min:g} to {field.max:g}" if bounded else f"at least {field.min:g}"
    if field.options:
        more = len(field.options) - MAX_OPTIONS
        shown = ", ".join(repr(option) for option in field.options[:MAX_OPTIONS])
        yield f"one of {shown} and {more} more" if more > 0 else f"one of {shown}"
    if field.tooltip:
        yield field.tooltip
    if field.advanced:
        yield "rarely changed"


def one_line(text: str) -> str:
    """Return a text as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _in_docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _about(graph: AnyGraph, inputs: int) -> str:
    ends = [node for node in graph.values() if class_of(node).startswith(("Save", "Preview"))]
    makers = list(dict.fromkeys(one_line(title_of(node) or class_of(node)) for node in ends))
    sentences = [f"Runs a ComfyUI workflow of {_count(len(graph), 'node')}."]
    if inputs:
        sentences.append(f"It has {_count(inputs, 'input')} to change.")
    if makers:
        sentences.append(f"Its results come from {', '.join(makers[:MAX_MAKERS])}.")
    return " ".join(sentences)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def literal(value: object, indent: int = 0) -> str:
    """Return a JSON value as a Python literal; a long one has several lines."""
    if not isinstance(value, (dict, list)):
        return _flat(value)
    holds_nodes = isinstance(value, dict) and any(isinstance(v, dict) and v for v in value.values())
    flat = _flat(value)
    if not holds_nodes and indent + len(flat) <= WIDTH:
        return flat
    if isinstance(value, dict):
        items = [f"{key!r}: {literal(item, indent + 4)}" for key, item in value.items()]
    else:
        items = [literal(item, indent + 4) for item in value]
    lines = "".join(f"{' ' * (indent + 4)}{item},\n" for item in items)
    return f"{flat[0]}\n{lines}{' ' * indent}{flat[-1]}"


def _flat(value: object, depth: int = 0) -> str:
    if depth > MAX_DEPTH:
        raise InvalidRequestError.of_field(
            "workflow_api", f"is nested more than {MAX_DEPTH} levels deep, too deep for Python"
        )
    if isinstance(value, dict):
        items = ", ".join(f"{key!r}: {_flat(item, depth + 1)}" for key, item in value.items())
        return f"{{{items}}}"
    if isinstance(value, list):
        return f"[{', '.join(_flat(item, depth + 1) for item in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


_MARKDOWN = re.compile(r"([\\`*_\[\]|~$#!])")


def notebook(graph: AnyGraph, form: Entries | None = None, *, title: str = "") -> dict[str, Any]:
    """Return a notebook that loads a workflow, sets its inputs, runs it and shows the result."""
    # Imported here, since the import takes much longer than making a notebook.
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    parts = script_parts(graph, form, title=title)
    about = f"# {_escaped(parts.title)}\n\n{_escaped(parts.about)}"
    connect = "import comfydeploy_jupyter\n\ncomfy = comfydeploy_jupyter.connect()\ncomfy"
    hint = "## Inputs\n\nChange them, then run the cells below again."
    texts = [
        ("about", about, "connect", connect),
        *([("inputs-about", hint, "inputs", parts.variables)] if parts.variables else []),
        ("workflow-about", "## The workflow", "workflow", f"{parts.workflow}\nworkflow"),
        ("run-about", "## Run it", "run", f"{parts.run}\nresult"),
        ("save-about", "## Save the results", "save", 'result.save("outputs")'),
    ]
    cells = [
        cell
        for text_id, text, code_id, code in texts
        for cell in (new_markdown_cell(text, id=text_id), new_code_cell(code, id=code_id))
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )
    nbformat.validate(made)
    return {**made, "cells": [_plain(cell) for cell in cells], "metadata": _plain(made.metadata)}


def _plain(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `NotebookNode` and all in it as dicts, which every JSON encoder knows."""
    return {key: _plain(value) if isinstance(value, dict) else value for key, value in node.items()}


def _escaped(line: str) -> str:
    """Return a line in which no character is Markdown or HTML syntax."""
    return html.escape(_MARKDOWN.sub(r"\\\1", line), quote=False)
