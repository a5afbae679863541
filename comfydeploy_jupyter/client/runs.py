"""Runs: the request that starts one, a handle on one, and the list of those that are stored."""

from __future__ import annotations

import difflib
import html
import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime, time
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import (
    ConflictError,
    InvalidInputError,
    InvalidRequestError,
    PromptInvalidError,
    RunCancelledError,
    RunFailedError,
    brief,
    printable,
)
from ..graphs.dependencies import structure_of
from ..graphs.models import listed_models
from ..graphs.validation import NOT_HERE
from ..util.media_types import is_picture
from .files import has_files, is_file, upload_all
from .graph import Source
from .proofs import RunRecord, Verification, complete_record, save_receipt, verify
from .results import Result, RunOutput, RunOutputs, as_input
from .snapshots import snapshot_of
from .stream import FINAL, EventStream
from .text import counted
from .workflow import source_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .comfy import Comfy
    from .server import Server
    from .snapshots import Snapshot
    from .workflow import Workflow, WorkflowSource


# Fields of the route ``run``, described in docs/routes.md; ``labels`` is its ``metadata``.
OPTIONS = frozenset(
    {
        "cancel_with",
        "client_id",
        "extra_data",
        "file_upload_endpoint",
        "front",
        "gpu_event_id",
        "labels",
        "outputs",
        "preview_method",
        "prompt_id",
        "seed_mode",
        "status_endpoint",
        "strict_inputs",
        "version",
        "workflow_id",
    }
)

ARGUMENTS = frozenset(
    {"api_key", "workflow", "inputs", "seed", "machine", "previews", "progress", "timeout"}
)


def check_options(options: Iterable[str], also: Collection[str] = ()) -> None:
    """Raise if there are no such options."""
    known = OPTIONS | ARGUMENTS | set(also)
    for name in options:
        if name in OPTIONS:
            continue
        if name == "wait":
            text = "there is no option 'wait': run() waits for the end, submit() does not"
            raise brief(TypeError(text))
        if name in ARGUMENTS:
            hint = (
                ", and of wait() of the object that submit() returns" if name == "timeout" else ""
            )
            raise brief(TypeError(f"{name} is an argument of run(){hint}"))
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"options are {', '.join(sorted(OPTIONS))}"
        raise brief(TypeError(f"unknown option {name!r}; {hint}"))


MAX_SEED = 2**64 - 1  # of ComfyUI's own nodes
SHORT_ID = 8  # characters of an id that are shown in a terminal
RECENT = 100  # the latest runs and batches, which can be found by such short ids


