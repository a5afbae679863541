"""The models of ComfyUI, and the downloads of those that a workflow needs."""

from __future__ import annotations

import html
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from ..errors import InvalidRequestError, RunTimeoutError, printable
from ..util.markup import html_table
from .files import Model, human_size
from .server import fields_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .server import Server


MOVE_TIMEOUT = 3600.0  # s; a model is copied if it is moved to another disk


class ModelUses(NamedTuple):
    """What uses a model."""

    in_use: bool
    """Whether a run that has not ended, a prompt in ComfyUI's queue or a transfer uses it now, as
    far as is known: a ComfyUI that does not answer is left out."""
    workflows: list[str]
    """The names of the stored workflows that name it."""
    runs: list[str]
    """The ids of the runs that name it: those that have not ended, then the newest of the last
    1,000 others; at most 20."""
    run_count: int
    """Number of all of these runs."""
    transfers: list[str]
    """The ids of the transfers of its file that have not ended."""


class Models:
    """The models of ComfyUI: ``comfy.models(…)`` lists them.

    A model is given as ``"<folder>/<name>"`` or as a `Model` of the list.

    Examples
    --------
    >>> comfy.models("loras", search="ink")                                   # doctest: +SKIP
    >>> comfy.models.uses("loras/ink.safetensors")                            # doctest: +SKIP
    >>> comfy.models.move("loras/ink.safetensors", name="style/ink.safetensors")  # doctest: +SKIP
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def __repr__(self) -> str:
        return "comfy.models(…), comfy.models.uses(…), comfy.models.move(…), comfy.models.delete(…)"

    def __call__(
        self, folder: str | None = None, *, search: str | None = None, machine: str | None = None
    ) -> list[Model]:
        """Return the model files of ComfyUI.

        Parameters
        ----------
        folder : str, optional
            Only those of one folder, e.g. ``checkpoints``.
        search : str, optional
            Words that must be in the name.
        """
        found = self._server.get("models", folder=folder, search=search, machine=machine)
        return [fields_in(Model, model) for model in found]

    def uses(self, model: str | Model, *, machine: str | None = None) -> ModelUses:
        """Return what uses a model: stored workflows, runs and transfers.

        Raises NotFoundError if there is no such model in the folders of this machine.
        """
        folder, name = _parts(model)
        found = self._server.get("models/uses", folder=folder, filename=name, machine=machine)
        return ModelUses(
            found["in_use"],
            [use["name"] for use in found["workflows"]],
            [use["prompt_id"] for use in found["runs"]],
            found["run_count"],
            [use["id"] for use in found["transfers"]],
        )

    def move(
        self,
        model: str | Model,
        folder: str | None = None,
        name: str | None = None,
        *,
        in_use: bool = False,
        machine: str | None = None,
    ) -> str:
        """Move a model to another models folder, or give it another name; return its new path.

        Nothing is replaced. Its hashes stay known. Workflows that name it are not changed.

        Parameters
        ----------
        folder : str, optional
            The new models folder, e.g. ``checkpoints``; by default it stays.
        name : str, optional
            The new name, with its subfolder; by default it stays.
        in_use : bool
            Whether it is moved although a run or a transfer uses it now.

        Raises
        ------
        ConflictError
            Another file is there, a run or a transfer uses the model, or a ComfyUI that has the
            model does not answer.
        InvalidRequestError, NotFoundError, ForbiddenPathError
            The model does not exist, or it may not be there.
        """
        reply = self._change(
            "move", model, in_use=in_use, machine=machine, to_folder=folder, to_filename=name
        )
        return str(reply["path"])

    def delete(
        self, model: str | Model, *, in_use: bool = False, machine: str | None = None
    ) -> None:
        """Delete the file of a model. This cannot be undone.

        Parameters
        ----------
        in_use : bool
            Whether it is deleted although a run or a transfer uses it now.

        Raises
        ------
        ConflictError
            A run or a transfer uses the model, or a ComfyUI that has it does not answer;
            ``error.details["uses"]`` has what is known.
        NotFoundError, ForbiddenPathError
            The model does not exist, or may not be deleted.
        """
        self._change("delete", model, in_use=in_use, machine=machine)

    def _change(self, action: str, model: str | Model, **fields: Any) -> Any:
        folder, name = _parts(model)
        given = {"action": action, "folder": folder, "filename": name}
        return self._server.post("volume/model", given, timeout=MOVE_TIMEOUT, **fields)


def _parts(model: str | Model) -> tuple[str, str]:
    if isinstance(model, Model):
        return model.folder, model.name
    folder, slash, name = model.removeprefix("models/").partition("/")
    if not slash or not name:
        raise InvalidRequestError.of_field("model", f"must be <folder>/<name>, not {model!r}")
    return folder, name


T = TypeVar("T")
F = TypeVar("F", bound="Followed[Any]")
POLL_INTERVAL = 0.5  # s
OPEN = frozenset({"queued", "active", "retrying"})


@dataclass
class WorkflowModel:
    """A model file that a workflow names.

    Attributes
    ----------
    url, sha256 : str or None
        Its address, and the SHA-256 that its content must have.
    """

    name: str
    """The name, as loader nodes accept it."""
    folder: str | None
    """The folder under ``models``."""
    state: str
    """``present``, ``missing`` (it can be downloaded), ``no_link`` (its address is not known),
    ``unused`` (the workflow lists it, but uses another one), ``refused``; for a download:
    ``fetching``, ``done``, ``failed`` or ``cancelled``."""
    url: str | None = None
    sha256: str | None = None
    size: int | None = None
    """Its size, bytes; None while it is not known."""
    received: int = 0
    """How much has been downloaded, bytes."""
    pickle: bool = False
    """Whether such a file may run code when it is loaded, so that its author must be trusted."""
    problem: str | None = None
    """Why it is refused or its download has failed."""
    transfer: str | None = None
    """The id of its download, for ``comfy.cancel_uploads(id=…)``."""
    nodes: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def _update(self, transfer: dict[str, Any]) -> None:
        self.size = transfer["size"] if transfer["size"] is not None else self.size
        self.received = transfer["sent"]
        self.problem = transfer["error"]
        state = transfer["state"]
        self.state = "fetching" if state in OPEN else state

    def _row(self) -> tuple[str, str, str]:
        where = f"{self.folder or '?'}/{self.name}"
        size = human_size(self.size) if self.size is not None else ""
        state = STATES.get(self.state, self.state)
        if self.state == "fetching" and self.size:
            state = f"{state}, {100 * self.received // self.size} %"
        if self.pickle and self.state in ("missing", "fetching"):
            state += "; a pickle, which may run code when it is loaded"
        return where, size, f"{state}: {self.problem}" if self.problem else state


STATES = {
    "present": "is available",
    "missing": "is missing",
    "no_link": "is missing, and the workflow contains no link to it",
    "unused": "is not used",
    "fetching": "is being downloaded",
    "done": "is downloaded",
}


class Followed(Sequence[T], ABC):
    """Entries of a workflow, such as models, with what the server does with them."""

    _entries: list[T]

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether nothing was being done at the last `refresh`."""

    @abstractmethod
    def refresh(self) -> Any:
        """Get the progress from the server; return this list."""

    def _wait(self: F, timeout: float | None, late: str, goes_on: str) -> F:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.refresh().done:
            if deadline is not None and time.monotonic() >= deadline:
                raise RunTimeoutError(f"{late} after {timeout:g} s; {goes_on}")
            time.sleep(POLL_INTERVAL)
        return self

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        """Return an entry, or several."""
        return self._entries[index]

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)


