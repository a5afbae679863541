"""Work on JSON and graphs: small on the event loop, larger in a thread, large in a worker process.

In a thread, work on a large graph would block the event loop: all threads of a process share the
interpreter lock and the garbage collector. A worker process is started for one call: it reads a
pickled function with its arguments from its standard input, writes the pickled result to its
standard output, and ends. If it is killed, only this call fails.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ..errors import ComfyDeployError, InvalidJSONError
from . import jsons
from .jsons import PROCESS_ABOVE, THREAD_ABOVE, RawJSON, decoder, dumps, loads, rough_size

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AT_ONCE = 2  # processes at the same time; each may need several hundred megabytes

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

# Not asyncio's own threads: calls that wait for a free process must not block other work.
_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="large-graphs")


async def call(function: Callable[..., T], *args: Any) -> T:
    """Call a function of a module of this package in a worker process.

    `RawJSON` in its arguments is parsed for it. The result is unpickled in Jupyter's process, so
    large parts of it should be text or bytes. ComfyDeployError if the function raises it, or the
    process ends without a result.
    """
    loop = asyncio.get_running_loop()
    found, error = await loop.run_in_executor(_threads, _call, function, args)
    if error is not None:
        raise error
    return found  # type: ignore[no-any-return]  # pickles have no types


async def run(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a thread, or in a worker process if one of its arguments is large.

    Large are `RawJSON`, and text of more than `PROCESS_ABOVE` bytes.
    """
    if any(isinstance(one, RawJSON) or _length(one) > PROCESS_ABOVE for one in args):
        return await call(function, *args)
    return await asyncio.to_thread(function, *args)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (bytes, str)) else 0


async def parse(text: bytes | str) -> Any:
    return await asyncio.to_thread(loads, text) if len(text) > THREAD_ABOVE else loads(text)


def load_body(text: bytes | str, *, unique: bool = False) -> dict[str, Any]:
    """Return the JSON object in the body of a request; InvalidJSONError if there is none.

    ``unique`` rejects an object with a key twice; otherwise the last value is used.
    """
    try:
        found = loads(text, decoder=decoder(unique=unique))
    except (ValueError, RecursionError) as error:
        raise InvalidJSONError(f"The body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidJSONError("The body must be a JSON object")
    return found


async def parse_body(
    text: bytes | str, *, unique: bool = False, graphs: bool = False
) -> dict[str, Any]:
    """Return what `load_body` returns.

    With ``graphs``, `GRAPHS` in it may be text with JSON, and large ones are `RawJSON`.
    """
    if graphs and len(text) > PROCESS_ABOVE:
        return await call(_body_with_raw, text, unique)
    load = _body_with_graphs if graphs else load_body
    if len(text) > THREAD_ABOVE:
        return await asyncio.to_thread(load, text, unique=unique)
    return load(text, unique=unique)


async def parse_reply(text: bytes) -> Any:
    """Parse a JSON reply of the ComfyDeploy service; large `GRAPHS` in it become `RawJSON`."""
    if len(text) > PROCESS_ABOVE:
        return await call(_reply_with_raw, text)
    return await parse(text)


def _body_with_graphs(text: bytes | str, *, unique: bool) -> dict[str, Any]:
    """Return a body whose `GRAPHS` are parsed if they are text; what is no JSON stays text."""
    body = load_body(text, unique=unique)
    for key in GRAPHS & body.keys():
        if isinstance(body[key], str):
            with suppress(ValueError, RecursionError):
                body[key] = loads(body[key], decoder=decoder(unique=unique))
    return body


def _body_with_raw(text: bytes | str, unique: bool) -> dict[str, Any]:
    body = _body_with_graphs(text, unique=unique)
    return {key: packed(value) if key in GRAPHS else value for key, value in body.items()}


def _reply_with_raw(text: bytes) -> Any:
    return _graphs_packed(loads(text))


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
    """Return a large object or array as `RawJSON`, and any other value unchanged.

    Worker processes use this to return graphs.
    """
    if isinstance(value, (dict, list)) and rough_size(value, THREAD_ABOVE) > THREAD_ABOVE:
        return RawJSON(dumps(value).encode())
    return value


class _Pickler(pickle.Pickler):
    """Pickles `RawJSON` JSON so that it is parsed when it is unpickled."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, RawJSON):
            return json.loads, (value.text,)
        return NotImplemented


def _call(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Start a process, send it the call, and wait for the result. Call it in a thread."""
    try:
        with subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).parents[2],  # only the folder with this package
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must not reach the process: Jupyter handles it
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            # The pipes are read and written without copies, and without the interpreter lock.
            _Pickler(process.stdin, pickle.HIGHEST_PROTOCOL).dump((function, args))
            process.stdin.close()
            found: tuple[Any, Exception | None] = pickle.load(process.stdout)  # noqa: S301 - ours
            return found
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            reason = f"could not be started: {error.strerror}"
        else:
            reason = f"ended before it was done: {_how_ended(process.returncode)}"
    raise ComfyDeployError(
        f"The process for a large workflow {reason}. Perhaps there is not enough memory"
    )


def _how_ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def main(source: BinaryIO, target: BinaryIO) -> None:
    gc.disable()  # there is no garbage to collect before the end
    jsons.in_worker = True
    sys.stdout = sys.stderr  # only the result is written to the standard output
    function, args = pickle.load(source)  # noqa: S301 - of the process that started this one
    response: tuple[Any, Exception | None]
    try:
        response = function(*args), None
    except Exception as error:
        response = None, error
    pickle.dump(response, target, pickle.HIGHEST_PROTOCOL)
    target.flush()
    os._exit(0)  # freeing the objects of the graph would take as long as creating them


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
