"""The workflows that ComfyUI's editor stores in the folder of its user (``user/…/workflows``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import NotFoundError
from ..util.timestamps import timestamp_of
from .transport import FailedJobError, NoRouteError

if TYPE_CHECKING:
    from .client import ComfyUIClient

FOLDER = "workflows"
"""The folder in which the editor keeps workflows, within the folder of its user."""

MOST = 1000
"""How many files are listed at most."""

LARGEST = 64 * 1024**2
"""Bytes of a file that is read."""


async def list_files(client: ComfyUIClient) -> list[dict[str, Any]]:
    """Return the workflow files; the last changed one is first."""
    try:
        found = await client.get_list(
            f"/userdata?dir={FOLDER}&recurse=true&full_info=true", dict, may_lack=True
        )
    except NoRouteError:  # there is no such folder before the first workflow is saved
        return []
    except FailedJobError:
        raise client.unavailable("it cannot list the workflows of its editor") from None
    files = [file for file in map(_file, found) if file is not None]
    return sorted(files, key=lambda file: str(file["updated_at"]), reverse=True)[:MOST]


async def read_file(client: ComfyUIClient, path: str) -> bytes:
    """Return the content of a workflow file."""
    try:
        return await client.request("GET", _address(path), limit=LARGEST, may_lack=True)
    except (NoRouteError, FailedJobError):
        raise NotFoundError(
            f"file: ComfyUI's editor has no workflow {path!r}",
            details={"field": "file", "file": path},
        ) from None


async def write_file(client: ComfyUIClient, path: str, content: bytes) -> None:
    """Write a workflow file, in place of one with the same path."""
    await client.request("POST", f"{_address(path)}?overwrite=true", body=content)


def _address(path: str) -> str:
    return f"/userdata/{quote(f'{FOLDER}/{path}', safe='')}"


def _file(found: dict[str, Any]) -> dict[str, Any] | None:
    """Return the entry of a file in the list; None if it is not a workflow."""
    path, size, modified = found.get("path"), found.get("size"), found.get("modified")
    if not isinstance(path, str) or not path.lower().endswith(".json") or path.startswith("."):
        return None
    if not isinstance(size, int) or not isinstance(modified, (int, float)):
        return None
    # ComfyUI gives the time in s; newer versions in ms.
    seconds = modified / 1000 if modified > 10**11 else modified
    try:
        return {"path": path, "size": size, "updated_at": timestamp_of(seconds)}
    except (OverflowError, ValueError, OSError):
        return None
