"""A relay in front of ComfyUI, and a check for hidden errors of the server."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.helpers.relay import Relay
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def no_hidden_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail if a task ended with an exception that was not retrieved."""
    yield
    gc.collect()
    records = [r for phase in ("setup", "call", "teardown") for r in caplog.get_records(phase)]
    errors = [
        record.getMessage()
        for record in records
        if record.levelname in ("ERROR", "CRITICAL")
        and record.name.split(".")[0] in ("asyncio", "comfydeploy_jupyter", "tornado")
    ]
    assert errors == []


@pytest.fixture
def relay(comfyui, jp_asyncio_loop) -> Iterator[Relay]:
    """A relay in front of the ComfyUI that all tests share."""
    found = Relay(comfyui.port)
    jp_asyncio_loop.run_until_complete(found.listen())
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


@pytest.fixture
def verdict(comfyui) -> Callable[[str], str | None]:
    """Return the status of a prompt in ComfyUI's own history, None if it is not there."""

    def read(prompt_id: str) -> str | None:
        answer = requests.get(f"{comfyui.url}/history/{prompt_id}", timeout=10).json()
        if prompt_id not in answer:
            return None
        status: dict[str, Any] = answer[prompt_id]["status"]
        if status["status_str"] == "success":
            return "success"
        names = [message[0] for message in status["messages"]]
        return "cancelled" if "execution_interrupted" in names else "failed"

    return read


@pytest.fixture
def idle(comfyui) -> Iterator[Callable[[], None]]:
    """Return a function that empties ComfyUI's queue; it is emptied after the test too."""

    def empty() -> None:
        requests.post(f"{comfyui.url}/queue", json={"clear": True}, timeout=10)
        requests.post(f"{comfyui.url}/interrupt", json={}, timeout=10)

    yield empty
    empty()


async def until_reconnected(api, count: Callable[[], int], before: int) -> None:
    """Wait until there is a new socket, even if the time without one was short."""
    await until_async(count, lambda found: found > before)
    await until_connected(api)


async def until_connected(api, wanted=True, timeout=30.0) -> None:
    """Wait until the server is connected to ComfyUI, or is not."""
    await until_async(
        lambda: api.get("check-ws-status"),
        lambda answer: answer[1]["connected"] is wanted,
        timeout=timeout,
    )


@pytest.fixture
def connected(api, jp_asyncio_loop) -> None:
    jp_asyncio_loop.run_until_complete(until_connected(api))
