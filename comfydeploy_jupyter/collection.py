"""Python's cyclic garbage collector, kept from running while much is made at once."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_paused = 0
_was_enabled = False


@contextmanager
def paused() -> Iterator[None]:
    """Keep the garbage collector from running, for a piece of work that takes seconds at most.

    A workflow of megabytes is several hundred thousand objects. While they are made, the collector
    would go through all objects of the process again and again, and nothing else runs meanwhile, in
    no thread. None of them is garbage, and what is freed is freed without it.
    """
    global _paused, _was_enabled
    with _lock:
        if not _paused:
            _was_enabled = gc.isenabled()
            gc.disable()
        _paused += 1
    try:
        yield
    finally:
        with _lock:
            _paused -= 1
            if not _paused and _was_enabled:
                gc.enable()