class RunRequest:
    """A request that runs a workflow; the parameters are those of `Comfy.run`.

    Files among the inputs are uploaded.
    """

    def __init__(
        self,
        comfy: Comfy,
        workflow: WorkflowSource,
        inputs: dict[str, Any] | None,
        seed: int | None,
        machine: str | None,
        options: dict[str, Any],
        *,
        api_key: str | None,
        **fields: Any,
    ) -> None:
        check_options(options)
        self.source = source = source_of(workflow)
        if source.graph is None and not options.get("workflow_id"):
            raise InvalidRequestError.of_field(
                "workflow", "is missing; give a workflow, or workflow_id="
            )
        self._server = comfy.server
        self._body: dict[str, Any] = {**source.body(), **fields, **options}
        labels = self._body.pop("labels", None)
        if labels:
            self._body["metadata"] = labels
        # The client chooses the id, so that it can find the run if the first reply gets lost.
        self.prompt_id = str(self._body.setdefault("prompt_id", str(uuid.uuid4())))
        if api_key is not None:
            extra = self._body.get("extra_data") or {}
            self._body["extra_data"] = {**extra, "api_key_comfy_org": api_key}
        seeds = {} if seed is None else source.seed_inputs(_checked(seed))
        # In the mode "auto" the server draws new seeds as the editor's seed widgets say, except
        # for those that it finds in `inputs`. So the values that the user has set are sent, too.
        is_auto = self._body.get("seed_mode", "auto") == "auto"
        given = source.given if is_auto else {}
        values = as_input({**given, **source.files, **seeds, **(inputs or {})})
        if machine == "auto" and any(map(has_files, values.values())):
            machine = comfy.machines.get(machine).id  # files go to the machine that runs
        values |= upload_all(self._server, values, machine=machine)
        if values:
            self._body["inputs"] = values
        if machine is not None:
            self._body["machine"] = machine

    def start(self, timeout: float | None = None) -> EventStream:
        """Send the request; return the events of the run."""
        try:
            return EventStream(self._server, self.prompt_id, body=self._body, timeout=timeout)
        except (PromptInvalidError, InvalidInputError) as error:
            named = self.source.complaints(error.extra.get("node_errors"))
            if named and named[0] not in error.message:
                error.say("; ".join([error.message, *named]))
            # `message` stays as it is: a panel shows it, and a button that downloads
            if NOT_HERE in error.message:
                error.args = (f"{error.message}; {self._how_to_fetch(error.message)}",)
            raise

    def _how_to_fetch(self, message: str) -> str:
        linked = any(
            model.url is not None and model.name in message
            for model in listed_models(self.source.ui or self.source.graph)
        )
        call = "fetch_models(workflow)" if linked else "add_model(url, folder)"
        return f"comfy.{call} downloads it"


def _checked(seed: Any) -> Any:
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) <= MAX_SEED:
        raise InvalidRequestError.of_field(
            "seed",
            f"must be a whole number from 0 to 2**64 - 1, not {seed!r}; for random seeds omit it"
            ' and give seed_mode="random"; for a node that accepts other seeds use inputs=',
        )
    return seed


class Kept(NamedTuple):
    """A run or a file that was not deleted."""

    prompt_id: str
    """The run."""
    file: str | None
    """The name of its file; None if the run itself was kept."""
    reason: str
    """Why."""

    def __str__(self) -> str:
        return printable(f"{self.file or f'run {self.prompt_id}'}: {self.reason}")


class Deletion(NamedTuple):
    """The result of a deletion of runs: what was deleted, and what was kept.

    Attributes
    ----------
    runs, files, bytes : int
        How many runs and files were deleted, and the size of the files.
    """

    runs: int
    files: int
    bytes: int
    kept: list[Kept]
    """The first 1,000 runs and files that were not deleted, and why."""
    kept_count: int
    """Number of all of them."""

    def __str__(self) -> str:
        done = f"{counted(self.runs, 'run')} and {counted(self.files, 'file')} deleted"
        text = f"{done} ({self.bytes / 1024**2:.1f} MiB)"
        return f"{text}; {self.kept_count} kept" if self.kept_count else text


def delete_runs(server: Server, fields: dict[str, Any]) -> Deletion:
    """Send a request to delete runs, and return what was deleted."""
    reply = server.post("runs/delete", fields)
    kept = [Kept(**entry) for entry in reply["kept"]]
    return Deletion(reply["runs"], reply["files"], reply["bytes"], kept, reply["kept_count"])


class StoryEntry(NamedTuple):
    """An event in the life of a run."""

    at: str
    """When, ISO 8601 in UTC."""
    cause: str
    """What: ``accepted by ComfyUI``, ``connection lost``, … (``docs/routes.md``, the story of a
    run)."""
    state: str
    """The state of the run since then."""
    detail: str | None
    """More about the cause."""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return printable(f"{self.at} {self.cause}{detail} -> {self.state}")


