"""A workflow as a Jupyter notebook that runs it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from .python_script import script_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .form_fields import FormField

_MARKDOWN = re.compile(r"([\\`*_\[\]|~$#!])")


def notebook(
    graph: Mapping[str, Mapping[str, Any]],
    fields: Sequence[FormField] | None = None,
    *,
    title: str = "",
) -> dict[str, Any]:
    """Return a notebook that loads a workflow, sets its inputs, runs it and shows the result."""
    # Imported here, since the import takes much longer than making a notebook.
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    parts = script_parts(graph, fields, title=title)
    about = f"# {_escaped(parts.title)}\n\n{_escaped(parts.about)}"
    connect = "import comfydeploy_jupyter\n\ncomfy = comfydeploy_jupyter.connect()\ncomfy"
    cells = [
        new_markdown_cell(about, id="about"),
        new_code_cell(connect, id="connect"),
    ]
    if parts.variables:
        hint = "## Inputs\n\nChange them, then run the cells below again."
        cells += [
            new_markdown_cell(hint, id="inputs-about"),
            new_code_cell(parts.variables, id="inputs"),
        ]
    cells += [
        new_markdown_cell("## The workflow", id="workflow-about"),
        new_code_cell(f"{parts.workflow}\nworkflow", id="workflow"),
        new_markdown_cell("## Run it", id="run-about"),
        new_code_cell(f"{parts.run}\nresult", id="run"),
        new_markdown_cell("## Save the results", id="save-about"),
        new_code_cell('result.save("outputs")', id="save"),
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
