"""HTML of nodes, findings and differences; every text in it is escaped."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ..client.text import counted, graph_rows

if TYPE_CHECKING:
    from ..client.workflow import Validation
    from ..graphs.diff import GraphDiff

WORDS = {
    "removed": "Removed",
    "added": "Added",
    "replaced": "Replaced",
    "switched": "Switched",
    "renamed": "Renamed",
    "rewired": "Rewired",
    "changed": "Changed",
}


def nodes_table(graph: dict[str, Any], found: Validation | None = None) -> str:
    """Return a table of nodes: those with findings first, then in the order of execution.

    Parameters
    ----------
    graph : dict
        In API format.
    found : Validation, optional
        The findings.
    """
    rows = []
    findings_of = {} if found is None else found.by_node
    for title, kind, node_id, inputs in sorted(
        graph_rows(graph), key=lambda entry: entry[2] not in findings_of
    ):
        problems = findings_of.get(node_id, [])
        name = f"<b>{html.escape(title)}</b>"
        faint = f"id {node_id}" if title == kind else f"{kind}, id {node_id}"
        items = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
        findings = f'<ul class="comfydeploy-findings">{items}</ul>' if items else ""
        rows.append(
            f'<tr class="{"mod-bad" if problems else ""}"><td>{name}'
            f'<div class="comfydeploy-note">{html.escape(faint)}</div></td>'
            f"<td>{html.escape(inputs)}{findings}</td></tr>"
        )
    head = '<thead><tr><th scope="col">Node</th><th scope="col">Inputs</th></tr></thead>'
    return (
        '<div class="comfydeploy-scroll" tabindex="0" role="region" aria-label="Nodes">'
        f'<table class="comfydeploy-nodes">{head}<tbody>{"".join(rows)}</tbody></table></div>'
    )


def verdict(found: Validation) -> str:
    """Return a line with the result of a validation, and the findings that concern no node."""
    bad = len(found.by_node)
    if found.valid and not bad:
        words, kind = "ComfyUI would run this workflow", "success"
    elif found.valid:
        words, kind = f"ComfyUI would run a part of it; look at {_nodes(bad)}", "warn"
    else:
        words, kind = f"ComfyUI would refuse this workflow; look at {_nodes(bad)}", "error"
        if not bad:
            words = "ComfyUI would refuse this workflow"
    doubt = f" ({found.doubt})" if found.doubt else ""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in found.general)
    general = f"<ul>{items}</ul>" if items else ""
    return (
        f'<div class="comfydeploy-verdict mod-{kind}" role="status">'
        f"{html.escape(words + doubt)}{general}</div>"
    )


def diff_list(diff: GraphDiff) -> str:
    """Return a list of changes, each with its kind."""
    if not diff:
        return f'<div role="status">{html.escape(str(diff).capitalize())}.</div>'
    lines = "".join(
        f'<li><span class="comfydeploy-kind mod-{change.kind}">{WORDS[change.kind]}</span> '
        f"<span>{html.escape(change.text.removeprefix(change.kind).strip())}</span></li>"
        for change in diff
    )
    return (
        f'<div role="status">{counted(len(diff), "difference")}</div>'
        f'<ul class="comfydeploy-scroll comfydeploy-changes">{lines}</ul>'
    )


def _nodes(count: int) -> str:
    return "the node marked below" if count == 1 else f"the {count} nodes marked below"