class Run:
    """A handle on one run in any state.

    Made by `Comfy.submit`, `Comfy.get` and `Comfy.runs`. It keeps no connection open. After the
    kernel was restarted, `Comfy.get` returns it by its id.
    """

    def __init__(
        self, server: Server, record: dict[str, Any], workflow: Source | None = None
    ) -> None:
        self._server = server
        self._record = record
        self._workflow = workflow or Source(None)

    @property
    def prompt_id(self) -> str:
        """The id of the run."""
        return str(self._record["prompt_id"])

    @property
    def record(self) -> RunRecord:
        """The present record of the run, with the keys of the reply of ``run``.

        A call, ``run.record()``, returns with what it was made, see `RunRecord`.
        """
        if self._record.get("status") not in FINAL:
            self._record = self._server.get("check-status", prompt_id=self.prompt_id)
        return RunRecord(self._record, self._made_with)

    def _made_with(self, timeout: float | None) -> dict[str, Any]:
        with suppress(RunFailedError, RunCancelledError):
            self.wait(timeout)
        return complete_record(self._server, self.prompt_id, timeout)

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the run was given: texts by name."""
        return dict(self._record.get("metadata") or {})

    @property
    def workflow(self) -> Source:
        """The graph, if it is known."""
        return self._workflow

    @property
    def known(self) -> dict[str, Any]:
        """The last known record of the run, without a request."""
        return self._record

    @property
    def status(self) -> str:
        """``queued``, ``running``, …; requested from the server until the run has ended."""
        return str(self.record.get("status", "not-started"))

    @property
    def done(self) -> bool:
        """Whether the run has ended, also if it failed."""
        return self.status in FINAL

    @property
    def result(self) -> Result | None:
        """The result if the run has ended, also if it failed; else None."""
        return self._result if self.done else None

    @property
    def _result(self) -> Result:
        return Result(self._server, self.record, self._workflow)

    @property
    def images(self) -> RunOutputs:
        """Its pictures as inputs of other runs, also before it has ended: ``run.images[0]``."""
        return RunOutputs(self.prompt_id, "images")

    @property
    def files(self) -> RunOutputs:
        """Its files of all kinds as inputs of other runs."""
        return RunOutputs(self.prompt_id, "files")

    @property
    def texts(self) -> RunOutputs:
        """Its texts as inputs of other runs."""
        return RunOutputs(self.prompt_id, "texts")

    def output(self, name: str) -> RunOutput:
        """Return one output as the input of another run, also before this one has ended.

        Parameters
        ----------
        name : str
            The title, the class or the id of its node, its kind and its place:
            ``"SaveImage.images[0]"``. The kind and the place may be left out if there is only one.
        """
        return RunOutput(self.prompt_id, name)

    def to_input(self) -> dict[str, Any]:
        """Return its only output as the value of an input of another run, in a request."""
        return RunOutput(self.prompt_id).to_input()

    def events(self, *, previews: bool = False, timeout: float | None = None) -> EventStream:
        """Return the events of the run from its start, also those that are still to come.

        Parameters
        ----------
        previews : bool
            Whether to get the previews of samplers.
        timeout : float, optional
            Follow at most this long, s.
        """
        return EventStream(self._server, self.prompt_id, previews=previews, timeout=timeout)

    def wait(self, timeout: float | None = None) -> Result:
        """Wait until the run has ended.

        Interrupting the kernel ends the waiting, not the run. Returns the result of a run that
        succeeded.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s.

        Raises
        ------
        RunFailedError
            A node failed; the message names it.
        RunCancelledError
            The run was cancelled.
        RunTimeoutError
            It has not ended in time; it continues.
        """
        if not self.done:
            with self.events(timeout=timeout) as events:
                for event in events:
                    if event.event == "result" and event.data.get("status") in FINAL:
                        self._record = event.data
        return self._result.raise_for_status()

    def story(self) -> list[StoryEntry]:
        """Return the events in the life of the run so far, in order, for debugging.

        At most 100: of a longer story, entries after the first ones are left out.
        Raises NotFoundError if the server does not know the run.
        """
        entries = self._server.get("runs", story=self.prompt_id)
        return [StoryEntry(**entry) for entry in entries]

    def verify(
        self,
        *,
        machine: str | None = None,
        execute: bool = True,
        nodes: bool = False,
        timeout: float | None = None,
    ) -> Verification:
        """Make the run once more, with empty caches, and compare what was made.

        Parameters
        ----------
        machine : str, optional
            The machine, or a pool of which a member that executes nothing is used; by default the
            machine that executed it.
        execute : bool
            False: compare only versions, models and input files.
        nodes : bool
            Execute it twice, and name the first node whose pictures differ.
        timeout : float, optional
            Wait at most this long, s.

        Returns
        -------
        Verification
            It is true if each output is identical.

        Raises
        ------
        ConflictError
            The machine executes something, so its caches cannot be emptied now.
        RunTimeoutError
            The repetition has not ended in time; it continues.
        """
        self.record(timeout)
        asked = {"machine": machine, "execute": execute, "nodes": nodes}
        return verify(self._server, self.prompt_id, asked, timeout)

    def environment(self) -> Snapshot:
        """Return what is needed to execute the run elsewhere, as its record knows it.

        Returns
        -------
        Snapshot
            ComfyUI, the node packs and models that the graph uses, and the Python packages that
            these need; ``dockerfile`` needs no other file. ``warnings`` tell what is not known.
            `Comfy.snapshot` takes it, too.
        """
        self.record()
        return snapshot_of(self._server.get(f"runs/{self.prompt_id}/environment"))

    def receipt(
        self, path: str | os.PathLike[str], *, inputs: bool = False, sign: bool = False
    ) -> Path:
        """Write one file to hand over: the record of the run with what it made.

        Paths and secrets are hidden in it, and it says where.

        Parameters
        ----------
        path : path
            The file, which is replaced if it exists; a ZIP.
        inputs : bool
            Whether its input files are in it, too; models never are.
        sign : bool
            Whether it is signed with the key of the server (Ed25519), which is made at the first
            use. The server needs the package ``cryptography``.

        Returns
        -------
        Path
            The file.
        """
        self.record()
        return save_receipt(self._server, self.prompt_id, path, inputs=inputs, sign=sign)

    def cancel(self) -> bool:
        """Cancel the run: remove it from the queue, or interrupt it.

        Returns whether it was cancelled; False if it had ended already.
        """
        try:
            self._server.post("interrupt", {"prompt_id": self.prompt_id})
        except ConflictError:
            return False
        return True

    @property
    def pinned(self) -> bool:
        """Whether the run is pinned, so that it is not deleted; as it was last read."""
        return bool(self._record.get("pinned"))

    @property
    def starred(self) -> bool:
        """Whether the run has a star, as it was last read."""
        return bool(self._record.get("starred"))

    @property
    def note(self) -> str:
        """The note about the run, as it was last read; setting it stores it on the server."""
        return str(self._record.get("note") or "")

    @note.setter
    def note(self, text: str) -> None:
        self._mark(note=text)

    @property
    def from_editor(self) -> bool:
        """Whether ComfyUI's editor has queued the run, at ComfyUI itself."""
        return bool(self._record.get("from_editor"))

    def pin(self, pinned: bool = True) -> None:
        """Pin the run, so that it is not deleted, or unpin it.

        Raises NotFoundError if there is no such run any more.
        """
        self._mark(pinned=pinned)

    def star(self, starred: bool = True) -> None:
        """Give the run a star, or take it away: `comfy.runs(starred=True)` lists the best.

        Raises NotFoundError if there is no such run any more.
        """
        self._mark(starred=starred)

    def _mark(self, **marks: Any) -> None:
        self._server.post("runs/update", {"prompt_ids": [self.prompt_id], **marks})
        self._record = {**self._record, **marks}

    def delete(self, *, files: bool = False) -> Deletion:
        """Delete the run, which must have ended.

        Returns what was deleted, and which files were kept and why.

        Parameters
        ----------
        files : bool
            Whether to delete its output files, too, unless something else uses them.

        Raises
        ------
        NotFoundError
            There is no such run any more.
        ConflictError
            It is pinned, or has not ended.
        """
        deletion = delete_runs(self._server, {"prompt_ids": [self.prompt_id], "files": files})
        for kept in deletion.kept:
            if kept.file is None:
                raise ConflictError(f"The run {self.prompt_id} is not deleted: {kept.reason}")
        return deletion

    def __repr__(self) -> str:
        return printable(f"<Run {self.prompt_id}: {status_text(self.record)}>")

    def _repr_html_(self) -> str:
        result = self.result
        if result is not None:
            return result._repr_html_()
        status = html.escape(status_text(self._record))
        return f"<div>Run <code>{html.escape(self.prompt_id)}</code>: <b>{status}</b></div>"


