"""The file of a sweep: what it runs, and the runs that it has made."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ComfyDeployError, ConflictError, InvalidRequestError
from ..writing import write_text
from .plan import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .plan import Plan
    from .points import Job

FORMAT = "comfydeploy-sweep"
VERSION = 1
SERVER = ("url", "store", "id")
"""What identifies the server that has the runs: its address, and the file and id of its store."""

FOLDER = Path("sweeps")
"""The folder where sweeps are saved by default, relative to the working directory."""

SAVE_INTERVAL = 1.0
"""Shortest time between two savings, s; the ids of all runs are saved before the first starts."""

SAVE_SHARE = 20
"""The time between two savings is at least this many times the time that the last one took."""


class SweepFile:
    """Saves a sweep in a JSON file; safe to use from several threads.

    Parameters
    ----------
    plan : Plan
        What the sweep runs.
    jobs : dict
        Its runs by the keys of their points.
    path : Path, optional
        The file; None: nothing is saved.

    Attributes
    ----------
    path : Path or None
        The file.
    """

    def __init__(self, plan: Plan, jobs: Mapping[str, Job], path: Path | None) -> None:
        self.path = path
        self._server: dict[str, str] | None = None  # the one that has the runs
        self._plan = plan
        self._jobs = jobs
        self._others: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._saved_at, self._saving_took = 0.0, 0.0

    def restore(self, *, fresh: bool) -> None:
        """Set the jobs to the state that the file has of them, if the file exists.

        Runs in the file that belong to no point of this sweep stay in the file.

        Parameters
        ----------
        fresh : bool
            Whether to ignore the state of this sweep's runs, so that all run again; stars stay.

        Raises
        ------
        InvalidRequestError
            It is not the file of a sweep.
        ConflictError
            Its runs are on another server.
        """
        if self.path is None or not self.path.exists():
            return
        content = read(self.path)
        server = content.get("server")  # older files have none
        if isinstance(server, dict) and all(isinstance(server.get(name), str) for name in SERVER):
            self._server = {name: server[name] for name in SERVER}
            try:
                self.check_server()
            except ConflictError:
                raise
            except ComfyDeployError:
                pass  # without an answer, what the file has can be seen
        try:
            for key, saved in content["runs"].items():
                job = self._jobs.get(key)
                if job is None:
                    self._others[key] = saved
                else:
                    job.restore(saved, fresh=fresh)
        except (KeyError, TypeError, AttributeError) as error:
            raise not_a_sweep(self.path) from error

    def check_server(self) -> None:
        """Compare the server that has the runs with the present one; without one, it is this one.

        Raises
        ------
        ConflictError
            The runs are on another server.
        ServerUnreachableError
            The present one does not answer.
        """
        server = self._plan.server
        store = server.get("check-status", timeout=10).get("store", {})
        if "id" not in store:  # an older version
            return
        present = {"url": server.url, "store": store["path"], "id": store["id"]}
        known = self._server
        if known is not None and known["id"] != present["id"]:
            runs = "this sweep" if self.path is None else str(self.path)
            raise ConflictError(
                f"the runs of {runs} are on the Jupyter server {known['url']!r}, whose data are in"
                f" {known['store']!r}; {server.url!r} is another one, or its data were replaced."
                " Connect to that server to continue, or run the points here with save= another"
                " file"
            )
        self._server = present

    def save(self, path: str | Path | None = None) -> Path | None:
        """Write the file; a crash leaves the old content.

        Parameters
        ----------
        path : path, optional
            Another file, which replaces `path`.

        Returns
        -------
        Path or None
            The file; None if there is none.
        """
        with self._lock:
            if path is not None:
                self.path = Path(path).expanduser()
            if self.path is None:
                return None
            started = time.monotonic()
            runs = {key: job.to_json() for key, job in self._jobs.items()}
            content = {
                "format": FORMAT,
                "version": VERSION,
                "server": self._server,
                **self._plan.to_json(),
                "runs": {**self._others, **runs},
            }
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(content, ensure_ascii=False) + "\n")
            self._saved_at = time.monotonic()
            self._saving_took = self._saved_at - started
            return self.path

    @property
    def is_due(self) -> bool:
        """Whether the last saving is long enough ago for another one."""
        interval = max(SAVE_INTERVAL, SAVE_SHARE * self._saving_took)
        return time.monotonic() - self._saved_at > interval


def default_path(title: str, keys: Iterable[str]) -> Path:
    """Return the path of a sweep's file, the same for the same workflow and points.

    Parameters
    ----------
    title : str
        The title of the workflow.
    keys : iterable of str
        The keys of the runs, each once.
    """
    name = re.sub(r"[^\w.-]+", "-", title).strip("-.")[:60] or "sweep"
    return FOLDER / f"{name}-{digest(list(keys))[:8]}.json"


def read(path: Path) -> dict[str, Any]:
    """Return the content of a sweep's file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    InvalidRequestError
        It is not the file of a sweep, or a newer version wrote it.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise not_a_sweep(path) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise not_a_sweep(path)
    if content.get("version") != VERSION:
        raise InvalidRequestError.of_field("path", f"{path} was saved by a newer version")
    return content


def not_a_sweep(path: Path) -> InvalidRequestError:
    """Return the error for a file that holds something else."""
    return InvalidRequestError.of_field("path", f"{path} is not the file of a sweep")
