"""The thread that updates a view while a run or a sweep is followed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 0.1
"""Shortest time between two updates of a view, s."""

CLOCK_INTERVAL = 0.5
"""How often a view is updated if nothing has changed, so that its clock is updated, s."""


class Followed(Protocol):
    """The progress that a view shows: a `RunProgress` or a `SweepProgress`."""

    @property
    def version(self) -> int:
        """A number that grows with each change."""

    @property
    def ended(self) -> float | None:
        """When it ended, s of `time.monotonic`."""

    def finish(self, status: str) -> None:
        """Record the end, or that it is not followed any more."""


P = TypeVar("P", bound=Followed)
P_contra = TypeVar("P_contra", bound=Followed, contravariant=True)


class View(Protocol[P_contra]):
    """Shows a `RunProgress`, or a `SweepProgress`."""

    def show(self, progress: P_contra) -> None:
        """Show the present progress."""

    def end(self, progress: P_contra) -> None:
        """Show the end, and remove the parts that are only for the time before it."""


class Live(Generic[P]):
    """A context in which a view follows a run or a sweep, at most ten times a second.

    The view is updated in a thread, so that a slow view does not delay the run, and so that the
    clock is also updated while no events arrive.

    Parameters
    ----------
    progress : RunProgress or SweepProgress
        The progress to show.
    view : View
        The view that shows it.
    on_error : callable, optional
        Called with the exception of a view that fails; the view is not updated any more.
    """

    def __init__(
        self,
        progress: P,
        view: View[P],
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        self._progress = progress
        self._view = view
        self._on_error = on_error
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="comfydeploy-view", daemon=True)

    def __enter__(self) -> Live[P]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        if self._progress.ended is None:
            left = "left" if self._progress.version else "not-started"
            self._progress.finish("cancelled" if kind is KeyboardInterrupt else left)
        self._try(self._view.end)

    def _loop(self) -> None:
        shown, at = -1, 0.0
        while True:
            now = time.monotonic()
            if self._progress.version != shown or now - at >= CLOCK_INTERVAL:
                shown, at = self._progress.version, now
                if not self._try(self._view.show):
                    return
            if self._over.wait(INTERVAL):
                return

    def _try(self, show: Callable[[P], None]) -> bool:
        try:
            show(self._progress)
        except Exception as error:
            if self._on_error is not None:
                self._on_error(error)
            return False
        return True
