"""Choosing a workflow, editing its inputs, running it, and its results."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import traitlets as t

from ..client import Result, Run, StoredWorkflow, Workflow, WorkflowVersion
from ..client.files import has_files, upload_all
from ..client.graph import Source, is_json
from ..client.results import NAMED_FILES
from ..client.server import plain
from ..client.workflows import graphs_of
from ..errors import ComfyDeployError, InvalidRequestError, NotFoundError, UnknownInputError
from ..graphs.seeds import MAX_SEED
from .panel import Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import Comfy, FetchedModels

GivenWorkflow: TypeAlias = (
    Workflow | StoredWorkflow | WorkflowVersion | dict[str, Any] | str | bytes | os.PathLike[str]
)
"""What a panel accepts as a workflow."""

MAX_AT_ONCE = 100
"""How many runs one call may queue."""

ASKED_AHEAD = 256 * 1024
"""The characters of a workflow from which its form is asked for before it is sent to the page."""

KEPT = 240.0
"""How long the server certainly has such a form after it was asked for, s."""

MAX_STORED = 200
"""How many stored workflows are searched for a name."""


class RunPanel(Panel):
    """A panel that runs workflows.

    Runs belong to the server: after the page was closed or the kernel was restarted, a panel of the
    same workflow finds them again.

    Parameters
    ----------
    workflow : path, dict, str, bytes, Workflow, StoredWorkflow or WorkflowVersion, optional
        The workflow that is shown first, in API format or in the editor's: the path or content of
        a JSON file or of a picture, video or sound that ComfyUI saved; or the name or id of a
        stored workflow. Others can be chosen in the panel.
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    version : int, optional
        The version of a stored workflow; by default the latest.
    machine : str, optional
        The machine that runs it, by its id or name; default the local one.
    directory : path
        The folder that is searched for workflow files; default the folder of the notebook.
    **kwargs
        Traits of the panel and of `ipywidgets.DOMWidget`, such as ``layout``.

    Attributes
    ----------
    result : Result or None
        The result of the last run that ended; can be observed.
    machine : str or None
        The machine of the next runs; None for the local one; can be set. The form then keeps its
        values, and offers the files and models of the new machine.

    Examples
    --------
    >>> RunPanel("portrait.json")                                    # doctest: +SKIP
    >>> RunPanel()                                                   # doctest: +SKIP
    """

    OWN_ARGUMENTS = ("workflow", "comfy", "version", "machine", "directory")

    _asked: ClassVar[tuple[object, float]] = (None, 0.0)  # for what form, and when

    # the workflow that is shown: {"title", "source", "warnings", "key"}; None for none. Its graphs
    # are text, because a browser rounds large integers
    shown_workflow: Any = t.Dict(default_value=None, allow_none=True).tag(sync=True)
    opening = t.Bool().tag(sync=True)  # whether `show` has not found it yet
    # the inputs that differ from it: numbers may be texts, None removes an input
    values = t.Dict().tag(sync=True)
    # the seeds that every run keeps; None for those that the workflow says
    locked: Any = t.List(default_value=None, allow_none=True).tag(sync=True)
    # the inputs that take several values, one on each line, and the batch that the page shows
    varied = t.Dict().tag(sync=True)
    batch = t.Unicode().tag(sync=True)
    machine = t.Unicode(None, allow_none=True).tag(sync=True)
    directory = t.Unicode(".").tag(sync=True)
    # the runs that Python has queued, and those that the page shows or that wait behind it
    queued: t.List[str] = t.List().tag(sync=True)
    runs: t.List[str] = t.List().tag(sync=True)
    result = t.Any(None, allow_none=True).tag(
        sync=True,
        to_json=lambda result, _: None if result is None else dict(result),
        from_json=lambda reply, panel: panel._result_of(reply),
    )

    def __init__(
        self,
        workflow: GivenWorkflow | None = None,
        comfy: Comfy | Panel | None = None,
        *,
        version: int | None = None,
        machine: str | None = None,
        directory: str | os.PathLike[str] = ".",
        **kwargs: Any,
    ) -> None:
        self._shown: Workflow | None = None
        self._opened = threading.Event()
        self._request = 0
        self._followed: set[str] = set()
        self._following = threading.Lock()
        self._on_result: Callable[[Result], object] | None = None
        super().__init__(
            comfy, machine=machine, directory=str(Path(directory).expanduser().absolute()), **kwargs
        )
        self.observe(self._take_runs, "runs")
        self.observe(self._keep_result, "result")
        self.observe(lambda _: setattr(self, "_shown", None), "shown_workflow")
        if workflow is None:
            self._opened.set()
        else:
            self.show(workflow, version)

    @property
    def ready(self) -> bool:
        """Whether the panel has found its server, and the workflow that it was given."""
        return super().ready and self._opened.is_set()

    @property
    def workflow(self) -> Workflow | None:
        """The workflow whose form is shown, without the changes that were made there."""
        shown = self.shown_workflow
        if self._shown is None and shown:
            source = shown["source"]
            if source.get("workflow_id"):
                stored = self.comfy.workflows.get(source["workflow_id"])
                graphs = graphs_of(stored.version(source.get("version") or "latest"))
            else:
                given = {name: json.loads(text) for name, text in source.items()}
                graph = given.get("workflow_api") or given["workflow"]
                graphs = Source(
                    graph, ui=given.get("workflow") if graph is not given.get("workflow") else None
                )
            self._shown = Workflow(self.comfy.server, graphs, title=shown["title"])
        return self._shown

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that were changed in the form, by their keys.

        Raises
        ------
        InvalidRequestError
            A value is not valid; the message names its field.
        """
        return self._read()[0]

    @property
    def running(self) -> bool:
        """Whether a run is being followed."""
        return bool(self.runs or self._followed)

    @property
    def notes(self) -> list[str]:
        """The warnings about the workflow."""
        return [text for note in self._form().get("notes", ()) for text in note["texts"]]

    @property
    def missing(self) -> FetchedModels:
        """The models and node packs that the workflow names, with those that ComfyUI lacks."""
        return self.comfy.fetch_models(self._known(), machine=self.machine, dry_run=True)

    def fetch_models(self) -> None:
        """Download the missing models, like *Download all*; do not wait for them."""
        workflow = self._known()
        self.start(lambda: self.comfy.fetch_models(workflow, machine=self.machine))

    def on_result(self, call: Callable[[Result], object]) -> None:
        """Call a function with the `Result` of each run that ends, in place of the one before."""
        self._on_result = call

    def show(self, workflow: GivenWorkflow, version: int | None = None) -> None:
        """Show another workflow, in any form that the panel accepts; do not wait for it."""
        self.clear_error()
        self.opening = True
        self._opened.clear()
        self._request += 1
        self.start(self._open, workflow, version, self._request)

    def set_input(self, key: str, value: object) -> None:
        """Set an input of the workflow, e.g. ``set_input("3.steps", 30)``; the form shows it.

        Parameters
        ----------
        key : str
            Any name that ``inputs`` of `Comfy.run` may have: an ``input_id``,
            ``"<node id>.<input>"``, ``"<node title>.<input>"``, the name of an input that exactly
            one node has, or the title of a node that has one value.
        value : object
            Any value that `Comfy.run` takes; files, pictures and arrays are uploaded.

        Raises
        ------
        UnknownInputError
            The name matches no input of the workflow, or several; the message lists candidates.
        InvalidRequestError
            No workflow is shown.
        RunTimeoutError
            The workflow is still being opened.
        """
        if has_files(value):
            uploaded = upload_all(self.comfy.server, {key: value}, machine=self.machine)
            value = uploaded[key]
        before = self.values
        form = self._form({key: plain(value)})
        if key in form["unknown"]:
            raise _unknown(key, form["unknown"][key])
        # the page may have changed others meanwhile
        changed = {name: each for name, each in self.values.items() if before.get(name) != each}
        self.values = {**form["given"], **changed}

    def run(self, times: int = 1) -> None:
        """Queue the workflow, like the button *Run*; do not wait for the run.

        Parameters
        ----------
        times : int
            The number of runs, 1 to 100; seeds that are not locked are drawn anew for each run.

        Raises
        ------
        InvalidRequestError
            `times` or a value of the form is not valid, or no workflow is open; the message names
            what is wrong.
        RunTimeoutError
            The workflow is still being opened.
        """
        if times not in range(1, MAX_AT_ONCE + 1):
            raise InvalidRequestError.of_field("times", f"must be 1 to {MAX_AT_ONCE}")
        self.clear_error()
        changed, form = self._read()
        for row in form["rows"]:
            if _is_missing(row, form["values"].get(row["key"])):
                problem = "must have a value, because the workflow has none"
                raise InvalidRequestError.of_field(row["label"], problem)
        locked = self.locked
        seeds = [
            row
            for row in form["rows"]
            if row["kind"] == "seed"
            and (row["key"] in form["unlocked"] if locked is None else row["key"] not in locked)
        ]
        runs = [{**changed, **_drawn(seeds)} for _ in range(times)]
        self.batch = ""
        self.start(self._submit, self._known(), runs)

    def cancel(self) -> None:
        """Cancel the run that is shown, like the button *Cancel*."""
        self.start(self._cancel, 1)

    def cancel_all(self) -> None:
        """Cancel the run that is shown and all that wait behind it."""
        self.start(self._cancel, None)

    def reuse(self, prompt_id: str) -> str:
        """Put the values and the seeds of an earlier run into the form.

        They are those of the graph that the run executed, whichever workflow it came with.

        Returns
        -------
        str
            A sentence that says so, and names the fields whose values the run does not tell.

        Raises
        ------
        NotFoundError
            There is no run with that id.
        """
        form = self._form(prompt_id=prompt_id)
        self.locked = [row["key"] for row in form["rows"] if row["kind"] == "seed"]
        self.values = form["given"]
        told = "The values and seeds of this run are in the form now"
        if not form["untold"]:
            return f"{told}."
        return f"{told}, but the run does not tell: {', '.join(form['untold'])}."

    # -- in threads ----------------------------------------------------------------------------

    def _open(self, given: GivenWorkflow, version: int | None, request: int) -> None:
        try:
            shown, values = self._resolved(given, version)
        except Exception as error:
            if request == self._request:
                self.shown_workflow, self.opening = None, False
                self.show_error(error)
                self._opened.set()
            return
        if request == self._request and not self.closing:
            if not values and sum(map(len, map(str, shown["source"].values()))) > ASKED_AHEAD:
                threading.Thread(
                    target=self._ask_ahead, args=[shown["source"]], daemon=True
                ).start()
            with self.hold_sync():
                self.values, self.locked, self.result = values, None, None
                self.varied, self.batch = {}, ""
                self.shown_workflow, self.opening = shown, False
            self._opened.set()

    def _ask_ahead(self, source: dict[str, Any]) -> None:
        """Let the server make a large form, which it keeps, before the page has the workflow."""
        with contextlib.suppress(ComfyDeployError, OSError):
            server, body = self.comfy.server, {**source, "machine": self.machine, "brief": True}
            asked, at = (server.url, body), time.monotonic()
            before, since = RunPanel._asked
            if asked == before and at - since < KEPT:
                return
            with server.request("POST", server.address("workflow/form"), body=body):
                RunPanel._asked = asked, at

    def _resolved(
        self, given: GivenWorkflow, version: int | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a workflow as the page takes it, and its inputs."""
        if isinstance(given, str) and not is_json(given) and not Path(given).expanduser().is_file():
            given = self._stored(given)
        if isinstance(given, StoredWorkflow):
            chosen = given.version("latest" if version is None else version)
            return _shown(given.name, workflow_id=given.id, version=chosen.number), {}
        if isinstance(given, WorkflowVersion):
            name = self.comfy.workflows.get(given.workflow_id).name
            place = {"workflow_id": given.workflow_id, "version": given.number}
            return _shown(f"{name}, version {given.number}", **place), {}
        if isinstance(given, Workflow):
            files = upload_all(self.comfy.server, given.source.files, machine=self.machine)
            shown = _shown(given.title or "Given workflow", **given.source.texts())
            inputs = plain({**given.source.given, **files})
            return shown, self._form_of(shown, inputs)["given"] if inputs else {}
        if not isinstance(given, (dict, str, bytes, os.PathLike)):
            raise InvalidRequestError.of_field(
                "workflow",
                "must be a path, a dict, JSON text, a Workflow, or the name or id of a stored one, "
                f"not a {type(given).__name__}",
            )
        shown = _shown("Given workflow", **Source(given).texts())
        if isinstance(given, os.PathLike) or (isinstance(given, str) and not is_json(given)):
            path = Path(given).expanduser().resolve()
            folder = Path(self.directory).resolve()
            below = path.is_relative_to(folder)
            shown["title"] = str(path.relative_to(folder) if below else path)
            shown["key"] = f"file:{path}"  # of its entry in the page's list
        return shown, {}

    def _stored(self, name: str) -> StoredWorkflow:
        workflows = self.comfy.workflows
        found = [each for each in workflows.list(name, limit=MAX_STORED) if each.name == name]
        if found:
            return found[0]
        try:
            return workflows.get(name)
        except (NotFoundError, InvalidRequestError):
            raise InvalidRequestError.of_field(
                "workflow", f"there is neither a file nor a stored workflow {name!r}"
            ) from None

    def _known(self) -> Workflow:
        if threading.current_thread() not in self._threads:
            self.wait(OPEN_TIMEOUT)
        workflow = self.workflow
        if workflow is None:
            raise InvalidRequestError.of_field("workflow", "none is open; choose one first")
        return workflow

    def _form(self, inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Return the form with the present values, and these."""
        self._known()
        return self._form_of(self.shown_workflow, {**self.values, **(inputs or {})}, **more)

    def _form_of(
        self, shown: dict[str, Any], inputs: dict[str, Any], **more: Any
    ) -> dict[str, Any]:
        body = {**shown["source"], "inputs": inputs, **more}
        form: dict[str, Any] = self.comfy.server.post("workflow/form", body, machine=self.machine)
        return form

    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the inputs that were changed, and the form."""
        form = self._form()
        rows = {row["key"]: row for row in form["rows"] if row["kind"] != "group"}
        changed = {}
        for key, value in self.values.items():
            row = rows.get(key)
            if key in form["problems"]:
                label = key if row is None else row["label"]
                raise InvalidRequestError.of_field(label, form["problems"][key])
            for name in [key] if row is None else row["keys"]:
                changed[name] = value if row is None else _read(row, value)
        return changed, form

    def _submit(self, workflow: Workflow, runs: list[dict[str, Any]]) -> None:
        for inputs in runs:
            if self.closing:
                return
            run = self.comfy.submit(workflow, inputs, machine=self.machine)
            self.queued = [*self.queued[-MAX_AT_ONCE:], run.prompt_id]
            self._follow(run)

    def _cancel(self, number: int | None) -> None:
        known = [*self.runs, *(each for each in self._followed if each not in self.runs)]
        for prompt_id in known[:number][::-1]:
            self.comfy.interrupt(prompt_id)

    def _take_runs(self, change: dict[str, Any]) -> None:
        """Follow the runs that the page has queued, so that their results arrive without it."""
        for prompt_id in change["new"]:
            if prompt_id not in self._followed:
                self._follow(Run(self.comfy.server, {"prompt_id": prompt_id, "status": "queued"}))

    def _follow(self, run: Run) -> None:
        with self._following:
            if run.prompt_id in self._followed or self.closing:
                return
            self._followed.add(run.prompt_id)
        self.start(self._wait_for, run)

    def _wait_for(self, run: Run) -> None:
        try:
            with run.events() as stream:
                for _ in stream:
                    if self.closing:
                        return
            self.result = self._result_of(dict(run.record))
        finally:
            with self._following:
                self._followed.discard(run.prompt_id)

    def _result_of(self, reply: dict[str, Any] | None) -> Result | None:
        if reply is None:
            return None
        last: Result | None = self.result
        if last is not None and last.prompt_id == reply.get("prompt_id"):
            return last
        workflow = self._shown
        return Result(self.comfy.server, reply, None if workflow is None else workflow.source)

    def _keep_result(self, change: dict[str, Any]) -> None:
        result, old = change["new"], change["old"]
        if result is None or (old is not None and old.prompt_id == result.prompt_id):
            return
        if self._on_result is not None:
            self.attempt(self._on_result, result)
        self.start(self._keep, result)

    def _keep(self, result: Result) -> None:
        shown, text = plain_form(result)
        title = (self.shown_workflow or {}).get("title", "")
        name = f"RunPanel: {title}" if title else "RunPanel"
        self.keep(f"<p><b>{html.escape(name)}</b></p>{shown}", f"<{name}>\n{text}")


def _shown(title: str, **source: Any) -> dict[str, Any]:
    """Return a workflow as the page takes it: graphs are texts, as a browser rounds integers."""
    return {"title": title, "source": source, "warnings": []}


KEPT_PICTURES = 24
"""How many pictures of a run the saved notebook has at most."""

KEPT_SIDE = 512
"""The longest side of each of them, pixels."""

OPEN_TIMEOUT = 60.0
"""How long `RunPanel.set_input` and `RunPanel.run` wait for the workflow at most, s."""


def _unknown(key: str, candidates: list[str]) -> UnknownInputError:
    hint = f"; did you mean {', '.join(candidates)}?" if candidates else ""
    return UnknownInputError(f"the workflow has no input {key!r}, or several{hint}")


def _read(row: dict[str, Any], written: Any) -> Any:
    """Return the value that a field has if it shows this."""
    kind = row["kind"]
    if written is None or not isinstance(written, str) or row["choices"] is not None:
        return written
    if kind in {"int", "seed"}:
        return int(written)
    if kind == "float":
        return float(written)
    return int(written[1:], 16) if kind == "color" else written


def _is_missing(row: dict[str, Any], written: Any) -> bool:
    """Return whether a field must have a value, and has none."""
    if not row.get("required") or row["may_be_empty"] or written not in (None, ""):
        return False
    # an empty text is no value of these
    return row["original"] != "" or not (row["remote"] or row["kind"] == "video_edit")


def _drawn(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return random seeds in the ranges of fields, by the keys that these set."""
    drawn = {}
    for row in rows:
        low = max(0, int(row["least"] or 0))
        high = max(low, min(MAX_SEED, int(row["most"] or MAX_SEED)))
        drawn.update(dict.fromkeys(row["keys"], random.randint(low, high)))
    return drawn


def plain_form(result: Result) -> tuple[str, str]:
    """Return a result as HTML and as text for the saved notebook: small pictures, no URLs.

    It requests the pictures from the server, so call it in a thread.
    """
    parts = []
    pictures = [file for file in result.files if file.is_image or file.is_hdr]
    for file in pictures[:KEPT_PICTURES]:
        try:
            content = base64.b64encode(file.thumbnail(KEPT_SIDE)).decode()
        except ComfyDeployError:
            continue  # it was deleted, or is not a picture; its name is in the text
        parts.append(
            f'<img alt="{html.escape(file.filename, quote=True)}" '
            f'src="data:image/webp;base64,{content}" style="max-width:min(100%,384px);margin:0">'
        )
    shown = (
        '<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start">'
        f"{''.join(parts)}</div>"
    )
    unnamed = result.files[NAMED_FILES:]  # not in the first line
    lines = [repr(result), *(file.filename for file in unnamed), *result.texts]
    return shown + result.to_html(files=False), "\n".join(lines)
