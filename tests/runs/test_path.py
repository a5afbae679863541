"""The path of a prompt has the objects that the architecture names, in the same order."""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfydeploy_jupyter
from comfydeploy_jupyter.comfyui.client import ComfyUIClient
from comfydeploy_jupyter.handlers.runs import StreamHandler
from comfydeploy_jupyter.runs.creation import RunCreator
from comfydeploy_jupyter.runs.feed import EventLog
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PACKAGE = str(Path(comfydeploy_jupyter.__file__).parent)
MAX_HOPS = 6


def documented() -> list[list[str]]:
    """Return the first names of the two lists in the architecture: to ComfyUI, and back."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    section = text.split("### The path of a prompt\n")[1].split("\n### ")[0]
    lists = section.split("From ComfyUI's WebSocket to the reader:")
    return [re.findall(r"^\d+\. `?(\w+)", each, re.MULTILINE) for each in lists]


def owners(frame: FrameType | None) -> tuple[str, ...]:
    """Return the classes of this package whose methods called each other up to a frame."""
    found: list[str] = []
    while frame is not None:
        owner = type(frame.f_locals.get("self")).__name__
        if frame.f_code.co_filename.startswith(PACKAGE) and found[:1] != [owner]:
            found.insert(0, owner)
        frame = frame.f_back
    return tuple(found)


@contextmanager
def calls(*functions: Callable[..., Any]) -> Iterator[list[Counter[tuple[str, ...]]]]:
    """Record which classes call some functions."""
    found = {function.__code__: Counter[tuple[str, ...]]() for function in functions}

    def see(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in found:
            found[frame.f_code][owners(frame)] += 1

    sys.setprofile(see)
    try:
        yield [*found.values()]
    finally:
        sys.setprofile(None)


async def test_a_prompt_and_its_events_take_the_documented_path(connected, api, events, chain):
    there, back = documented()
    assert max(len(there), len(back)) <= MAX_HOPS
    with calls(RunCreator.create, ComfyUIClient.post_prompt) as (created, posted):
        assert (await api.post("run", {"workflow_api": chain()}))[0] == 200
    assert [*created] == [tuple(there[:3])]
    assert [*posted] == [(*there[:2], *there[3:5])]
    with calls(EventLog.append, StreamHandler.send_events) as (appended, sent):
        await events(body={"workflow_api": chain(("TestProgress", {"steps": 3, "delay": 0.01}))})
    received = {found: count for found, count in appended.items() if found[0] == back[0]}
    assert [*received] == [tuple(back[:-1])]
    assert received[tuple(back[:-1])] > 3
    assert [*sent] == [(back[-1],)]
