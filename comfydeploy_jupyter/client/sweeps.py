"""``comfy.sweep``: make sweeps, and find those that were made."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .files import has_files, is_file
from .grid import Grid, Points
from .options import check_options
from .sweep import AT_ONCE, Sweep, read_file
from .workflow import Workflow, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .comfy import Comfy, Display

FOLDER = Path("sweeps")
"""Where sweeps are saved, in the folder of the notebook."""

OWN = frozenset({"prompt_id", "version", "workflow_id", "gpu_event_id"})
"""Options of a run that a sweep cannot have: each point is a run of its own."""


class Sweeps:
    """Runs a workflow at every point of a grid: ``comfy.sweep(…)``.

    Parameters
    ----------
    comfy : Comfy
        The client.

    Attributes
    ----------
    last : Sweep or None
        The one that was made or loaded last.

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
        at_once: int = AT_ONCE,
        save: bool | str | os.PathLike[str] = True,
        fresh: bool = False,
        wait: bool = True,
        progress: bool | Literal["auto"] | Display = "auto",
        **options: Any,
    ) -> Sweep:
        """Run a workflow at every point of a grid, show the pictures as they arrive.

        Points that the file of the sweep has done already, with the same graph and the same
        values, are not run again.

        Parameters
        ----------
        workflow : Workflow, dict, str, bytes or path
            As `Comfy.load` takes it.
        points : dict or list of dict
            For each input its values, by the names that `Comfy.run` takes; every combination runs,
            the last input changing fastest. Inputs that change together are one key:
            ``{("width", "height"): [(512, 768), (768, 512)]}``. A list of dicts has the points one
            by one. Values may be files and pictures. ``seed``, where no single input is called
            so, is every seed of the workflow.
        inputs : dict, optional
            Inputs that are the same at all points.
        seed : int, optional
            As in `Comfy.run`, the same at all points.
        machine : str, optional
            The ComfyUI that shall run it.
        at_once : int
            Points that are queued at a time, 1 to 64; few, so that others get their turn and
            stopping is quick.
        save : bool or path
            Where it is saved as JSON. By default in the folder ``sweeps``, under a name that says
            workflow and points, so that the same call goes on where it was left.
        fresh : bool
            Whether to run again what is done.
        wait : bool
            Whether to wait for the end; interrupting the kernel stops it. Without, it goes on in
            threads.
        progress : bool, "auto" or callable
            As in `Comfy.run`; a callable gets the `SweepProgress`.
        **options
            As `Comfy.run` takes them. ``seed_mode`` is ``"saved"`` unless given, so that points
            differ in nothing but their values.

        Returns
        -------
        Sweep
            The points with their results; points may have failed.

        Raises
        ------
        UnknownInputError
            A name is no input of the workflow, or several; nothing has been queued.
        InvalidRequestError
            Something else is wrong with the arguments; nothing has been queued.
        ComfyUIUnavailableError, ServerUnreachableError
            ComfyUI or the server is away; ``comfy.sweep.last.resume()`` goes on.
        KeyboardInterrupt
            The kernel was interrupted; ``comfy.sweep.last.resume()`` goes on.
        """
        for name in options:
            if name in OWN:
                raise TypeError(f"a sweep has no option {name!r}: each point is a run of its own")
        check_options(options, {"at_once", "fresh", "points", "save", "wait"})
        loaded = Workflow(self._comfy.server, workflow)
        seeds = {} if seed is None else loaded.source.seed_inputs(seed)
        constant = {**loaded.source.files, **seeds, **(inputs or {})}
        grid = Grid.of(points)
        # Names are checked before files are sent, which may be many.
        names = dict.fromkeys(constant, "")
        Sweep(self._comfy, loaded, grid.map(_placeholder), inputs=names, at_once=at_once)
        values = [*constant.values(), *(value for p in grid.points for value in p.values())]
        if machine == "auto" and any(map(has_files, values)):
            machine = self._comfy.machines.get(machine).id  # it must be the one that has the files
        sent = _Sent(self._comfy, machine)
        sweep = Sweep(
            self._comfy,
            loaded,
            grid.map(sent),
            inputs={key: sent(value) for key, value in constant.items()},
            machine=machine,
            options=options,
            at_once=at_once,
        )
        if save is not False:
            sweep.path = default_path(sweep) if save is True else Path(save).expanduser()
            if sweep.path.exists():
                sweep._take_over(read_file(sweep.path), fresh=fresh)
        self.last = sweep
        return sweep.resume(wait=wait, progress=progress)

    def load(self, path: str | os.PathLike[str]) -> Sweep:
        """Return a sweep that was saved; ``resume()`` goes on with it.

        Parameters
        ----------
        path : path
            Its file.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        InvalidRequestError
            It is no file of a sweep.
        """
        self.last = Sweep.load(self._comfy, Path(path).expanduser())
        return self.last


def _placeholder(value: Any) -> Any:
    return "file" if has_files(value) else plain(value)


class _Sent:
    """Sends the files among the values, each once, and gives what stands for them."""

    def __init__(self, comfy: Comfy, machine: str | None) -> None:
        self._comfy = comfy
        self._machine = machine
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []

    def __call__(self, value: Any) -> Any:
        if not is_file(value):
            return [self(file) for file in value] if has_files(value) else plain(value)
        if id(value) not in self._names:
            name = None
            if not isinstance(value, os.PathLike):
                # By content, so that the same picture is the same value the next time.
                facts = f"{getattr(value, 'mode', '')}{getattr(value, 'size', '')}".encode()
                name = f"upload-{hashlib.sha256(facts + value.tobytes()).hexdigest()[:16]}.png"
            self._names[id(value)] = str(
                self._comfy.upload(value, name=name, machine=self._machine)
            )
            self._kept.append(value)
        return self._names[id(value)]


def default_path(sweep: Sweep) -> Path:
    """Return where a sweep is saved: the same for the same workflow and points."""
    title = re.sub(r"[^\w.-]+", "-", sweep.title).strip("-.")[:60] or "sweep"
    return FOLDER / f"{title}-{sweep.digest[:8]}.json"
