"""Runs functions on large graphs in a separate process, without blocking the event loop.

In a thread, such work would block the event loop: all threads of a process share the interpreter
lock and the garbage collector. Each call starts a new process, which reads a pickled function with
its arguments from its standard input, writes the pickled result to its standard output, and ends.
If the process is killed, only this call fails.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ..errors import ComfyDeployError
from . import json_stream
from .unparsed import Unparsed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AT_ONCE = 2  # processes at the same time; each may need several hundred megabytes

# Not asyncio's own threads: calls that wait for a free process must not block other work.
_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="large-graphs")


async def call(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a worker process.

    Parameters
    ----------
    function : callable
        A function of a module of this package.
    *args : object
        Its arguments, which can be pickled. `Unparsed` JSON in them is parsed for the function.

    Returns
    -------
    object
        The result of the function. It is unpickled in Jupyter's process, so large parts of it
        should be text or bytes.

    Raises
    ------
    ComfyDeployError
        If the function raises it, or the process ends without a result.
    """
    loop = asyncio.get_running_loop()
    found, error = await loop.run_in_executor(_threads, _call, function, args)
    if error is not None:
        raise error
    return found  # type: ignore[no-any-return]  # pickles have no types


async def compute(function: Callable[..., T], *args: Any, large: bool) -> T:
    """Call a function in a worker process if its arguments are ``large``, else in a thread."""
    if large:
        return await call(function, *args)
    return await asyncio.to_thread(function, *args)


class _Pickler(pickle.Pickler):
    """Pickles `Unparsed` JSON so that it is parsed when it is unpickled."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Unparsed):
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
    """Execute the call that this process was started for."""
    gc.disable()  # there is no garbage to collect before the end
    json_stream.in_worker = True
    sys.stdout = sys.stderr  # only the result is written to the standard output
    function, args = pickle.load(source)  # noqa: S301 - of the process that started this one
    answer: tuple[Any, Exception | None]
    try:
        answer = function(*args), None
    except Exception as error:
        answer = None, error
    pickle.dump(answer, target, pickle.HIGHEST_PROTOCOL)
    target.flush()
    os._exit(0)  # freeing the objects of the graph would take as long as creating them


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
