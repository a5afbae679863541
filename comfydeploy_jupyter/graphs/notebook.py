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
    """Return a notebook that loads a workflow, runs it with inputs in variables, shows the result.

    Parameters
    ----------
    graph : Graph
        API format.
    fields : sequence of FormField, optional
        Its inputs, of which the most likely become variables; by default what `input_form` finds
        without definitions.
    title : str
        What the workflow is called.

    Returns
    -------
    dict
        JSON of nbformat 4.5. Whatever the texts of the workflow are, they stay texts in it.

    Raises
    ------
    InvalidRequestError
        The graph is nested too deeply for Python.
    """
    parts = script_parts(graph, fields, title=title)
    cells = [
        _markdown("about", f"# {_escaped(parts.title)}\n\n{_escaped(parts.about)}"),
        _code(
            "connect", "import comfydeploy_jupyter\n\ncomfy = comfydeploy_jupyter.connect()\ncomfy"
        ),
        *(
            [
                _markdown(
                    "inputs-about", "## Inputs\n\nChange them, then run the cells below again."
                ),
                _code("inputs", parts.variables),
            ]
            if parts.variables
            else []
        ),
        _markdown("workflow-about", "## The workflow"),
        _code("workflow", f"{parts.workflow}\nworkflow"),
        _markdown("run-about", "## Run it"),
        _code("run", f"{parts.run}\nresult"),
        _markdown("save-about", "## Keep what it made"),
        _code("save", 'result.save("outputs")'),
    ]
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _markdown(cell_id: str, source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": cell_id, "metadata": {}, "source": source}


def _code(cell_id: str, source: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": cell_id,
        "metadata": {},
        "outputs": [],
        "source": source,
    }


def _escaped(line: str) -> str:
    """Return a line whose characters mean themselves in Markdown."""
    return html.escape(_MARKDOWN.sub(r"\\\1", line), quote=False)
