"""``comfy.sweep``: creates sweeps and loads saved ones."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import brief
from ..files import has_files, is_file
from ..options import check_options
from ..server import plain
from ..workflow import Workflow
from .grid import Grid, Points
from .plan import AtOnce, Plan
from .sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..comfy import Comfy, Display

NOT_FOR_SWEEPS = frozenset({"prompt_id", "version", "workflow_id", "gpu_event_id"})
"""Options of a run that a sweep does not take, since they belong to a single run."""


class Sweeps:
    """Runs a workflow at every point of a grid: ``comfy.sweep(…)``.

    Parameters
    ----------
    comfy : Comfy
        The client.

    Attributes
    ----------
    last : Sweep or None
        The sweep that was made or loaded last.

    Examples
    --------
    >>> sweep = comfy.sweep("portrait.json", {"seed": range(8), "cfg": [4, 7]})  # doctest: +SKIP
    >>> sweep.to_dataframe()                                                  # doctest: +SKIP
    """

    def __init__(self, comfy: Comfy) -> None:
        self._comfy = comfy
        self.last: Sweep | None = None

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

        Points with the same graph and the same values that have ended according to the file of the
        sweep are not run again.

        Parameters
        ----------
        workflow : Workflow, dict, str, bytes or path
            As `Comfy.load` takes it.
        points : dict or list of dict
            A dict of inputs, by the names that `Comfy.run` takes, to their values. Every
            combination runs; the last input changes fastest. Inputs that change together are one
            key: ``{("width", "height"): [(512, 768), (768, 512)]}``. Or a list of points, each a
            dict. Values may be files and pictures. If no input is called ``seed``, or several are,
            ``seed`` sets every seed of the workflow.
        inputs : dict, optional
            Inputs that are the same at all points.
        seed : int, optional
            As in `Comfy.run`, the same at all points.
        machine : str, optional
            The machine or pool that runs it, by its id or name. Each machine of a pool gets points
            that share as much of their work as possible.
        at_once : int or "auto"
            How many points are queued at a time, 1 to 64. With few, other runs do not wait long,
            and stopping is quick. By default, two for a machine, and four for each machine of a
            pool.
        save : bool or path
            The JSON file where it is saved. True: in the folder ``sweeps``, under a name made of
            the workflow's title and the points, so that the same call continues where the last one
            ended. False: it is not saved.
        fresh : bool
            Whether to run also the points that have ended before.
        wait : bool
            Whether to wait for the end; then interrupting the kernel stops the sweep. False: it
            runs in threads.
        progress : bool, "auto" or callable
            As in `Comfy.run`; a callable gets the `SweepProgress`.
        **options
            As `Comfy.run` takes them. ``seed_mode`` is ``"saved"`` by default, so that points
            differ only in their values.

        Returns
        -------
        Sweep
            The points with their results; points may have failed.

        Raises
        ------
        UnknownInputError
            A name is no input of the workflow, or fits inputs of several nodes; nothing has been
            queued.
        InvalidRequestError
            Something else is wrong with the arguments; nothing has been queued.
        ConflictError
            The runs in the file are on another server; nothing has been queued.
        ComfyUIUnavailableError, ServerUnreachableError
            ComfyUI or the server does not answer; ``comfy.sweep.last.resume()`` continues.
        KeyboardInterrupt
            The kernel was interrupted; ``comfy.sweep.last.resume()`` continues.
        """
        for name in options:
            if name in NOT_FOR_SWEEPS:
                text = f"a sweep has no option {name!r}: each point is a separate run"
                raise brief(TypeError(text))
        check_options(options, {"at_once", "fresh", "points", "save", "wait"})
        loaded = Workflow(self._comfy.server, workflow)
        seeds = {} if seed is None else loaded.source.seed_inputs(seed)
        constant = {**loaded.source.files, **seeds, **(inputs or {})}
        grid = Grid.of(points)
        self._check_names(loaded, grid, constant, at_once)
        values = [*constant.values(), *(value for p in grid.points for value in p.values())]
        if machine == "auto" and any(map(has_files, values)):
            machine = self._comfy.machines.get(machine).id  # files go to the machine that runs
        uploads = _Uploads(self._comfy, machine)
        plan = Plan(
            self._comfy.server,
            loaded,
            grid.map(uploads.replace),
            inputs={key: uploads.replace(value) for key, value in constant.items()},
            machine=machine,
            options=options,
            at_once=at_once,
        )
        sweep = self.last = Sweep(self._comfy, plan, save=save, fresh=fresh)
        return sweep.resume(wait=wait, progress=progress)

    def load(self, path: str | os.PathLike[str]) -> Sweep:
        """Return a sweep that was saved; ``resume()`` continues with it.

        Parameters
        ----------
        path : path
            Its file.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        InvalidRequestError
            It is not the file of a sweep.
        ConflictError
            Its runs are on another server.
        """
        self.last = Sweep.load(self._comfy, Path(path).expanduser())
        return self.last

    def _check_names(
        self, workflow: Workflow, grid: Grid, inputs: Mapping[str, Any], at_once: AtOnce
    ) -> None:
        """Raise if a name is no input of the workflow; done before any file is uploaded."""
        placeholders = dict.fromkeys(inputs, "")
        Plan(
            self._comfy.server,
            workflow,
            grid.map(_placeholder),
            inputs=placeholders,
            at_once=at_once,
        ).keys()


def _placeholder(value: Any) -> Any:
    return "file" if has_files(value) else plain(value)


class _Uploads:
    """Uploads the files and pictures among the values of a sweep, each once."""

    def __init__(self, comfy: Comfy, machine: str | None) -> None:
        self._comfy = comfy
        self._machine = machine
        self._names: dict[int, str] = {}
        self._uploaded: list[Any] = []  # references, so that no other object gets the same id()

    def replace(self, value: Any) -> Any:
        """Return the value, with each file or picture in it replaced by its uploaded name."""
        if not is_file(value):
            return [self.replace(file) for file in value] if has_files(value) else plain(value)
        if id(value) not in self._names:
            name = None
            if not isinstance(value, os.PathLike):
                # Named by its content, so that the next call finds that the value is the same.
                facts = f"{getattr(value, 'mode', '')}{getattr(value, 'size', '')}".encode()
                name = f"upload-{hashlib.sha256(facts + value.tobytes()).hexdigest()[:16]}.png"
            uploaded = self._comfy.upload(value, name=name, machine=self._machine)
            self._names[id(value)] = str(uploaded)
            self._uploaded.append(value)
        return self._names[id(value)]
