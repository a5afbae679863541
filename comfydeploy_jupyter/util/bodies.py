"""Parses the JSON of request bodies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import InvalidJSONError
from . import responses, worker
from .json_stream import dumps, rough_size
from .lazy import lazy_module
from .unparsed import LARGE, Unparsed

if TYPE_CHECKING:
    from ..graphs import formats
else:
    formats = lazy_module("graphs.formats")

# Fields that may contain large graphs or node definitions.
GRAPHS = frozenset(
    {
        "object_info",
        "workflow",
        "workflow_api",
        "workflow_api_json",
        "workflow_api_raw",
        "workflow_json",
    }
)


def load_json(text: bytes | str, *, unique: bool = False) -> dict[str, Any]:
    """Return the JSON object in a body.

    Parameters
    ----------
    text : bytes or str
        The body.
    unique : bool
        Whether to reject an object with a key twice; otherwise the last value is used.

    Raises
    ------
    InvalidJSONError
        If it is not JSON, or not an object.
    """
    try:
        found = responses.loads(text, decoder=formats.decoder(unique=unique))
    except (ValueError, RecursionError) as error:
        raise InvalidJSONError(f"The body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidJSONError("The body must be a JSON object")
    return found


async def read(text: bytes | str, *, unique: bool = False, graphs: bool = False) -> dict[str, Any]:
    """Return the JSON object in a body, without blocking the event loop.

    Parameters
    ----------
    text : bytes or str
        The body.
    unique : bool
        As in `load_json`.
    graphs : bool
        Whether large `GRAPHS` may be returned as `Unparsed`.

    Raises
    ------
    InvalidJSONError
        As in `load_json`.
    """
    if graphs and len(text) > LARGE:
        return await worker.call(_with_unparsed, text, unique)
    if len(text) > responses.LARGE:
        return await asyncio.to_thread(load_json, text, unique=unique)
    return load_json(text, unique=unique)


async def parse_answer(text: bytes) -> Any:
    """Parse a JSON response of the ComfyDeploy service; large `GRAPHS` in it become `Unparsed`.

    Raises
    ------
    ValueError
        It is not JSON.
    """
    if len(text) > LARGE:
        return await worker.call(_answer_with_unparsed, text)
    return await responses.parse(text)


def _with_unparsed(text: bytes | str, unique: bool) -> dict[str, Any]:
    body = load_json(text, unique=unique)
    return {key: packed(value) if key in GRAPHS else value for key, value in body.items()}


def _answer_with_unparsed(text: bytes) -> Any:
    return _graphs_packed(responses.loads(text))


def _graphs_packed(value: Any, levels: int = 4) -> Any:
    if levels and isinstance(value, list):
        return [_graphs_packed(item, levels - 1) for item in value]
    if levels and isinstance(value, dict):
        return {
            key: packed(item) if key in GRAPHS else _graphs_packed(item, levels - 1)
            for key, item in value.items()
        }
    return value


def packed(value: Any) -> Any:
    """Return a large object or array as `Unparsed`, and any other value unchanged.

    Worker processes use this to return graphs.
    """
    if isinstance(value, (dict, list)) and rough_size(value) > responses.LARGE:
        return Unparsed(dumps(value).encode())
    return value
