"""Calling a function at limited intervals."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from ..display import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable


class Throttle:
    """Calls an action at limited intervals; the last call has the newest arguments.

    Parameters
    ----------
    action : callable
        What is called, by one thread at a time: at once by the caller, or later by a timer.
    interval : float
        Shortest time between two calls, s.
    """

    def __init__(self, action: Callable[..., object], interval: float = INTERVAL) -> None:
        self._action = action
        self._interval = interval
        self._lock = threading.Lock()
        self._calling = threading.Lock()
        self._next = 0.0
        self._args: tuple[Any, ...] | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    def __call__(self, *args: Any) -> None:
        """Call the action now, or when the interval is over."""
        with self._lock:
            if self._closed:
                return
            self._args = args
            wait = self._next - time.monotonic()
            if self._timer is not None:
                return
            if wait > 0:
                self._timer = threading.Timer(wait, self._fire)
                self._timer.name = "comfydeploy-throttle"
                self._timer.daemon = True
                self._timer.start()
                return
        self._fire()

    def close(self) -> None:
        """Make a call that is still waiting now, and none after it."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        self._fire()

    def _fire(self) -> None:
        with self._calling:
            with self._lock:
                args, self._args, self._timer = self._args, None, None
                self._next = time.monotonic() + self._interval
            if args is not None:
                self._action(*args)
