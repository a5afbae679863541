"""Work on JSON and graphs: small on the event loop, larger in a thread, large in a worker process.

In a thread, work on a large graph would block the event loop: all threads of a process share the
interpreter lock and the garbage collector. A worker process reads a pickled function with its
arguments from its standard input, and writes the pickled result to its standard output. Then it
waits some minutes for the next call, unless it has needed much memory. If it is killed, only its
call fails; if a call is cancelled, its process is killed.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ..errors import ComfyDeployError, InvalidJSONError, InvalidRequestError
from . import jsons
from .jsons import PROCESS_ABOVE, THREAD_ABOVE, RawJSON, decoder, dumps, loads, rough_size

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AT_ONCE = 2  # processes at the same time; each may need several hundred megabytes
NICE = 10  # of the process whose work nobody waits for
KEPT = 300.0  # seconds for which a process waits for the next call
KEPT_BELOW = 256 * 1024  # KiB of memory; a process that has needed more ends after its call
READY_ABOVE = 256 * 1024  # bytes of JSON that a waiting process reads sooner than a thread
TEXT_BELOW = 4 * 1024 * 1024  # bytes of a body whose graphs are text: a thread reads these at once

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
_TEXT_FIRST = re.compile(rb'\s*\{\s*"workflow(_api)?"\s*:\s*"')


async def call(function: Callable[..., T], *args: Any) -> T:
    """Call a function of a module of this package in a worker process.

    `RawJSON` in its arguments is parsed for it. The result is unpickled in Jupyter's process, so
    large parts of it should be text or bytes. ComfyDeployError if the function raises it, or the
    process ends without a result.
    """
    return await _workers.call(function, args)


async def call_later(function: Callable[..., T], *args: Any) -> T:
    """Do what `call` does with low priority: in a process of its own, one call after the other."""
    return await _background.call(function, args)


async def prepare(*needed: Any) -> None:
    """Let a process wait for calls with these functions and arguments, which it has read then."""
    if not any(process.read == needed for process in _workers.waiting):
        with suppress(ComfyDeployError):
            await call(_nothing, *needed)


def _nothing(*_: Any) -> None:
    """Do nothing; what is needed has been unpickled."""


async def run(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a thread, or in a worker process if its arguments are large.

    Large are `RawJSON` and text of more than `PROCESS_ABOVE` bytes, or of more than `READY_ABOVE`
    while a process waits. The function gets `RawJSON` parsed.
    """
    if sum(map(_length, args)) > (READY_ABOVE if _workers.waiting else PROCESS_ABOVE):
        return await call(function, *args)
    return await asyncio.to_thread(_run, function, args)


def _run(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    return function(*(one.parsed() if isinstance(one, RawJSON) else one for one in args))


def _length(value: Any) -> int:
    text = value.text if isinstance(value, RawJSON) else value
    return len(text) if isinstance(text, (bytes, str)) else 0


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
    text: bytes | str, *, unique: bool = False, graphs: bool = False, only_read: bool = False
) -> dict[str, Any]:
    """Return what `load_body` returns.

    With ``graphs``, `GRAPHS` in it may be text with JSON, and large ones are `RawJSON`. Those that
    are only given to `run` may be less large, and such text need not be JSON: `run` says so then.
    """
    is_text = only_read and isinstance(text, bytes) and _TEXT_FIRST.match(text)
    if is_text and len(text) > THREAD_ABOVE:
        read = asyncio.to_thread if len(text) <= TEXT_BELOW else call
        return await read(partial(_body_with_raw, as_text=True), text, unique)
    if graphs and len(text) > (READY_ABOVE if only_read and _workers.waiting else PROCESS_ABOVE):
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
        body[key] = _parsed(body[key], unique)
    return body


def _parsed(graph: Any, unique: bool) -> Any:
    if isinstance(graph, str):
        with suppress(ValueError, RecursionError):
            return loads(graph, decoder=decoder(unique=unique))
    return graph


def _body_with_raw(text: bytes | str, unique: bool, *, as_text: bool = False) -> dict[str, Any]:
    """Return a body with large `GRAPHS` as `RawJSON`; ``as_text`` leaves those that are text."""
    body = load_body(text, unique=unique)
    for key in GRAPHS & body.keys():
        given = body[key]
        is_text = as_text and isinstance(given, str) and len(given) > THREAD_ABOVE
        if is_text and given.lstrip().startswith("{"):
            with suppress(UnicodeEncodeError):  # half of a surrogate pair, which JSON may have
                body[key] = RawJSON(given.encode(), field=key)
                continue
        body[key] = packed(_parsed(given, unique))
    return body


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
            return _unpickled, (value.text, value.field)
        return NotImplemented


def _unpickled(text: bytes, field: str) -> Any:
    """Return JSON parsed, or the error that it is none."""
    try:
        return RawJSON(text, field).parsed() if field else json.loads(text)
    except InvalidRequestError as error:
        return error


