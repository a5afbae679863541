"""Signing in to ComfyDeploy: a link to approve, and the wait until that is done."""

from __future__ import annotations

import html
import math
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from ..errors import CloudError, ComfyDeployError, RunTimeoutError, ServerUnreachableError

if TYPE_CHECKING:
    from .server import Server

POLL_EVERY = 2.0  # s
GONE = 410  # how the service says that a sign-in is over


class SignInLink:
    """The link of one sign-in; in a notebook it can be clicked, and tells what became of it.

    Attributes
    ----------
    url : str
        Where the user approves.
    state : str
        What to say beside the link, in a few words.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.state = "waiting for your approval"
        self._handle: Any = None

    def __repr__(self) -> str:
        return f"Sign in to ComfyDeploy at {self.url} ({self.state})"

    def _repr_html_(self) -> str:
        address = html.escape(self.url, quote=True)
        return (
            f'<a href="{address}" target="_blank" rel="noopener noreferrer">Sign in to ComfyDeploy'
            f"</a> ({html.escape(self.state)})"
        )

    def show(self) -> None:
        """Show the link: in the output of the cell, else as a line of text."""
        ipython = sys.modules.get("IPython")
        if ipython is not None and ipython.get_ipython() is not None:
            self._handle = ipython.display.display(self, display_id=True)
        else:
            print(self, file=sys.stderr, flush=True)

    def tell(self, state: str) -> None:
        """Say what became of the sign-in, where the link is."""
        self.state = state
        if self._handle is not None:
            self._handle.update(self)


def sign_in(server: Server, *, timeout: float | None) -> str:
    """Have the user sign in; return what ComfyDeploy calls them. See `Comfy.login`."""
    request_id = str(uuid.uuid4())
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    answer = server.get("auth-response", request_id=request_id)
    link = SignInLink(str(answer["auth_url"]))
    link.show()
    trouble: ComfyDeployError | None = None
    state = "given up"
    try:
        while time.monotonic() < deadline:
            time.sleep(min(POLL_EVERY, max(deadline - time.monotonic(), 0.0)))
            try:
                answer = server.get("auth-response", request_id=request_id)
            except (CloudError, ServerUnreachableError) as fault:
                if fault.status == GONE:
                    state = "over; call login() again for a new link"
                    fault.message = f"The sign-in is over: {fault.message}"
                    fault.args = (fault.message,)
                    raise
                trouble = fault  # it may pass while the user is still busy
                continue
            trouble = None
            if answer["authenticated"]:
                name = str(answer["name"])
                state = f"signed in as {name}" if name else "signed in"
                return name
        state = "not approved in time; call login() again for a new link"
        reason = f"; the last answer was: {trouble.message}" if trouble is not None else ""
        raise RunTimeoutError(f"The sign-in was not approved within {timeout:g} s{reason}")
    finally:
        link.tell(state)
