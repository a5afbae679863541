"""The options of a run that the client sends to the server."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from ..errors import brief

if TYPE_CHECKING:
    from collections.abc import Collection

# Fields of the route ``run``, described in docs/routes.md; ``labels`` is its ``metadata``.
OPTIONS = frozenset(
    {
        "client_id",
        "extra_data",
        "file_upload_endpoint",
        "front",
        "gpu_event_id",
        "labels",
        "outputs",
        "preview_method",
        "prompt_id",
        "seed_mode",
        "status_endpoint",
        "strict_inputs",
        "version",
        "workflow_id",
    }
)

ARGUMENTS = frozenset(
    {"api_key", "workflow", "inputs", "seed", "machine", "previews", "progress", "timeout"}
)


def check_options(options: dict[str, Any], also: Collection[str] = ()) -> None:
    """Raise if there are no such options.

    Parameters
    ----------
    options : dict
        The options.
    also : collection of str
        Names of further arguments, which the message may suggest.

    Raises
    ------
    TypeError
        There is no such option; the message suggests a similar name.
    """
    known = OPTIONS | ARGUMENTS | set(also)
    for name in options:
        if name in OPTIONS:
            continue
        if name == "wait":
            text = "there is no option 'wait': run() waits for the end, submit() does not"
            raise brief(TypeError(text))
        if name in ARGUMENTS:
            hint = (
                ", and of wait() of the object that submit() returns" if name == "timeout" else ""
            )
            raise brief(TypeError(f"{name} is an argument of run(){hint}"))
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"options are {', '.join(sorted(OPTIONS))}"
        raise brief(TypeError(f"unknown option {name!r}; {hint}"))
