"""Signing in to ComfyDeploy: shows a link and waits until the user has approved there."""

from __future__ import annotations

import html
import math
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from ..errors import (
    CloudError,
    ComfyDeployError,
    RunTimeoutError,
    ServerUnreachableError,
    printable,
)

if TYPE_CHECKING:
    from .server import Server

POLL_EVERY = 2.0  # s
EXPIRED = 410  # the HTTP status of the service for a sign-in that has expired


class SignInLink:
    """The link of one sign-in and its state; shown in the notebook, or printed.

    Attributes
    ----------
    url : str
        The address where the user approves.
    state : str
        The state that is shown beside the link.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.state = "waiting for your approval"
        self._handle: Any = None

    def __repr__(self) -> str:
        return printable(f"Sign in to ComfyDeploy at {self.url} ({self.state})")

    def _repr_html_(self) -> str:
        address = html.escape(self.url, quote=True)
        return (
            f'<a href="{address}" target="_blank" rel="noopener noreferrer">Sign in to ComfyDeploy'
            f"</a> ({html.escape(self.state)})"
        )

    def show(self) -> None:
        """Show the link in the output of the cell, or print it outside of IPython."""
        ipython = sys.modules.get("IPython")
        if ipython is not None and ipython.get_ipython() is not None:
            self._handle = ipython.display.display(self, display_id=True)
        else:
            print(self, file=sys.stderr, flush=True)

    def update(self, state: str) -> None:
        """Show another state beside the link."""
        self.state = state
        if self._handle is not None:
            self._handle.update(self)


def sign_in(server: Server, *, timeout: float | None) -> str:
    """Ask the user to sign in; return their name in ComfyDeploy. See `Comfy.login`."""
    request_id = str(uuid.uuid4())
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    reply = server.get("auth-response", request_id=request_id)
    link = SignInLink(str(reply["auth_url"]))
    link.show()
    last_error: ComfyDeployError | None = None
    state = "the wait was interrupted; call login() again"
    try:
        while time.monotonic() < deadline:
            time.sleep(min(POLL_EVERY, max(deadline - time.monotonic(), 0.0)))
            try:
                reply = server.get("auth-response", request_id=request_id)
            except (CloudError, ServerUnreachableError) as fault:
                if fault.status == EXPIRED:
                    state = "ended; call login() again for a new link"
                    fault.message = f"The sign-in failed: {fault.message}"
                    fault.args = (fault.message,)
                    raise
                last_error = fault  # the next poll may not return it any more
                continue
            last_error = None
            if reply["authenticated"]:
                name = str(reply["name"])
                state = f"signed in as {name}" if name else "signed in"
                return name
        state = "not approved in time; call login() again for a new link"
        reason = f"; the last answer was: {last_error.message}" if last_error is not None else ""
        raise RunTimeoutError(f"The sign-in was not approved within {timeout:g} s{reason}")
    finally:
        link.update(state)
