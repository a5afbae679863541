"""A process that works on large graphs, so that Jupyter's event loop does not wait for it.

In a thread such work would hold the event loop: the interpreter lock, the garbage collector and the
memory of all its objects are those of the whole process. Each call starts a process of its own,
which gets a pickled function with its arguments on its standard input, writes the pickled result to
its standard output, and ends. Nothing outlives a call, and a process that is killed fails one call.
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

from .errors import ComfyDeployError
from .net import json_stream
from .unparsed import Unparsed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AT_ONCE = 2  # processes; each may need several hundred megabytes

# Not asyncio's own threads: calls that wait for their turn must not hold up other work.
_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="large-graphs")


async def call(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a worker process.

    Parameters
    ----------
    function : callable
        A function of a module of this package.
    *args : object
        Its arguments, which can be pickled. Those that are or contain `Unparsed` JSON reach the
        function parsed.

    Returns
    -------
    object
        What the function returns. It is unpickled in Jupyter's process: what is large in it should
        be text or bytes.

    Raises
    ------
    ComfyDeployError
        As the function raises it, or because the process ended before it had an answer.
    """
    loop = asyncio.get_running_loop()
    found, error = await loop.run_in_executor(_threads, _call, function, args)
    if error is not None:
        raise error
    return found  # type: ignore[no-any-return]  # pickles have no types


async def compute(function: Callable[..., T], *args: Any, large: bool) -> T:
    """Call a function in a worker process where its arguments are ``large``, else in a thread."""
    if large:
        return await call(function, *args)
    return await asyncio.to_thread(function, *args)


class _Pickler(pickle.Pickler):
    """Writes `Unparsed` JSON so that it is parsed where it is read."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Unparsed):
            return json.loads, (value.text,)
        return NotImplemented


def _call(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Start a process, hand it the work and wait for its answer; for a thread."""
    try:
        with subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).parent.parent,  # where this package is found, and nothing else
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for Jupyter, which asks whether it is meant
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            # Large bytes go from and to the pipes without a copy, and without the interpreter lock.
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
    """Do the one piece of work that this process is for."""
    gc.disable()  # there is no garbage to be found before the end
    json_stream.in_worker = True
    sys.stdout = sys.stderr  # the answer alone goes to the standard output
    function, args = pickle.load(source)  # noqa: S301 - of the process that started this one
    answer: tuple[Any, Exception | None]
    try:
        answer = function(*args), None
    except Exception as error:
        answer = None, error
    pickle.dump(answer, target, pickle.HIGHEST_PROTOCOL)
    target.flush()
    os._exit(0)  # to free the objects of the graph would take as long as to make them


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
