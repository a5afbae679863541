"""The data of runs that the history shows."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ..client import Result
from ..client.server import READ_TIMEOUT
from ..client.stream import FINAL
from ..errors import ComfyDeployError
from ..graphs.diff import diff_graphs
from ..graphs.form import page_value, workflow_form
from ..graphs.formats import title_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..client import Run
    from ..client.server import Server
    from ..graphs.form import FormField
    from ..graphs.formats import Graph

PICTURES = 24  # pictures of a run that the page gets
VALUES = 12  # changed inputs in the tooltip of a run
LONGEST = 20_000  # characters of a text
KEPT_GRAPHS = 8


def is_shown(run: Run) -> bool:
    """Return whether the history shows a run: it has ended, or no machine can execute it now."""
    status = run.known["status"]
    return status in FINAL or (status == "queued" and bool(run.known.get("live_status")))


def entry_of(run: Run, server: Server) -> dict[str, Any]:
    """Return a run that `is_shown` as the script in the page takes it."""
    result = Result(server, run.known, run.workflow)
    waits = result.status == "queued"
    # An EXR file has a small copy only where the server can make one.
    files = [file for file in result.files if file.is_image]
    files.extend(file for file in result.files if file.is_hdr)
    kinds = {file.medium for file in result.files}
    kind = next((word for word in ("video", "audio", "3d") if word in kinds), "")
    title = "Waiting" if waits else result.status.capitalize()
    problem = str(run.known["live_status"]) if waits else result.failure
    changed = [f"{key}: {value}" for key, value in (run.known.get("inputs") or {}).items()]
    return {
        "prompt_id": run.prompt_id,
        "status": result.status,
        "title": "" if result.status == "success" else title,
        "created_at": run.known["created_at"],
        "seconds": result.execution_time,
        "pictures": [
            {"name": file.filename, "kind": "hdr" if file.is_hdr else "image", "query": file.query}
            for file in files[:PICTURES]
        ],
        "kind": kind or ("text" if result.texts else "file" if result.files else "no output"),
        "summary": "\n".join(text[:200] for text in changed[:VALUES]),
        "pinned": run.pinned,
        "from_editor": run.from_editor,
        "labels": run.labels,
        "seeds": sorted({str(seed) for seed in result.seeds.values()}),
        "problem": problem[:LONGEST],
    }


def folder_of(server: Server, query: dict[str, str]) -> str:
    """Return the folder of a file on the disk of the server; empty if it is not there.

    Parameters
    ----------
    server : Server
        The server.
    query : dict
        The query of the file's address, as the route ``view`` takes it.
    """
    parts = [query.get("type", "output"), query.get("subfolder", "")]
    path = "/".join(part for part in parts if part)
    address = server.address("fs/stat", {"path": path, "machine": query.get("machine")})
    try:
        with server.request("GET", address, timeout=READ_TIMEOUT) as response:
            return str(response.json()["path"])
    except ComfyDeployError:
        return ""


class RunGraphs:
    """The graphs of the runs that were looked at last.

    Parameters
    ----------
    definitions : dict, optional
        The node definitions, by which prompts are recognised.
    fields : collection of FormField
        The fields of the form, whose labels are shown; others have those of the workflow itself.
    """

    def __init__(
        self, definitions: dict[str, Any] | None = None, fields: Collection[FormField] = ()
    ) -> None:
        self._definitions = definitions
        self._fields = fields
        self._kept: OrderedDict[str, Graph] = OrderedDict()

    def prompts(self, server: Server, prompt_id: str) -> list[list[str]]:
        """Return the label and the text of each text field of a run that has several lines."""
        fields = workflow_form(self.of(server, prompt_id), self._definitions, None).fields
        return [
            [field.label, field.value[:LONGEST]]
            for field in fields
            if field.kind == "multiline" and isinstance(field.value, str) and field.value
        ]

    def differences(self, server: Server, first: str, second: str) -> list[list[str]]:
        """Return the differences of two runs: what differs, the values of both, and their kind.

        Names and values are those of the form. The kind is that of the field, if there is one.
        """
        graph = self.of(server, second)
        made = workflow_form(graph, self._definitions, None).fields
        fields = {(f.node_id, f.input_name): f for f in (*made, *self._fields)}
        lines = []
        for change in diff_graphs(self.of(server, first), graph):
            if change.kind == "changed":
                field = fields.get((change.node_id, str(change.input_name)))
                node = graph[change.node_id]
                name = f"{title_of(node) or node.get('class_type')}: {change.input_name}"
                values = [_shown(value, field) for value in (change.old, change.new)]
                known = (name, "") if field is None else (field.label, field.kind)
                lines.append([known[0], *values, known[1]])
            else:
                lines.append([change.text, "", ""])
        return lines

    def of(self, server: Server, prompt_id: str) -> Graph:
        """Return the graph that a run executed."""
        graph = self._kept.get(prompt_id)
        if graph is None:
            graph = server.get("runs", graph=prompt_id)["workflow_api"]
            self._kept[prompt_id] = graph
            while len(self._kept) > KEPT_GRAPHS:
                self._kept.popitem(last=False)
        return graph


def _shown(value: object, field: FormField | None) -> str:
    """Return a value as the form shows it."""
    if value is None:
        return "-"
    if field is not None and not isinstance(value, (list, dict)):
        value = page_value(field, value)
    if isinstance(value, bool):
        return "on" if value else "off"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:LONGEST]