class _Process:
    """A worker process."""

    def __init__(self, nice: int) -> None:
        self.used_at = time.monotonic()
        self.read: tuple[Any, ...] = ()  # for what it was prepared
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(nice)],
            cwd=Path(__file__).parents[2],  # only the folder with this package
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must not reach the process: Jupyter handles it
        )

    @property
    def is_there(self) -> bool:
        return self._process.poll() is None

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Return the result, the error and whether the process waits for another call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # The pipes are read and written without copies, and without the interpreter lock.
        _Pickler(self._process.stdin, pickle.HIGHEST_PROTOCOL).dump((function, args))
        self._process.stdin.flush()
        found = pickle.load(self._process.stdout)  # noqa: S301 - ours
        self.used_at = time.monotonic()
        return found

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        """End the process, which waits or has ended; return its exit code."""
        with suppress(BrokenPipeError), self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
        return self._process.wait()


class _Call:
    """A call in a process, which is killed if nobody wants the result any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._given_up = False

    def begin(self, process: _Process) -> None:
        with self._lock:
            self._process = process
            if self._given_up:
                process.kill()

    def end(self) -> None:
        """Let the process go: it may be used for another call from now on."""
        with self._lock:
            self._process = None

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            if self._process is not None:
                self._process.kill()


class _Workers:
    """Worker processes of one priority."""

    def __init__(self, at_once: int, nice: int) -> None:
        # Not asyncio's own threads: calls that wait for a free process must not block other work.
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="large-graphs")
        self._nice = nice
        self.waiting: list[_Process] = []  # those that wait for a call
        atexit.register(self._end_all)

    async def call(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        loop, call = asyncio.get_running_loop(), _Call()
        try:
            found, error = await loop.run_in_executor(
                self._threads, self._call, call, function, args
            )
        except asyncio.CancelledError:
            call.give_up()
            raise
        loop.call_later(KEPT, self._threads.submit, self._end_unused)
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return]  # pickles have no types

    def _call(
        self, call: _Call, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> tuple[Any, Exception | None]:
        """Call a function in a process, and wait for the result. Call it in a thread."""
        process = None
        try:
            process = self._idle() or _Process(self._nice)
            call.begin(process)
            found, error, stays = process.call(function, args)
            call.end()
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            if process is None:
                reason = f"could not be started: {getattr(error, 'strerror', error)}"
            else:
                reason = f"ended before it was done: {_how_ended(process.end())}"
        except BaseException:  # such as arguments that cannot be pickled
            if process is not None:
                process.end()
            raise
        else:
            if function is _nothing:
                process.read = args
            if stays:
                self.waiting.append(process)
            else:
                process.end()
            return found, error
        raise ComfyDeployError(
            f"The process for a large workflow {reason}. Perhaps there is not enough memory"
        )

    def _idle(self) -> _Process | None:
        """Return a process that waits for a call."""
        with suppress(IndexError):
            while True:
                process = self.waiting.pop()
                if process.is_there:
                    return process
                process.end()
        return None

    def _end_unused(self) -> None:
        """End the processes that have waited for long."""
        for process in [*self.waiting]:
            if time.monotonic() - process.used_at >= KEPT:
                with suppress(ValueError):  # it is used at this moment
                    self.waiting.remove(process)
                    process.end()

    def _end_all(self) -> None:
        while self.waiting:
            self.waiting.pop().end()


_workers = _Workers(AT_ONCE, 0)
_background = _Workers(1, NICE)


def _how_ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _most_memory() -> int:
    """Return the most memory, in KiB, that this process has needed."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    import resource  # not on Windows; on Linux it also counts the process that started this one

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used // 1024 if sys.platform == "darwin" else used


def main(source: BinaryIO, target: BinaryIO) -> None:
    with suppress(OSError, AttributeError):  # Windows has none
        os.nice(int(sys.argv[1]))
    gc.disable()  # what a call makes is freed without it
    jsons.in_worker = True
    sys.stdout = sys.stderr  # only results are written to the standard output
    stays = True
    while stays:
        try:
            function, args = pickle.load(source)  # noqa: S301 - of the process that started this one
        except EOFError:
            break
        response: tuple[Any, Exception | None]
        try:
            wrong = [arg for arg in args if isinstance(arg, InvalidRequestError)]
            if wrong:
                raise wrong[0]
            response = function(*args), None
        except Exception as error:
            response = None, error
        stays = _most_memory() < KEPT_BELOW
        pickle.dump((*response, stays), target, pickle.HIGHEST_PROTOCOL)
        target.flush()
        if stays:
            del function, args, response
            gc.collect(0)  # of what is new since the last time
    os._exit(0)  # freeing the objects of a large graph would take as long as creating them


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
