"""The models that a workflow names, and the downloads of those that were missing."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from ..errors import RunTimeoutError, printable
from .files import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .server import Server

POLL_INTERVAL = 0.5  # s
OPEN = frozenset({"queued", "active", "retrying"})


@dataclass
class WorkflowModel:
    """A model file that a workflow names.

    Attributes
    ----------
    name : str
        The name, as loader nodes accept it.
    folder : str or None
        The folder under ``models``.
    state : str
        ``present``, ``missing`` (it can be downloaded), ``no_link`` (its address is not known),
        ``unused`` (the workflow lists it, but uses another one), ``refused``; for a download:
        ``fetching``, ``done``, ``failed`` or ``cancelled``.
    url, sha256 : str or None
        Its address, and the SHA-256 that its content must have.
    size : int or None
        Its size, bytes; None while it is not known.
    received : int
        How much has been downloaded, bytes.
    pickle : bool
        Whether such a file may run code when it is loaded, so that its author must be trusted.
    problem : str or None
        Why it is refused or its download has failed.
    transfer : str or None
        The id of its download, for ``comfy.cancel_uploads(id=…)``.
    """

    name: str
    folder: str | None
    state: str
    url: str | None = None
    sha256: str | None = None
    size: int | None = None
    received: int = 0
    pickle: bool = False
    problem: str | None = None
    transfer: str | None = None
    nodes: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def _update(self, transfer: dict[str, Any]) -> None:
        """Set the progress of its download from a transfer."""
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


class FetchedModels(Sequence[WorkflowModel]):
    """The models that a workflow names, with the progress of their downloads.

    Made by `Comfy.fetch_models`.

    Parameters
    ----------
    reply : dict
        The reply of the route.
    server : Server
        The server that downloads them.

    Attributes
    ----------
    dry_run : bool
        Whether no download was started.
    offline : bool
        Whether the setting ``offline`` forbids all downloads.
    missing_nodes : list of dict
        Node classes that ComfyUI does not have: ``class_type`` and, if it is known, ``pack``.
    warnings : list of str
        Further warnings, a sentence each.
    """

    def __init__(self, reply: dict[str, Any], server: Server) -> None:
        known = set(WorkflowModel.__dataclass_fields__)
        self._models = [
            WorkflowModel(**{key: value for key, value in entry.items() if key in known})
            for entry in reply["models"]
        ]
        self._server = server
        self.dry_run = bool(reply["dry_run"])
        self.offline = bool(reply["offline"])
        self.missing_nodes: list[dict[str, Any]] = list(reply["missing_nodes"])
        self.warnings = [str(warning) for warning in reply["warnings"]]

    @property
    def total_size(self) -> int:
        """The size of all models that are missing or being downloaded, as far as known, bytes."""
        return sum(m.size or 0 for m in self._models if m.state in ("missing", "fetching"))

    @property
    def done(self) -> bool:
        """Whether no download was running at the last `refresh`."""
        return all(model.state != "fetching" for model in self._models)

    def refresh(self) -> FetchedModels:
        """Get the progress of the downloads from the server; return this list."""
        if not self.done:
            queue = self._server.get("upload-queue-status")
            transfers = {one["id"]: one for one in queue["uploads"]}
            for model in self._models:
                if model.transfer in transfers:
                    model._update(transfers[model.transfer])
        return self

    def wait(self, timeout: float | None = None) -> FetchedModels:
        """Wait until the downloads have ended; return this list.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s; by default there is no limit.

        Raises
        ------
        RunTimeoutError
            They have not ended in time; the downloads continue.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.refresh().done:
            if deadline is not None and time.monotonic() >= deadline:
                raise RunTimeoutError(
                    f"The models are not complete after {timeout:g} s; the downloads continue"
                )
            time.sleep(POLL_INTERVAL)
        return self

    @overload
    def __getitem__(self, index: int) -> WorkflowModel: ...

    @overload
    def __getitem__(self, index: slice) -> list[WorkflowModel]: ...

    def __getitem__(self, index: int | slice) -> WorkflowModel | list[WorkflowModel]:
        """Return a model, or several."""
        return self._models[index]

    def __len__(self) -> int:
        """Return how many models the workflow names."""
        return len(self._models)

    def _lines(self) -> Iterator[str]:
        yield from self.warnings
        for entry in self.missing_nodes:
            from_ = entry.get("needs") or entry.get("pack")
            yield f"ComfyUI has no node class {entry['class_type']}{f' ({from_})' if from_ else ''}"

    def __repr__(self) -> str:
        """Return a line for each model."""
        rows = [model._row() for model in self._models]
        if not rows:
            rows = [("the workflow names no model files", "", "")]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{w:<{widths[0]}}  {s:>{widths[1]}}  {said}".rstrip() for w, s, said in rows]
        return printable("\n".join([*lines, *self._lines()]))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in model._row())}</tr>"
            for model in self._models
        )
        more = "".join(f"<p>{html.escape(line)}</p>" for line in self._lines())
        table = f"<table><tr><th>model</th><th>size</th><th></th></tr>{rows}</table>"
        return f"{table if rows else '<p>The workflow names no model files.</p>'}{more}"