def sources_in(over: Any) -> Iterator[Any]:
    """Yield what `Comfy.map` goes over, as values that ``$each`` lists in a request."""
    if isinstance(over, Run):
        yield {"run": over.prompt_id}
    elif isinstance(over, Result):
        yield {"run": over.raise_for_status().prompt_id}
    elif isinstance(over, RunOutputs):
        yield over.to_each()
    elif isinstance(over, os.PathLike) and Path(over).is_dir():
        yield from (path for path in sorted(Path(over).iterdir()) if is_picture(path.name))
    elif isinstance(over, (str, os.PathLike)) or is_file(over):
        yield over
    elif hasattr(type(over), "prompt_id"):  # a point of a sweep
        if not over.prompt_id:
            raise InvalidRequestError.of_field("over", f"{over!r} has no run yet; give its sweep")
        yield {"run": over.prompt_id}
    elif hasattr(type(over), "grid"):  # a sweep
        yield {"batch": over.id}
    elif isinstance(over, Iterable):
        for each in over:
            yield from [each] if isinstance(each, (int, float)) else sources_in(each)
    else:
        raise InvalidRequestError.of_field(
            "over", f"must be runs, results, a sweep or files, not {over!r}"
        )


def status_text(record: dict[str, Any]) -> str:
    """Return the status of a run, and why it waits if no machine can execute it now."""
    status, why = str(record.get("status", "not-started")), str(record.get("live_status") or "")
    waits = status in ("not-started", "queued") and why
    return f"{status}, {why[0].lower()}{why[1:]}" if waits else status


