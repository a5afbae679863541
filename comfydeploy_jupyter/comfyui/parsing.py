"""Parse ComfyUI's responses, which may be large, and are not trusted."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from ..errors import ComfyUIUnavailableError, PromptInvalidError
from ..util import responses, worker
from ..util.unparsed import LARGE

if TYPE_CHECKING:
    import aiohttp


async def refusal(response: aiohttp.ClientResponse, text: bytes) -> PromptInvalidError | None:
    """Return the error for a graph that ComfyUI refuses; None for any other response."""
    if response.status == 500 and response.content_type == "text/plain":
        # ComfyUI's response if its validation raises an exception for a malformed graph.
        sentence = "ComfyUI could not read the graph (it answered 500)"
        error: Any = {"type": "prompt_unreadable", "message": sentence, "details": ""}
        return PromptInvalidError(sentence, details=error, extra={"node_errors": {}})
    try:
        answer = await responses.parse(text)
    except ValueError:
        return None
    if response.status == 500 or not isinstance(answer, dict) or "error" not in answer:
        return None
    error = answer["error"]
    if not isinstance(error, dict):
        error = {"type": "prompt_invalid", "message": str(error), "details": ""}
    message = str(error.get("message") or "ComfyUI refused the graph")
    if error.get("details"):
        message = f"{message}: {error['details']}"
    node_errors = answer.get("node_errors")
    if not isinstance(node_errors, dict) or not all(
        isinstance(found, dict) for found in node_errors.values()
    ):
        node_errors = {}
    return PromptInvalidError(message, details=error, extra={"node_errors": node_errors})


def by_number(item: list[Any]) -> tuple[Any, Any]:
    """Return the sort key that ComfyUI uses for the items of its queue."""
    return item[0], str(item[1])


def queue_heads(text: bytes) -> dict[str, Any]:
    """Parse a queue; of each item, only the number and the id of the prompt are kept.

    The graph of each prompt is dropped as soon as it is parsed.
    """
    found: dict[str, Any] = responses.loads(text, 2, leaf=lambda item: item[:2])
    return found


async def parse_without_graph(text: bytes) -> Any:
    """Parse a job or a history without the graph of its prompt.

    A large text is parsed in a worker process, so that the graph is never in this one.
    """
    if len(text) > LARGE:
        return await worker.call(_without_graph, text)
    return await responses.parse(text)


def _without_graph(text: bytes) -> Any:
    """Return a job or a history without the graph of its prompt."""
    found = responses.loads(text)
    if isinstance(found, dict):
        for entry in (found, *found.values()):
            if isinstance(entry, dict):
                entry.pop("prompt", None)
                entry.pop("workflow", None)
    return found


def last_status(text: bytes) -> dict[str, Any]:
    """Return the status at the end of a history that is too large to be read.

    In it, ComfyUI writes ``outputs`` before ``status``. Texts cannot contain these keys with their
    quotation marks, since these would be escaped by a backslash.
    """
    found: Any = None
    begin = text.rfind(b'"status": {"status_str": ')
    if begin >= 0:
        with contextlib.suppress(ValueError):
            tail = text[begin + len(b'"status": ') :].decode(errors="replace")
            found, _ = json.JSONDecoder().raw_decode(tail)
    if not isinstance(found, dict):
        raise not_comfyui("/history")
    return found


async def parse_object(text: bytes, *, without_graph: bool = False) -> dict[str, Any]:
    """Parse a response that must be a JSON object."""
    try:
        found = await (parse_without_graph if without_graph else responses.parse)(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ComfyUIUnavailableError(
            "ComfyUI's response is not the expected JSON object",
            extra={"hint": "Check that this is the address of ComfyUI."},
        )
    return found


def not_comfyui(path: str) -> ComfyUIUnavailableError:
    """Return the error for a response that is not one of ComfyUI."""
    return ComfyUIUnavailableError(
        f"The response to {path} is not from ComfyUI, or from a version that is not supported",
        extra={"hint": "Check that this is the address of ComfyUI."},
    )
