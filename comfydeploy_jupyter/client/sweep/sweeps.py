"""``comfy.sweep`` makes sweeps, ``comfy.batches`` finds them again."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ...errors import ConflictError, InvalidRequestError, NotFoundError, brief
from ...graphs.inputs import EACH, WITH
from ..files import Uploader, has_files
from ..graph import Source, file_title
from ..runs import RECENT, SHORT_ID, check_options
from ..server import plain, without_none
from ..workflow import Workflow, source_of
from .file import SweepFile, default_path, digest, not_a_sweep
from .plan import Grid, Points
from .sweep import Sweep

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from ..comfy import Comfy, Display
    from ..workflow import WorkflowSource

AtOnce: TypeAlias = int | Literal["auto"]

NOT_FOR_SWEEPS = frozenset(
    {
        *("client_id", "extra_data", "file_upload_endpoint", "front", "gpu_event_id"),
        *("prompt_id", "status_endpoint"),
    }
)
"""Options of a run that a sweep does not take, since they belong to a single run."""

BATCH_OPTIONS = frozenset({"at_once", "order", "retry", "stop_after", "webhook"})
"""Fields of the route ``batch`` that are options."""


class Sweeps:
    """Runs a workflow at every point of a grid: ``comfy.sweep(…)``.

    Examples
    --------
    >>> sweep = comfy.sweep("portrait.json", {"seed": range(8), "cfg": [4, 7]})  # doctest: +SKIP
    >>> sweep.to_dataframe()                                                  # doctest: +SKIP
    """

    def __init__(self, comfy: Comfy) -> None:
        self._comfy = comfy
        self.last: Sweep | None = None
        """The sweep that was made or loaded last."""

    def __repr__(self) -> str:
        return "comfy.sweep(workflow, {input: values}), or comfy.sweep.load(path)"

    def __call__(
        self,
        workflow: Workflow | dict[str, Any] | str | bytes | os.PathLike[str],
        points: Points,
        inputs: Mapping[str, Any] | None = None,
        *,
        seed: int | None = None,
        machine: str | None = None,
        at_once: AtOnce = "auto",
        save: bool | str | os.PathLike[str] = True,
        fresh: bool = False,
        wait: bool = True,
        progress: bool | Literal["auto"] | Display = "auto",
        **options: Any,
    ) -> Sweep:
        """Run a workflow at every point of a grid; show the pictures as they arrive.

        Points with the same graph and the same values that have ended according to the file
        of the sweep are not run again. Returns the points with their results; points may have
        failed.

        Parameters
        ----------
        workflow : Workflow, dict, str, bytes or path
            As `Comfy.load` takes it.
        points : dict or list of dict
            A dict of inputs, by the names that `Comfy.run` takes, to their values. Every
            combination runs; the last input changes fastest. Inputs that change together are one
            key: ``{("width", "height"): [(512, 768), (768, 512)]}``. Or a list of points, each a
            dict. Values may be files, pictures and lists of rows. If no input is called ``seed``,
            or several are, ``seed`` sets every seed of the workflow.
        inputs : dict, optional
            Inputs that are the same at all points.
        seed : int, optional
            As in `Comfy.run`, the same at all points.
        machine : str, optional
            The machine or pool that runs it, by its id or name. Each machine of a pool gets points
            that share as much of their work as possible.
        at_once : int or "auto"
            How many points are queued at a time, 1 to 256; the others wait at the server. By
            default, two for a machine, more if they take only moments, and four for each machine
            of a pool.
        save : bool or path
            The JSON file that names it, so that the same call continues where the last one ended.
            True: in the folder ``sweeps``, under a name made of the workflow's title and the
            points. False: no file.
        fresh : bool
            Whether to run also the points that have ended before.
        wait : bool
            Whether to wait for the end; then interrupting the kernel stops the sweep. The server
            goes on in any case, also without this kernel.
        progress : bool, "auto" or callable
            As in `Comfy.run`; a callable gets the `SweepProgress`.
        **options
            As `Comfy.run` takes them. ``seed_mode`` is ``"saved"`` by default, so that points
            differ only in their values. Also ``retry``, ``stop_after``, ``order`` and ``webhook``
            of the route ``batch``.

        Raises
        ------
        UnknownInputError
            A name is no input of the workflow, or fits inputs of several nodes; nothing has been
            queued.
        InvalidRequestError
            Something else is wrong with the arguments; nothing has been queued.
        ConflictError
            The runs in the file are on another server, or other points with this file are
            running; nothing has been queued.
        ServerUnreachableError
            The server does not answer.
        KeyboardInterrupt
            The kernel was interrupted; ``comfy.sweep.last.resume()`` continues.
        """
        for name in ("version", "workflow_id"):
            if name in options:
                raise brief(TypeError(f"a sweep has no option {name!r}: give it the workflow"))
        also = {"fresh", "points", "save", "wait", *BATCH_OPTIONS}
        check_options([name for name in options if name not in BATCH_OPTIONS], also)
        loaded, grid = Workflow(self._comfy.server, workflow), Grid.of(points)
        source = loaded.source
        if "seed" in grid.names:
            _check_seed(source)
        body, sent = self._request(source, inputs, seed, machine, options, [*grid.values()])
        grid = grid.map(sent)
        body = _with_points(body, grid)
        request = digest(body)
        body |= {"at_once": at_once, "title": loaded.title or None}
        if save is False:
            sweep = self._made(body, source, grid, None)
        else:
            path = default_path(loaded.title, request) if save is True else Path(save).expanduser()
            sweep = self._saved(path, request, body, source, grid, fresh=fresh)
        batch = sweep._batch
        stopped = batch["state"] in ("paused", "cancelled")
        left = batch["counts"].keys() & {"failed", "cancelled"}
        if stopped or (batch["state"] == "done" and left):
            self.last = sweep
            return sweep.resume(wait=wait, progress=progress)
        return sweep._follow(wait=wait, progress=progress)

    def _over(
        self,
        workflow: WorkflowSource,
        sources: Mapping[str, Sequence[Any]],
        inputs: Mapping[str, Any] | None,
        *,
        seed: int | None = None,
        machine: str | None = None,
        **options: Any,
    ) -> Sweep:
        """Return a new sweep over the outputs of runs and batches, see `Comfy.map`."""
        own = {*BATCH_OPTIONS, "workflow_id", "version"}
        check_options([name for name in options if name not in own], own)
        if twice := sources.keys() & (inputs or {}).keys():
            raise InvalidRequestError.of_field(f"inputs.{min(twice)}", "is given twice")
        source, values = source_of(workflow), [v for each in sources.values() for v in each]
        body, sent = self._request(source, inputs, seed, machine, options, values)
        first, *others = sources or [""]
        for name, each in sources.items():
            along = {WITH: first} if name in others else {}
            body["inputs"][name] = {EACH: [*map(sent, each)], **along}
        return self._made({"title": file_title(workflow) or None, **body}, source, None, None)

    def _request(
        self,
        source: Source,
        inputs: Mapping[str, Any] | None,
        seed: int | None,
        machine: str | None,
        options: Mapping[str, Any],
        values: Sequence[Any],
    ) -> tuple[dict[str, Any], Callable[[Any], Any]]:
        """Return the body of a request without its points, and what makes values fit into it."""
        for name in NOT_FOR_SWEEPS & options.keys():
            text = f"a sweep has no option {name!r}: each point is a separate run"
            raise brief(TypeError(text))
        seeds = {} if seed is None else source.seed_inputs(seed)
        constant = {**source.files, **seeds, **(inputs or {})}
        if machine == "auto" and any(map(has_files, [*constant.values(), *values])):
            machine = self._comfy.machines.get(machine).id  # files go to the machine that runs
        uploader = Uploader(self._comfy.server, machine)

        def sent(value: Any) -> Any:
            return plain(uploader.stored(value))

        fixed = {name: sent(value) for name, value in constant.items()}
        return {**source.body(), "inputs": fixed, "machine": machine, **options}, sent

    def _made(
        self, body: dict[str, Any], source: Source, grid: Grid | None, file: SweepFile | None
    ) -> Sweep:
        server = self._comfy.server
        batch = server.post("batch", without_none(body))
        batch = server.get(f"batch/{batch['batch_id']}")
        sweep = Sweep(self._comfy, batch, source=source, grid=grid, file=file)
        if file is not None and (starred := file.starred):
            sweep.star(*(point for point in sweep if point.prompt_id in starred))
        return sweep

    def _saved(
        self,
        path: Path,
        request: str,
        body: dict[str, Any],
        source: Source,
        grid: Grid,
        *,
        fresh: bool,
    ) -> Sweep:
        """Return the sweep of a file, or a new one that continues it."""
        comfy = self._comfy
        file = SweepFile.read(path) if path.exists() else SweepFile(path)
        if file.content:
            file.check(comfy)
        if file.is_old and not fresh:
            body["runs"] = file.runs(grid.points)
        # The id says which request it was: the kernel may end before the file names the batch.
        own = digest([file.key, request])[:32]
        newest = comfy.server.get("batches", key=file.key, limit=1)["batches"]
        if newest and newest[0]["batch_id"].endswith(own) and not fresh:
            batch = comfy.server.get(f"batch/{newest[0]['batch_id']}")
            sweep = Sweep(comfy, batch, source=source, grid=grid, file=file)
        elif newest and newest[0]["state"] == "running":
            raise ConflictError(
                f"the sweep in {path} is running; comfy.sweep.load({str(path)!r}) returns it,"
                " and stop() ends it"
            )
        else:
            if file.content:
                file.write()  # raises if it cannot be written; it stays as it is until then
            else:
                file.put(comfy, str(body["title"] or ""), source)
            batch_id = f"{uuid.uuid4().hex[:8]}-{own}"
            body |= {"key": file.key, "fresh": fresh, "batch_id": batch_id}
            sweep = self._made(body, source, grid, file)
        sweep.save()
        return sweep

    def load(self, path: str | os.PathLike[str]) -> Sweep:
        """Return a sweep that was saved; ``resume()`` continues with it if it is stopped.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        InvalidRequestError
            It is not the file of a sweep.
        ConflictError
            Its runs are on another server.
        """
        comfy, file = self._comfy, SweepFile.read(Path(path).expanduser())
        file.check(comfy)
        content = file.content
        try:
            source = Source(content["workflow_api"], ui=content["workflow"])
            batch = file.batch(comfy)
            if batch is not None:
                sweep = Sweep(comfy, batch, source=source, file=file)
            elif not file.is_old:
                raise NotFoundError(f"the server has deleted the batch of {file.path}")
            else:
                grid = Grid.from_json(content)
                options = {k: v for k, v in content["options"].items() if k not in NOT_FOR_SWEEPS}
                body = {
                    **source.body(),
                    **{name: content[name] for name in ("inputs", "machine", "at_once")},
                    **options,
                    "title": content["title"] or None,
                    "runs": file.runs(grid.points),
                    "key": file.key,
                    "paused": True,
                }
                sweep = self._made(_with_points(body, grid), source, grid, file)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise not_a_sweep(file.path) from error
        sweep.save()
        self.last = sweep
        return sweep


class Batches:
    """The batches that the server has: ``comfy.batches()``."""

    def __init__(self, comfy: Comfy) -> None:
        self._comfy = comfy

    def __repr__(self) -> str:
        return "comfy.batches(), or comfy.batches.get(id)"

    def __call__(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        state: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[Sweep]:
        """Return the batches, the newest first, whoever has started them.

        Parameters
        ----------
        limit, offset : int
            How many to return, and how many of the newest to skip.
        state : str, optional
            Only those that are ``running``, ``paused``, ``cancelled`` or ``done``.
        labels : dict, optional
            Only those with all of these labels.
        """
        wanted = {f"labels[{name}]": value for name, value in (labels or {}).items()}
        query: dict[str, Any] = {"limit": limit, "offset": offset, "state": state, **wanted}
        found = self._comfy.server.get("batches", **query)["batches"]
        return [Sweep(self._comfy, batch) for batch in found]

    def get(self, batch_id: str) -> Sweep:
        """Return a batch by its id; raises NotFoundError if there is none.

        Parameters
        ----------
        batch_id : str
            The id; for the latest 100 batches, its first eight characters are enough.
        """
        server = self._comfy.server
        try:
            return Sweep(self._comfy, server.get(f"batch/{batch_id}"))
        except NotFoundError:
            found = [b["batch_id"] for b in server.get("batches", limit=RECENT)["batches"]]
            found = [each for each in found if each.startswith(batch_id)]
            if len(batch_id) < SHORT_ID or len(found) != 1:
                raise
            return Sweep(self._comfy, server.get(f"batch/{found[0]}"))


def _with_points(body: dict[str, Any], grid: Grid) -> dict[str, Any]:
    """Return the body of a request that has inputs, and the points of a grid."""
    fields = grid.to_json()
    return {**body, **fields, "inputs": {**body["inputs"], **fields.get("inputs", {})}}


def _check_seed(source: Source) -> None:
    """Raise if ``seed`` is varied, and the workflow has none."""
    if source.graph is not None and not source.is_ui:
        named = [node for node in source.graph.values() if "seed" in node.get("inputs", {})]
        if len(named) != 1:
            source.seed_inputs(0)
