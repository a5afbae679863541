"""Errors for names that a workflow does not have."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from ..errors import printable, traceback_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_CANDIDATES = 20
"""The most names that an error lists if none is similar."""


class UnknownNameError(KeyError):
    """A workflow has no node or input of this name, or several; the message names candidates."""

    def __str__(self) -> str:
        return printable(str(self.args[0]))

    def _render_traceback_(self) -> list[str]:
        return traceback_lines(self)


def unknown_name(
    name: object, known: Iterable[str], what: str, *, close: Sequence[str] = ()
) -> UnknownNameError:
    """Return the error for a name that does not exist; it suggests similar names.

    Parameters
    ----------
    name : object
        The name.
    known : iterable of str
        The names that exist.
    what : str
        What they are names of, e.g. ``"node of this workflow"``.
    close : sequence of str
        Similar names, if they are known.
    """
    names = list(dict.fromkeys(known))
    close = close or difflib.get_close_matches(str(name), names, n=5)
    if close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    else:
        hint = (
            f"there are {', '.join(map(repr, names[:MAX_CANDIDATES]))}" if names else "it has none"
        )
    return UnknownNameError(f"{name!r} is no {what}; {hint}")
