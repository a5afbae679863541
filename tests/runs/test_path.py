"""The path of a prompt has the objects that the architecture names, in the same order."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfydeploy_jupyter
from comfydeploy_jupyter.comfyui.client import ComfyUIClient
from comfydeploy_jupyter.handlers.runs import StreamHandler
from comfydeploy_jupyter.machines.machine import Machine
from comfydeploy_jupyter.runs.creation import RunCreator
from comfydeploy_jupyter.runs.feed import EventLog
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

PACKAGE = str(Path(comfydeploy_jupyter.__file__).parent)
MOST_HOPS = 6


def documented() -> tuple[list[str], list[str]]:
    """Return the first names of the two lists in the architecture: to ComfyUI, and back."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    section = text.split("### The path of a prompt\n")[1].split("\n### ")[0]
    there, back = section.split("From ComfyUI's WebSocket to the reader:")
    return hops(there), hops(back)


def hops(text: str) -> list[str]:
    return re.findall(r"^\d+\. `?(\w+)", text, re.MULTILINE)


def owners(frame: FrameType | None) -> tuple[str, ...]:
    """Return the classes of this package whose methods called each other up to a frame."""
    found: list[str] = []
    while frame is not None:
        owner = type(frame.f_locals.get("self")).__name__
        if frame.f_code.co_filename.startswith(PACKAGE) and found[:1] != [owner]:
            found.insert(0, owner)
        frame = frame.f_back
    return tuple(found)


class Calls:
    """Records the calls of some functions: who called whom, once for each call."""

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._names = {function.__code__: function.__qualname__ for function in functions}
        self._frames: list[FrameType] = []  # a coroutine's frame is entered at each of its steps
        self.chains: dict[str, list[tuple[str, ...]]] = {name: [] for name in self._names.values()}

    def __enter__(self) -> Calls:
        sys.setprofile(self._see)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        name = self._names.get(frame.f_code) if event == "call" else None
        if name is not None and all(frame is not known for known in self._frames):
            self._frames.append(frame)
            self.chains[name].append(owners(frame))


async def test_a_prompt_takes_the_documented_path_to_comfyui(connected, api, chain) -> None:
    there, _ = documented()
    with Calls(RunCreator.create, Machine.ready, ComfyUIClient.post_prompt) as calls:
        assert (await api.post("run", {"workflow_api": chain()}))[0] == 200
    [begun] = calls.chains["RunCreator.create"]
    [posted] = calls.chains["ComfyUIClient.post_prompt"]
    assert begun == tuple(there[:3])
    assert posted == (*there[:2], *there[3:5])
    assert len(there) <= MOST_HOPS
    ready = [found for found in calls.chains["Machine.ready"] if found[: len(begun)] == begun]
    assert len(ready) == 1


async def test_an_event_takes_the_documented_path_to_its_reader(connected, events, chain) -> None:
    _, back = documented()
    with Calls(EventLog.append, StreamHandler.send_events) as calls:
        await events(body={"workflow_api": chain(("TestProgress", {"steps": 3, "delay": 0.01}))})
    received = [found for found in calls.chains["EventLog.append"] if found[0] == back[0]]
    assert len(received) > 3
    assert set(received) == {tuple(back[:-1])}
    assert set(calls.chains[StreamHandler.send_events.__qualname__]) == {(back[-1],)}
    assert len(back) <= MOST_HOPS
