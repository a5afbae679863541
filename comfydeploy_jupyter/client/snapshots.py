"""Snapshots of the environment of a ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ComfyDeployError, InvalidRequestError, printable
from .server import loads, unreachable
from .stream import SSEParser

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from .server import Server

SILENCE = 60.0  # s; the server sends something every 15 s
SHOWN = 8  # warnings and packs that are listed


@dataclass(frozen=True, repr=False)
class Snapshot:
    """An environment: ComfyUI, its Python packages, its custom nodes and its models."""

    data: dict[str, Any]
    """``comfyui``, ``python``, ``custom_nodes`` and ``models``. It can be given to
    `Comfy.snapshot`, on this server or on another one."""
    docker_command_steps: dict[str, Any]
    """The steps that make the same environment on a ComfyDeploy machine."""
    manager_snapshot: dict[str, Any]
    """The same in the format that ComfyUI-Manager restores."""
    path: str | None
    """The Docker build context, a folder of the server; None of a run, and if ComfyDeploy made the
    steps."""
    dockerfile: str | None
    """The text of its Dockerfile."""
    image: str | None
    """The image that was built."""
    warnings: list[str]
    """A sentence for each thing that the snapshot does not have, with the reason."""

    def __repr__(self) -> str:
        comfyui, python = self.data["comfyui"], self.data["python"]
        commit = f" ({comfyui['commit'][:10]})" if comfyui.get("commit") else ""
        nodes = [node for node in self.data["custom_nodes"] if not node["disabled"]]
        models = self.data["models"]
        hashed = sum(model["sha256"] is not None for model in models)
        lines = [
            f"Snapshot of ComfyUI {comfyui.get('version') or 'of unknown version'}{commit}",
            f"  Python {python.get('version') or '?'}, {len(python['packages'])} packages",
            f"  {len(nodes)} custom nodes",
            *(f"    {_node(node)}" for node in nodes[:SHOWN]),
        ]
        if len(nodes) > SHOWN:
            lines.append(f"    and {len(nodes) - SHOWN} more")
        lines.append(f"  {len(models)} models, {hashed} with their SHA-256")
        if self.image:
            lines.append(f"  image: {self.image}")
        if self.path:
            lines.append(f"  build it: docker build {self.path}")
        lines += [f"  ! {warning}" for warning in self.warnings[:SHOWN]]
        if len(self.warnings) > SHOWN:
            lines.append(f"  ! and {len(self.warnings) - SHOWN} more in .warnings")
        return printable("\n".join(lines))


def _node(node: dict[str, Any]) -> str:
    where = {
        "git": f"{node['repository']} at {str(node['commit'])[:10]}",
        "registry": f"{node['id']} {node['version']}",
        "files": "without repository: its files are copied",
    }
    return f"{node['name']}: {where[node['kind']]}"


def take(server: Server, body: dict[str, Any], on_line: Callable[[str], object]) -> Snapshot:
    """Request a snapshot, and pass each line of progress to a function; see `Comfy.snapshot`."""
    headers = {"Accept": "text/event-stream"}
    address = server.address("snapshot-to-docker")
    with server.request("POST", address, body=body, headers=headers, timeout=SILENCE) as response:
        parser = SSEParser()
        for message in chain.from_iterable(map(parser.feed, response.iter_content(None))):
            match loads(message.data):
                case {"event": "log", "data": data}:
                    on_line(data["line"])
                case {"event": "result", "data": data}:
                    return snapshot_of(data)
                case {"event": "error", "data": data}:
                    raise ComfyDeployError.from_reply(data.pop("status"), data)
    raise unreachable(address, ConnectionError("the stream ended early"))


def snapshot_of(reply: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot in a reply of the server."""
    fields = {name: reply.get(name) for name in ("path", "dockerfile", "image")}
    steps, converted = reply["docker_command_steps"], reply.get("manager_snapshot", {})
    warnings = list(reply.get("warnings", ()))
    return Snapshot(reply["snapshot"], steps, converted, warnings=warnings, **fields)


def given(snapshot: Snapshot | dict[str, Any] | str | os.PathLike[str]) -> dict[str, Any] | str:
    """Return a snapshot in the form that the route takes: an object, or the text of a file."""
    if isinstance(snapshot, Snapshot):
        return snapshot.data
    if isinstance(snapshot, dict):
        return snapshot
    path = Path(snapshot).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise InvalidRequestError.of_field("snapshot", f"{path}: {exc.strerror}") from None
