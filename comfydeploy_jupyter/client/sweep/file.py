"""The file of a sweep, which names its batch."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConflictError, InvalidRequestError, NotFoundError
from ..files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..comfy import Comfy
    from ..graph import Source

FORMAT = "comfydeploy-sweep"
VERSION = 2
FOLDER = Path("sweeps")  # where sweeps are saved by default, relative to the working directory


class SweepFile:
    """The file of a sweep."""

    def __init__(self, path: Path, content: dict[str, Any] | None = None) -> None:
        self.path = path
        self.content = content or {}  # empty if there is no file yet
        self._key = f"sweep-{uuid.uuid4()}"

    @classmethod
    def read(cls, path: Path) -> SweepFile:
        """Read a file, which may be that of an earlier version."""
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise not_a_sweep(path) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise not_a_sweep(path)
        if content.get("version") not in (1, VERSION):
            raise InvalidRequestError.of_field("path", f"{path} was saved by a newer version")
        return cls(path, content)

    @property
    def is_old(self) -> bool:
        """Whether it is of the first version, which has the runs themselves."""
        return bool(self.content) and self.content["version"] != VERSION

    @property
    def key(self) -> str:
        """The key of its batches, of which the newest one is the sweep."""
        if self.is_old:
            return f"sweep-{digest(self.content.get('runs'))}"
        return str(self.content.get("key") or self._key)

    def write(self) -> None:
        """Write the content; raises OSError if that is not possible."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(self.content, ensure_ascii=False) + "\n")

    def put(self, comfy: Comfy, title: str, source: Source, batch_id: str = "") -> None:
        """Write what the file of a sweep has; without its batch, that is found by the key."""
        self.content = {
            "format": FORMAT,
            "version": VERSION,
            "server": _server_of(comfy),
            "key": self.key,
            "batch_id": batch_id,
            "title": title,
            "workflow_api": source.graph,
            "workflow": source.ui,
        }
        self.write()

    def check(self, comfy: Comfy) -> None:
        """Raise a ConflictError if the runs are on another server than the present one."""
        known, present = self.content.get("server"), _server_of(comfy)
        known = known if isinstance(known, dict) else {}  # older files have none
        complete = all(isinstance(known.get(name), str) for name in present)
        if complete and known["id"] != present["id"]:
            raise ConflictError(
                f"the runs of {self.path} are on the Jupyter server {known['url']!r}, whose data"
                f" are in {known['store']!r}; {present['url']!r} is another one, or its data were"
                " replaced. Connect to that server to continue, or run the points here with save="
                " another file"
            )

    def batch(self, comfy: Comfy) -> dict[str, Any] | None:
        """Return its batch; also if the kernel has ended before its id was written."""
        batch_id = self.content.get("batch_id")
        if not batch_id:
            found = comfy.server.get("batches", key=self.key, limit=1)["batches"]
            batch_id = found[0]["batch_id"] if found else ""
        with suppress(NotFoundError):
            return dict(comfy.server.get(f"batch/{batch_id}")) if batch_id else None
        return None

    def runs(self, points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Return the runs that a file of the first version has, by the numbers of points."""
        return {
            str(number): str(saved["prompt_id"])
            for number, values in enumerate(points)
            for saved in self.content.get("runs", {}).values()
            if saved["values"] == values and saved["sent"] and saved["status"] != "waiting"
        }

    @property
    def starred(self) -> list[str]:
        """The runs with a star, according to a file of the first version."""
        runs = self.content["runs"].values() if self.is_old else ()
        return [str(saved["prompt_id"]) for saved in runs if saved.get("starred")]


def not_a_sweep(path: Path) -> InvalidRequestError:
    """Return the error for a file that holds something else."""
    return InvalidRequestError.of_field("path", f"{path} is not the file of a sweep")


def default_path(title: str, request: str) -> Path:
    """Return the path of a sweep's file, the same for the same workflow and points."""
    name = re.sub(r"[^\w.-]+", "-", title).strip("-.")[:60] or "sweep"
    return FOLDER / f"{name}-{request[:8]}.json"


def digest(value: object) -> str:
    """Return the SHA-256 of a value's JSON, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _server_of(comfy: Comfy) -> dict[str, str]:
    """Return what identifies the present server: its address, the file and id of its store."""
    store = comfy.server.get("check-status", timeout=10).get("store", {})
    return {"url": comfy.server.url, "store": store["path"], "id": store["id"]}
