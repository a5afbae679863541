"""Choosing a workflow, editing its inputs, running it, and its results."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import Result, Run, Workflow
from ..client.files import has_files, upload_all
from ..client.graph import Source, in_api_format
from ..display.page import server_facts
from ..errors import (
    ComfyDeployError,
    InvalidInputError,
    InvalidRequestError,
    PromptInvalidError,
)
from ..graphs.definitions import NodeDefinitions, type_mismatches
from ..graphs.examples import examples
from ..graphs.form import workflow_form
from ..graphs.prices import partner_nodes
from ..graphs.shown_form import unlocked_seeds
from ..graphs.validation import NOT_HERE
from .base import Panel
from .form import Form
from .gallery import Gallery, plain_form
from .history import History
from .models_box import ModelsBox
from .parts import box
from .picker import Picker, Requests, StartBox
from .presets_box import PresetsBox
from .progress import Follower, Preview, ProgressView
from .run_bar import MAX_AT_ONCE, RunBar, RunNotes, introduction

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from ..client import Comfy, StoredWorkflow
    from ..graphs.examples import Example
    from ..graphs.form import WorkflowForm
    from .picker import GivenWorkflow

OPEN_TIMEOUT = 60.0
"""How long `RunPanel.set_input` and `RunPanel.run` wait for the form at most, s."""

LOOK_INTERVAL = 3.0
"""How often a panel checks whether a ComfyUI that did not answer does, s."""

ENDS = {
    "success": " · the last run is done",
    "failed": " · the last run failed",
    "cancelled": " · the last run was cancelled",
}
"""The text of the bar about the last run, by its status: its result may be scrolled out of view."""


class RunPanel(Panel):
    """A panel that runs workflows; the kernel stays free while they run.

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
        Traits of `ipywidgets.VBox`, such as ``layout``.

    Attributes
    ----------
    result : Result or None
        The result of the last run that ended.

    Examples
    --------
    >>> RunPanel("portrait.json")                                    # doctest: +SKIP
    >>> RunPanel()                                                   # doctest: +SKIP
    """

    OWN_ARGUMENTS = ("workflow", "comfy", "version", "machine", "directory")

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
        super().__init__(comfy, **kwargs)
        self.result: Result | None = None
        self._on_result: Callable[[Result], object] | None = None
        self._workflow: Workflow | None = None
        self._source: Source | None = None
        self._title = ""
        self._machine = machine
        self._definitions: dict[str, Any] | None = None
        self._defined_by: str | None = None
        self._requests = Requests()
        self._opening = threading.Lock()
        self._updating = threading.RLock()
        self._submissions: set[threading.Event] = set()  # set if they are to be cancelled
        self._build(Path(directory))
        self.start(self._open, workflow, version, self._requests.next())
        self.start(self._history.watch, self, lasting=True)
        self.start(self._wait_for_comfyui, lasting=True)

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that were changed in the form, by their keys."""
        return self._form.changed()

    @property
    def valid_inputs(self) -> dict[str, Any]:
        """Those of `inputs` whose values are valid; never an error."""
        return self._form.valid()

    @property
    def error(self) -> str:
        """The error that the panel shows, as HTML; empty if none."""
        return super().error or self._picker.problem

    @property
    def workflow(self) -> Workflow | None:
        """The workflow whose form is shown, without the changes that were made there."""
        return self._workflow

    @property
    def machine(self) -> str | None:
        """The machine of the next runs; None for the local one; can be set.

        The form then keeps its values, and offers the files and models of the new machine.
        """
        return self._machine

    @machine.setter
    def machine(self, machine: str | None) -> None:
        if machine != self._machine:
            self._machine = self._form.machine = self._gallery.machine = machine
            self.clear_error()  # it may be that of the other machine
            self.start(self._define_anew)

    def show(self, workflow: GivenWorkflow, version: int | None = None) -> None:
        """Show another workflow, in any form that the panel accepts; do not wait for it."""
        self.clear_error()
        self.start(self._begin, workflow, version, self._requests.next())

    def set_input(self, key: str, value: object) -> None:
        """Set an input of the workflow, e.g. ``set_input("3.steps", 30)``; the form shows it.

        If the form is not there yet, this waits for it for up to a minute.

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
        RunTimeoutError
            The workflow is still being opened.
        """
        self._requests.wait(OPEN_TIMEOUT)
        uploaded: dict[str, Any] = {}
        if has_files(value):
            uploaded = upload_all(self.comfy.server, {key: value}, machine=self._machine)
        self._form.set(key, uploaded.get(key, value))

    @property
    def ready(self) -> bool:
        """Whether the panel shows the form, or an error in its place."""
        return self._requests.done.is_set()

    @property
    def running(self) -> bool:
        """Whether a run is being started or followed."""
        return bool(self._submissions or self._follower.runs)

    @property
    def shown(self) -> dict[str, Any]:
        """The result that the panel shows: status, facts, problems, files, texts, timings."""
        return dict(self._gallery.result)

    @property
    def missing(self) -> str:
        """The list of models and nodes that ComfyUI lacks, as HTML; empty if it lacks none."""
        return self._models.report

    @property
    def notes(self) -> str:
        """The warnings about the workflow, as HTML."""
        return str(self._notes.value)

    def fetch_models(self) -> None:
        """Download the missing models, like *Download all*; do not wait for them."""
        self._bar.offer_download(False)
        self._models.fetch()

    @property
    def workflows(self) -> list[str]:
        """The names of the workflows that can be chosen."""
        return self._picker.titles

    def choose(self, name: str) -> None:
        """Choose one of `workflows`.

        Raises
        ------
        KeyError
            No workflow has that name.
        """
        self._picker.pick(name)

    def run(self, times: int = 1) -> None:
        """Queue the workflow, like the button *Run*; do not wait for the run.

        If a workflow is being opened, this waits for its form for up to a minute.

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
        self._requests.wait(OPEN_TIMEOUT)
        workflow = self._workflow
        if workflow is None:
            raise InvalidRequestError.of_field("workflow", "none is open; choose one first")
        self.clear_error()
        self._gallery.mark_outdated()
        try:
            if times not in range(1, MAX_AT_ONCE + 1):
                self._bar.run.problem = f"must be 1 to {MAX_AT_ONCE}"
                raise InvalidRequestError.of_field("times", self._bar.run.problem)
            fixed = self._form.to_send()
        except InvalidRequestError as error:
            self.show_error(error)
            raise
        runs = [{**fixed, **self._form.draw()} for _ in range(times)]
        self.start(self._submit, workflow, runs, self._new_submission())

    def follow_nodes(
        self, on_node: Callable[[str | None], object], on_result: Callable[[Result], object]
    ) -> None:
        """Call functions with the id of the node that runs, and with each result.

        Parameters
        ----------
        on_node : callable
            Called with the id whenever another node runs, and with None when none does.
        on_result : callable
            Called with the `Result` of each run that ended, in place of the one given before.
        """
        self._progress.observe(lambda change: on_node(change["new"]), "node_id")
        self._on_result = on_result

    def press_run(self, times: Any, typed: Iterable[dict[str, Any]] = ()) -> None:
        """Run the workflow as `run` does; on an error, move the focus to the field that has it.

        If another workflow is being opened, a thread waits for it: the messages of the page, of
        which this is one, would wait, too.

        Parameters
        ----------
        times : int
            The number of runs.
        typed : iterable of dict
            The messages of the page about typed values that it does not know to have arrived.
        """
        self._form.take_typed(typed)
        request = self._requests.last
        if self.ready:
            self._press_now(times)
        else:
            self.start(self._press_opened, times, request, self._new_submission())

    def _press_now(self, times: Any) -> None:
        try:
            self.run(times)
        except InvalidRequestError:
            self._form.focus_problem()

    def show_error(self, error: Exception | str) -> None:
        """Show an error beside the Run button, and mark the result as that of an earlier run."""
        super().show_error(error)
        text = error.message if isinstance(error, ComfyDeployError) else str(error)
        self._bar.offer_download(NOT_HERE in text and self._models.can_fetch)
        self._gallery.mark_outdated()
        self._update()

    def clear_error(self) -> None:
        """Remove the errors of the panel and of its fields."""
        super().clear_error()
        self._bar.offer_download(False)
        self._bar.run.problem = ""
        self._form.problems = {}

    def cancel(self) -> None:
        """Cancel the run that is shown, like the button *Cancel*; without one, what is queued."""
        if not self._follower.runs:
            self._cancel_submissions()
        self._bar.cancelling(everything=False)
        self.start(self._cancel, 1)

    def cancel_all(self) -> None:
        """Cancel the run that is shown and all that wait behind it, or are being queued."""
        self._cancel_submissions()
        self._bar.cancelling(everything=True)
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
        record, graph = self._history.record(prompt_id), self._history.graph(prompt_id)
        untold = self._form.reuse(record.get("inputs") or {}, record.get("seeds") or {}, graph)
        told = "The values and seeds of this run are in the form now"
        if not untold:
            return f"{told}."
        return f"{told}, but the run does not tell: {', '.join(untold)}."

    def stop(self) -> None:
        """Stop following runs; the runs continue."""
        self._follower.stop()
        self._history.stop()

    # -- widgets -------------------------------------------------------------------------------

    def _build(self, directory: Path) -> None:
        self._picker = Picker(self, directory, self._take, self._requests)
        self._form = Form(self)
        self._form.machine = self._machine
        self._presets = PresetsBox(self, self._form, self._keep_workflow)
        self._notes = RunNotes()
        self._models = ModelsBox(self, self._offer_models)
        self._preview = Preview(self)
        self._progress = ProgressView(self, self._preview)
        self._bar = RunBar(self, self._errors, self._progress)
        self._start = StartBox(self, self.choose, self._show_example)
        self._gallery = Gallery(self, self.reuse)
        self._gallery.machine = self._machine
        self._history = History(self, self._gallery.show, self.reuse, self.set_input)
        self._follower = Follower(self, self._progress, self._update, self._ended)
        inputs = box("cd-inputs", self._presets, self._form)
        result = box("cd-result", self._preview, self._gallery)
        work = box("cd-work", inputs, result)
        self.fill(
            self._picker.box,
            self._notes,
            self._models,
            self._start,
            box("cd-body", self._bar, work, self._history),
        )
        self.add_class("cd-wide")
        self._form.observe(self._fields_changed, "problems")
        self._form.on_change = self._show_price
        self._bar.show_text("Connecting …")

    def _fields_changed(self, change: dict[str, Any]) -> None:
        """Remove the error of the panel once no field has a problem any more."""
        if change["old"] and not change["new"]:
            super().clear_error()
            self._bar.offer_download(False)
            self._update()

    def _show_price(self) -> None:
        """Show what the partner nodes cost with the present values."""
        costs = partner_nodes(self._form.graph(), self._definitions)
        self._bar.show_price(costs["text"] if costs else "")

    def _update(self) -> None:
        """Enable or disable the buttons to match the state."""
        with self._updating:  # else a thread could show what another one has read before
            if not self.closing:
                self._show_state()

    def _show_state(self) -> None:
        runs, submissions = self._follower.runs, list(self._submissions)
        uncancelled = [each for each in submissions if not each.is_set()]
        self._gallery.busy = self.running
        self._bar.match(ready=self._workflow is not None, runs=len(runs) + len(uncancelled))
        if submissions:
            self._bar.show_text("Queueing …" if uncancelled else "Cancelling …")
        elif runs or self.error:
            self._bar.show_text("")
        else:
            end = ENDS.get(self._gallery.result.get("status", ""), "")
            self._bar.show_text(f"Ready{end}" if self._workflow else "Choose a workflow")

    # -- in threads ----------------------------------------------------------------------------

    def _open(self, workflow: GivenWorkflow | None, version: int | None, request: int) -> None:
        """Connect, show the given workflow, and search for others."""
        if workflow is None:
            self.attempt(self._connect)
        else:
            self.attempt(self._picker.begin, workflow, version, request)
        self._update()
        if not self.closing:
            self.attempt(self._picker.refresh)
        if self._workflow is None and not self.closing:
            self._offer_ways()
        self._requests.carry_out(request, self._requests.done.set)

    def _offer_ways(self) -> None:
        """Offer ways to begin."""
        files, stored = map(self._picker.titles_of, ("file", "stored"))
        self._start.offer(files, stored, examples(self._definitions))

    def _wait_for_comfyui(self) -> None:
        """Offer examples, or make the form anew, when a ComfyUI that did not answer does."""
        while self.pause(LOOK_INTERVAL):
            server_answered, is_defined = bool(self._form.server), self._is_defined
            if is_defined or not (server_answered and self.ready) or self.resting:
                continue
            with suppress(ComfyDeployError):
                if self.comfy.status(machine=self._machine)["comfyui"]["reachable"]:
                    self._define_anew()
                    self._errors.clear()
                    if self._workflow is None and not self.closing:
                        self._offer_ways()
                    self._update()

    def _show_example(self, example: Example) -> None:
        self.show(Workflow(self.comfy.server, Source(example.graph), title=example.title))

    def _begin(self, workflow: GivenWorkflow, version: int | None, request: int) -> None:
        self._picker.begin(workflow, version, request)
        self._update()

    @property
    def _is_defined(self) -> bool:
        """Whether the node definitions of the machine are known."""
        return self._definitions is not None and self._machine == self._defined_by

    def _connect(self) -> None:
        """Connect, and request the node definitions of the machine if they are not known."""
        machine = self._machine
        if self._is_defined:
            return
        comfy = self.comfy
        status = comfy.status(machine=machine)
        facts = server_facts(comfy, status)
        for view in (self._form, self._progress, self._gallery, self._history):
            view.server = facts
        if not status["comfyui"]["reachable"]:
            self._bar.show_text("Waiting for ComfyUI …")
        self._definitions = comfy.object_info(machine=machine)
        self._defined_by = machine

    def _define_anew(self) -> None:
        """Make the form anew for another machine, with the same values."""
        with self._opening:
            machine, were_known = self._machine, self._definitions is not None
            try:
                self._connect()
            except ComfyDeployError:
                if machine == self._machine:
                    raise
                return  # another one was chosen in the meantime
            finally:
                self._update()
            if self._workflow is None or self._source is None or self.closing:
                return
            with self._form.keeping():
                made = self._show_form(self._workflow, self._source)
            if not were_known:
                self._find_runs(self._workflow, made)
            self.start(self._models.show_missing, self._workflow, self._machine)

    def _offer_models(self) -> None:
        """Make the form anew, so that it offers models that were downloaded."""
        self._defined_by, self._definitions = None, None
        self._define_anew()

    def _take(self, source: Source, title: str, settle: Callable[[], bool]) -> None:
        """Show another workflow, unless one was chosen since; see `Picker`."""
        with self._opening:
            if not settle():
                return
            try:
                self._notes.show()
                try:
                    self._connect()
                except ComfyDeployError as error:
                    # The form is shown nevertheless; it guesses kinds from the values.
                    self.show_error(error)
                source, warnings = in_api_format(self.comfy.server, source)
                workflow = Workflow(self.comfy.server, source, title=title)
                if self.closing or not settle():
                    return
                self._show(workflow, source, warnings)
            except Exception:
                self._workflow = None
                self._models.show_missing(None)
                self._form.show([], {})
                self._presets.hide()
                self._history.clear()
                raise
            finally:
                self._update()

    def _show(self, workflow: Workflow, source: Source, warnings: list[str]) -> None:
        made = self._show_form(workflow, source)
        self._start.shown = False
        self._gallery.clear()
        self._gallery.chosen = made.outputs
        self._workflow, self._source, self._title = workflow, source, workflow.title
        self.keep(*introduction(self._title))
        found = type_mismatches(workflow.to_api(), self._definitions or {})
        mismatches = [str(each) for each in found]
        self._form.mark_inputs(
            {f"{each.node}.{each.input}": f"must be {each.expected}" for each in found}
        )
        inexact = [text for text in warnings if text not in mismatches]
        self._notes.show(
            ("Some values do not fit their inputs", mismatches),
            ("The conversion from the editor's format is not exact", inexact),
            ("Some inputs that the workflow's author chose do not exist", made.warnings),
        )
        self._show_price()
        self._update()
        self._find_runs(workflow, made)
        self.start(self._models.show_missing, workflow, self._machine)
        self.start(self._show_presets, workflow, self._picker.stored)

    def _find_runs(self, workflow: Workflow, made: WorkflowForm) -> None:
        """Show the earlier runs, and follow those that have not ended."""
        self._history.offer(made.fields, self._definitions)
        if self._definitions is not None:
            for run in self._history.of(workflow):
                self._follower.add(run)

    def _show_presets(self, workflow: Workflow, stored: StoredWorkflow | None) -> None:
        """Offer the presets of the stored workflow, or of one with the same name."""
        if stored is None and workflow.title:
            found = self.comfy.workflows.list(workflow.title)
            stored = next((each for each in found if each.name == workflow.title), None)
        if workflow is self._workflow:
            self._presets.show(stored)

    def _keep_workflow(self) -> StoredWorkflow:
        """Store the workflow on the server, so that it can have presets."""
        assert self._workflow is not None
        return self.comfy.workflows.save(self._workflow, self._title or "Workflow")

    def _show_form(self, workflow: Workflow, source: Source) -> WorkflowForm:
        graph, definitions = workflow.to_api(), NodeDefinitions.of(self._definitions)
        made = workflow_form(graph, definitions, source.ui)
        self._form.show(
            made.fields,
            graph,
            unlocked_seeds(made.fields, graph, source.ui, definitions),
            groups=made.groups,
            definitions=definitions,
            make=lambda changed: workflow_form(changed, definitions, source.ui),
        )
        return made

    def _new_submission(self) -> threading.Event:
        """Show that runs are being queued; `_end_submission` ends this."""
        cancelled = threading.Event()
        self._submissions.add(cancelled)
        self._update()
        return cancelled

    def _end_submission(self, cancelled: threading.Event) -> None:
        self._submissions.discard(cancelled)
        self._update()

    def _cancel_submissions(self) -> None:
        for cancelled in list(self._submissions):
            cancelled.set()
        self._update()

    def _press_opened(self, times: Any, request: int, cancelled: threading.Event) -> None:
        """Run the workflow that is being opened, unless that fails or another one is chosen."""

        def press() -> None:
            if not (self.closing or cancelled.is_set() or self._picker.problem):
                self._press_now(times)

        self._requests.done.wait()
        try:
            self._requests.carry_out(request, press)
        finally:
            self._end_submission(cancelled)

    def _submit(
        self, workflow: Workflow, runs: list[dict[str, Any]], cancelled: threading.Event
    ) -> None:
        machine = self._machine
        try:
            for inputs in runs:
                if self.closing or cancelled.is_set():
                    return
                stream = self.comfy.stream(workflow, inputs, machine=machine, previews=True)
                accepted = next(stream).data
                run = Run(self.comfy.server, {"status": "queued", **accepted}, workflow.source)
                # ComfyUI may have left out the part of the workflow that is wrong.
                self._form.mark_errors(accepted.get("node_errors") or {})
                self._form.show_drawn(inputs)
                self._follower.add(run, stream)
                self._update()
                if cancelled.is_set():  # while the server had not replied yet
                    run.cancel()
        except PromptInvalidError as error:
            self._form.mark_errors(error.extra.get("node_errors") or {})
            self._form.focus_problem()
            raise
        except InvalidInputError as error:
            error.say(self._form.mark_inputs(error.details["invalid"]))
            self._form.focus_problem()
            raise
        finally:
            self._end_submission(cancelled)

    def _cancel(self, number: int | None) -> None:
        try:
            # The last one first, so that none of them starts in between.
            for run in self._follower.runs[:number][::-1]:
                run.cancel()
        finally:
            self._update()

    def _ended(self, result: Result) -> None:
        self._gallery.show(result)
        self.result = result
        if self._on_result is not None:
            self._on_result(result)
        self._history.chosen = result.prompt_id
        self._history.refresh()
        shown, text = plain_form(result)
        heading, words = introduction(self._title)
        self.keep(f"{heading}{shown}", f"{words}\n{text}")