class Runs:
    """The runs that the server stores: ``comfy.runs(…)`` lists them, newest first.

    Examples
    --------
    >>> comfy.runs(limit=5, status="failed")                                  # doctest: +SKIP
    >>> comfy.runs.delete(status="failed", before="2026-01-31", files=True)   # doctest: +SKIP
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def __repr__(self) -> str:
        return "comfy.runs(limit=…), comfy.runs.delete(…), comfy.runs.pin(…), comfy.runs.star(…)"

    def __call__(
        self,
        limit: int | None = None,
        offset: int | None = None,
        status: str | None = None,
        *,
        of: Workflow | None = None,
        labels: dict[str, str] | None = None,
        machine: str | None = None,
        workflow_id: str | None = None,
        before: str | date | None = None,
        after: str | date | None = None,
        search: str | None = None,
        pinned: bool | None = None,
        starred: bool | None = None,
    ) -> list[Run]:
        """Return handles of the runs, newest first.

        Parameters
        ----------
        limit, offset : int, optional
            How many to return, and how many to skip.
        status : str, optional
            Only those that are ``queued``, ``running``, ``uploading``, ``success``, ``failed`` or
            ``cancelled``.
        of : Workflow, optional
            Only those of this workflow, with any values of its inputs.
        labels : dict of str to str, optional
            Only those with all of these labels.
        machine, workflow_id : str, optional
            Only those of this machine, and of this stored workflow.
        before, after : str, date or datetime, optional
            Only those that were created before this time, and at it or after it. A date begins at
            midnight; without a time zone, a text is in UTC, and a `datetime` in local time.
        search : str, optional
            Only those with this text in their id, inputs, seeds, error, outputs, labels or note.
        pinned, starred : bool, optional
            Only runs that are pinned, or have a star; or only those that are not, or have none.
        """
        chosen: dict[str, Any] = {
            f"metadata[{name}]": value for name, value in (labels or {}).items()
        }
        chosen |= _chosen(of, before, after, workflow_id=workflow_id, search=search)
        records = self._server.get(
            "runs",
            limit=limit,
            offset=offset,
            status=status,
            machine=machine,
            pinned=None if pinned is None else str(pinned).lower(),
            starred=None if starred is None else str(starred).lower(),
            **chosen,
        )
        source = None if of is None else of.source
        return [Run(self._server, record, source) for record in records]

    def pin(self, runs: Iterable[Run | str], pinned: bool = True) -> None:
        """Pin runs, so that they are not deleted, or unpin them.

        Raises NotFoundError if one of them does not exist; then nothing is changed.

        Parameters
        ----------
        runs : iterable of Run or str
            The runs or their ids.
        pinned : bool
            Whether they are pinned.
        """
        self._mark(runs, pinned=pinned)

    def star(self, runs: Iterable[Run | str], starred: bool = True) -> None:
        """Give runs a star, or take it away.

        Raises NotFoundError if one of them does not exist; then nothing is changed.

        Parameters
        ----------
        runs : iterable of Run or str
            The runs or their ids.
        starred : bool
            Whether they have a star.
        """
        self._mark(runs, starred=starred)

    def _mark(self, runs: Iterable[Run | str], **marks: Any) -> None:
        ids = _ids(runs)
        if ids:
            self._server.post("runs/update", {"prompt_ids": ids, **marks})

    def delete(
        self,
        runs: Iterable[Run | str] | None = None,
        *,
        files: bool = False,
        status: str | None = None,
        of: Workflow | None = None,
        labels: dict[str, str] | None = None,
        machine: str | None = None,
        workflow_id: str | None = None,
        before: str | date | None = None,
        after: str | date | None = None,
        search: str | None = None,
    ) -> Deletion:
        """Delete those runs that fulfil all conditions; at least one is needed.

        Runs that have not ended and pinned runs are kept. Returns what was deleted, and
        what was kept and why.

        Parameters
        ----------
        runs : iterable of Run or str, optional
            Only these runs; also their ids.
        files : bool
            Whether to delete their output files, too. Files that another run, a workflow or an
            upload uses are kept, and so are files of a ComfyUI whose folders the server does not
            know.
        status : str, optional
            Only those that ended with ``success``, ``failed`` or ``cancelled``.
        of, labels, machine, workflow_id, before, after, search
            As for `Runs` itself.

        Raises
        ------
        InvalidRequestError
            There is no condition.
        NotFoundError
            None of ``runs`` exists.
        """
        fields = _chosen(of, before, after, workflow_id=workflow_id, search=search)
        if runs is not None:
            fields["prompt_ids"] = _ids(runs)
            if not fields["prompt_ids"]:
                return Deletion(0, 0, 0, [], 0)
        more = {"status": status, "machine": machine, "metadata": labels, "files": files}
        return delete_runs(self._server, {**fields, **more})


def _ids(runs: Iterable[Run | str]) -> list[str]:
    return [run if isinstance(run, str) else run.prompt_id for run in runs]


def _chosen(
    of: Workflow | None, before: str | date | None, after: str | date | None, **same: Any
) -> dict[str, Any]:
    """Return the fields of a request that select runs."""
    structure = None if of is None else structure_of(of.to_api())
    return {"structure": structure, "before": _time(before), "after": _time(after), **same}


def _time(moment: str | date | None) -> str | None:
    """Return a time as ISO 8601; local time gets its time zone."""
    if moment is None or isinstance(moment, str):
        return moment
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return moment.astimezone().isoformat()
