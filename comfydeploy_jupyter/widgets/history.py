"""The earlier runs of a workflow."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import traitlets as t

from ..client import Result
from ..client.server import READ_TIMEOUT
from ..client.stream import FINAL
from ..display.page import View, in_thread, script
from ..errors import ComfyDeployError, NotFoundError
from ..graphs.diff import diff_graphs
from ..graphs.form import page_value, workflow_form
from ..graphs.formats import title_of
from .gallery import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from ..client import Deletion, Run, Workflow
    from ..client.server import Server
    from ..graphs.form import FormField
    from ..graphs.formats import Graph
    from .base import Panel


PICTURES = 24  # pictures of a run that the page gets
VALUES = 12  # changed inputs in the tooltip of a run
MAX_LENGTH = 20_000  # characters of a text
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
            {
                "name": file.filename,
                "kind": "hdr" if file.is_hdr else "image",
                "query": file.query,
                "size": size_of(file),
            }
            for file in files[:PICTURES]
        ],
        "kind": kind or ("text" if result.texts else "file" if result.files else "no output"),
        "summary": "\n".join(text[:200] for text in changed[:VALUES]),
        "pinned": run.pinned,
        "from_editor": run.from_editor,
        "labels": run.labels,
        "seeds": sorted({str(seed) for seed in result.seeds.values()}),
        "problem": problem[:MAX_LENGTH],
    }


def folder_of(server: Server, query: dict[str, str]) -> str:
    """Return the folder of a file on the disk of the server; empty if it is not there."""
    parts = [query.get("type", "output"), query.get("subfolder", "")]
    path = "/".join(part for part in parts if part)
    address = server.address("fs/stat", {"path": path, "machine": query.get("machine")})
    try:
        with server.request("GET", address, timeout=READ_TIMEOUT) as response:
            return str(response.json()["path"])
    except ComfyDeployError:
        return ""


class RunGraphs:
    """The graphs of the runs that were looked at last."""

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
            [field.label, field.value[:MAX_LENGTH]]
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
    return text[:MAX_LENGTH]


PAGE = 100
"""How many runs are requested at first, and how many more at a time."""

WATCHED, WATCH_INTERVAL = 10, 3.0
"""How many of the newest runs are compared with those before, and how often, s."""

PICTURE_KIND = "image"
"""The kind of form field that takes a picture."""


class History(View):
    """Shows the earlier runs of a workflow, whether a panel or a script started them."""

    _esm = script("history")

    # the runs that `is_shown` chooses, newest first, as `entry_of` returns them
    runs: t.List[Any] = t.List().tag(sync=True)
    more = t.Bool(False).tag(sync=True)
    chosen = t.Unicode().tag(sync=True)
    opened = t.Bool(True).tag(sync=True)
    # what the user has chosen: ``status``, ``search``, ``days``, ``after``, ``before``,
    # ``label``, ``pinned``
    filter = t.Dict().tag(sync=True)
    # the names and values of the labels of all runs that were shown
    labels: t.List[Any] = t.List().tag(sync=True)
    # the key and the label of each input of the form that takes a picture
    inputs: t.List[Any] = t.List().tag(sync=True)

    def __init__(
        self,
        panel: Panel,
        show: Callable[[Result], object],
        reuse: Callable[[str], str],
        set_input: Callable[[str, Path], object],
    ) -> None:
        self._show = show
        self._reuse = reuse
        self._set_input = set_input
        self._workflow: Workflow | None = None
        self._known: dict[str, Run] = {}
        self._graphs = RunGraphs()
        self._refreshing = threading.Lock()
        self._wake = threading.Event()
        super().__init__(panel)
        self.observe(lambda _: panel.start(self._apply_filter), "filter")

    def of(self, workflow: Workflow) -> list[Run]:
        """Show the runs of another workflow; return those that have not ended, oldest first."""
        self._workflow, self._known = workflow, {}
        with self.hold_sync():
            self.runs, self.labels, self.filter = [], [], {}
        return self.refresh()

    def offer(self, fields: Collection[FormField], definitions: dict[str, Any] | None) -> None:
        """Offer the inputs of the form that take a picture."""
        self.inputs = [[field.key, field.label] for field in fields if field.kind == PICTURE_KIND]
        self._graphs = RunGraphs(definitions, fields)

    def clear(self) -> None:
        """Show no runs."""
        self._workflow, self._known = None, {}
        with self.hold_sync():
            self.runs, self.more, self.chosen, self.filter = [], False, "", {}

    def refresh(self) -> list[Run]:
        """Request the newest runs again; return those that have not ended, oldest first."""
        return self._load(0)

    def watch(self, panel: Panel) -> None:
        """Show what others start, delete or pin, until the panel is closed; call it in a thread.

        Others are scripts, other panels and ComfyUI's editor. Nothing is requested while the list
        is folded, or while no cell shows the panel.
        """
        before = None
        while True:
            panel.idle(self._wake, WATCH_INTERVAL)
            if panel.closing:
                return
            workflow = self._workflow
            if workflow is None or not self.opened:
                continue
            # A server that does not respond is the subject of other parts of the panel.
            with contextlib.suppress(ComfyDeployError):
                runs = panel.comfy.runs(WATCHED, 0, of=workflow, **self._conditions())
                newest = [
                    (
                        run.prompt_id,
                        run.known["status"],
                        run.pinned,
                        is_shown(run) and run.known.get("live_status"),  # why it waits
                    )
                    for run in runs
                ]
                if (workflow, newest) != before:
                    self.refresh()
                    before = workflow, newest

    def stop(self) -> None:
        """Wake the thread of `watch`, which then ends."""
        self._wake.set()

    def record(self, prompt_id: str) -> dict[str, Any]:
        """Return the record of a run."""
        known = self._known.get(prompt_id)
        return self._panel.comfy.get(prompt_id).known if known is None else known.known

    def graph(self, prompt_id: str) -> Graph:
        """Return the graph that a run executed; raises NotFoundError like `record`."""
        return self._graphs.of(self._panel.comfy.server, prompt_id)

    def _load(self, offset: int) -> list[Run]:
        """Request a page of runs, and put them in the place of those that are shown there."""
        workflow = self._workflow
        if workflow is None:
            return []
        with self._refreshing:
            found = self._panel.comfy.runs(PAGE + 1, offset, of=workflow, **self._conditions())
            if workflow is not self._workflow:
                return []
            page = found[:PAGE]
            self._known.update({run.prompt_id: run for run in page})
            server = self._panel.comfy.server
            ended = [entry_of(run, server) for run in page if is_shown(run)]
            last = page[-1].known["created_at"] if page else ""
            here = {run.prompt_id for run in page}
            # Runs that are newer than this page, or older, stay; those between were deleted.
            first = page[0].known["created_at"] if page else ""
            newer = [r for r in self.runs if offset and r["created_at"] >= first]
            older = [r for r in self.runs if len(found) > PAGE and r["created_at"] <= last]
            kept = [
                [entry for entry in part if entry["prompt_id"] not in here]
                for part in (newer, older)
            ]
            labels = {tuple(each) for each in self.labels}
            labels |= {pair for entry in ended for pair in entry["labels"].items()}
            with self.hold_sync():
                # Runs of ComfyUI's editor may have been stored long after their end.
                shown = [*kept[0], *ended, *kept[1]]
                self.runs = sorted(shown, key=lambda entry: entry["created_at"], reverse=True)
                self.labels = [list(pair) for pair in sorted(labels)]
                if offset or not kept[1]:
                    self.more = len(found) > PAGE
        return [run for run in found[::-1] if run.known["status"] not in FINAL]

    def _conditions(self) -> dict[str, Any]:
        """Return what the user has chosen as arguments of `Comfy.runs`."""
        chosen: dict[str, Any] = self.filter
        days = int(chosen.get("days") or 0)
        latest = datetime.now().astimezone() - timedelta(days=days) if days else None
        name, value = chosen.get("label") or (None, None)
        return {
            "status": chosen.get("status") or None,
            "search": chosen.get("search") or None,
            "after": chosen.get("after") or latest,
            "before": chosen.get("before") or None,
            "labels": None if name is None else {name: value},
            "pinned": True if chosen.get("pinned") else None,
        }

    def _apply_filter(self) -> None:
        self.runs = []
        self.refresh()

    def _notify(self, text: str, *, problem: bool = False) -> None:
        """Show a message beside the runs."""
        self.send({"kind": "notice", "text": text, "problem": problem})

    # -- messages of the page ------------------------------------------------------------------

    @in_thread
    def _on_refresh(self, _: object) -> None:
        self.refresh()

    @in_thread
    def _on_more(self, _: object) -> None:
        self._load(len(self.runs))

    @in_thread
    def _on_show(self, message: dict[str, Any]) -> None:
        prompt_id = str(message["prompt_id"])
        result = self._result(prompt_id)
        self.chosen = prompt_id
        self._show(result)

    def _result(self, prompt_id: str) -> Result:
        workflow = self._workflow
        source = None if workflow is None else workflow.source
        return Result(self._panel.comfy.server, self.record(prompt_id), source)

    @in_thread
    def _on_reuse(self, message: dict[str, Any]) -> None:
        self._notify(self._reuse(str(message["prompt_id"])))

    @in_thread
    def _on_use(self, message: dict[str, Any]) -> None:
        """Use a picture of a run as an input."""
        key, files = str(message["key"]), self._result(str(message["prompt_id"])).files
        file = next(file for file in files if file.query == message["query"])
        with tempfile.TemporaryDirectory(prefix="comfydeploy-") as folder:
            self._set_input(key, file.save(folder))
        label = dict(self.inputs).get(key, key)
        self._notify(f"{file.filename} is the picture of “{label}” now.")

    @in_thread
    def _on_pin(self, message: dict[str, Any]) -> None:
        prompt_ids, pinned = list(message["prompt_ids"]), bool(message["pinned"])
        try:
            self._panel.comfy.runs.pin(prompt_ids, pinned)
        except NotFoundError:
            self._notify("A run was deleted in the meantime.", problem=True)
            self.refresh()
            return
        self.runs = [
            {**entry, "pinned": pinned} if entry["prompt_id"] in prompt_ids else entry
            for entry in self.runs
        ]

    @in_thread
    def _on_delete(self, message: dict[str, Any]) -> None:
        """Delete runs; all failed ones of the workflow if the message names none."""
        runs, workflow = self._panel.comfy.runs, self._workflow
        prompt_ids, files = message.get("prompt_ids"), bool(message.get("files"))
        if workflow is None:
            return
        try:
            if prompt_ids is None:
                deletion = runs.delete(of=workflow, status="failed", files=files)
            else:
                deletion = runs.delete(prompt_ids, files=files)
        except ComfyDeployError as error:
            self._notify(f"Not deleted: {error}", problem=True)
        else:
            self._notify(_report(deletion), problem=bool(deletion.kept))
            failed = [each["prompt_id"] for each in self.runs if each["status"] == "failed"]
            kept = {kept.prompt_id for kept in deletion.kept if kept.file is None}
            gone = {*(prompt_ids or failed)} - kept
            self.runs = [each for each in self.runs if each["prompt_id"] not in gone]
        self.refresh()

    @in_thread
    def _on_facts(self, message: dict[str, Any]) -> None:
        """Send what the page shows beside a picture in full size."""
        prompt_id, query = str(message["prompt_id"]), str(message.get("query") or "")
        answer = {"kind": "facts", "prompt_id": prompt_id, "query": query}
        server = self._panel.comfy.server
        try:
            prompts = self._graphs.prompts(server, prompt_id)
            folder = folder_of(server, dict(parse_qsl(query))) if query else ""
        except ComfyDeployError as error:
            self.send({**answer, "prompts": [], "folder": "", "problem": str(error)})
            return
        self.send({**answer, "prompts": prompts, "folder": folder})

    @in_thread
    def _on_compare(self, message: dict[str, Any]) -> None:
        """Send the values in which two runs differ."""
        first, second = map(str, message["prompt_ids"])
        answer: dict[str, Any] = {"kind": "differences", "prompt_ids": [first, second]}
        try:
            lines = self._graphs.differences(self._panel.comfy.server, first, second)
        except ComfyDeployError as error:
            self.send({**answer, "lines": [], "problem": str(error)})
            return
        self.send({**answer, "lines": lines})


def _report(deletion: Deletion) -> str:
    """Return what was deleted, and the first reasons why something was kept."""
    reasons = list(dict.fromkeys(kept.reason for kept in deletion.kept))
    more = " …" if len(reasons) > 3 else ""
    why = f" ({'; '.join(reasons[:3])}{more})" if reasons else ""
    return f"{deletion}{why}."