class FetchedModels(Followed[WorkflowModel]):
    """The models that a workflow names, with the progress of their downloads.

    Made by `Comfy.fetch_models`.
    """

    def __init__(self, reply: dict[str, Any], server: Server) -> None:
        self._entries = [fields_in(WorkflowModel, entry) for entry in reply["models"]]
        self._server = server
        self.dry_run = bool(reply["dry_run"])
        """Whether no download was started."""
        self.offline = bool(reply["offline"])
        """Whether the setting ``offline`` forbids all downloads."""
        self.missing_nodes: list[dict[str, Any]] = list(reply["missing_nodes"])
        """Node classes that ComfyUI does not have: ``class_type`` and, if it is known, ``pack``."""
        self.warnings = [str(warning) for warning in reply["warnings"]]
        """Further warnings, a sentence each."""

    @property
    def total_size(self) -> int:
        """The size of all models that are missing or being downloaded, as far as known, bytes."""
        return sum(m.size or 0 for m in self._entries if m.state in ("missing", "fetching"))

    @property
    def done(self) -> bool:
        """Whether no download was running at the last `refresh`."""
        return all(model.state != "fetching" for model in self._entries)

    def refresh(self) -> FetchedModels:
        """Get the progress of the downloads from the server; return this list."""
        if not self.done:
            queue = self._server.get("upload-queue-status")
            transfers = {one["id"]: one for one in queue["uploads"]}
            for model in self._entries:
                if model.transfer in transfers:
                    model._update(transfers[model.transfer])
        return self

    def wait(self, timeout: float | None = None) -> FetchedModels:
        """Wait until the downloads have ended; return this list.

        Raises RunTimeoutError if they have not ended in time; the downloads continue.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s; by default there is no limit.
        """
        return self._wait(timeout, "The models are not complete", "the downloads continue")

    def _lines(self) -> Iterator[str]:
        yield from self.warnings
        for entry in self.missing_nodes:
            from_ = entry.get("needs") or entry.get("pack")
            yield f"ComfyUI has no node class {entry['class_type']}{f' ({from_})' if from_ else ''}"

    def __repr__(self) -> str:
        """Return a line for each model."""
        rows = [model._row() for model in self._entries]
        if not rows:
            rows = [("the workflow names no model files", "", "")]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{w:<{widths[0]}}  {s:>{widths[1]}}  {said}".rstrip() for w, s, said in rows]
        return printable("\n".join([*lines, *self._lines()]))

    def _repr_html_(self) -> str:
        table = html_table(("model", "size", ""), [model._row() for model in self._entries])
        more = "".join(f"<p>{html.escape(line)}</p>" for line in self._lines())
        return f"{table if self._entries else '<p>The workflow names no model files.</p>'}{more}"
