"""The accounts: Comfy, which partner nodes use, and the sign-in to ComfyDeploy."""

from __future__ import annotations

import getpass
import html
import math
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import (
    CloudError,
    ComfyDeployError,
    RunTimeoutError,
    ServerUnreachableError,
    printable,
)
from .text import ipython_shell

if TYPE_CHECKING:
    from .server import Server


SIGN_IN_TIMEOUT = 60.0  # s

_SOURCES = {
    "kept": "A key of a Comfy account is stored on the server",
    "configured": "The key of a Comfy account in the server's configuration is used",
    None: "There is no Comfy account; partner nodes need one",
}


class AccountStatus(NamedTuple):
    """The Comfy account that runs use."""

    source: str | None
    """``signed-in``, ``kept`` (a stored key), ``configured``, or None without an account."""
    email: str | None
    """The email of the user who is signed in."""
    problem: str | None
    """Why runs get no token at present although a user is signed in."""

    def __str__(self) -> str:
        if self.source != "signed-in":
            return _SOURCES[self.source]
        said = f"Signed in to Comfy as {self.email}"
        return printable(f"{said}, but without a token: {self.problem}" if self.problem else said)


class ComfyAccount:
    """The Comfy account whose keys the server sends with runs, for partner nodes.

    Made by `Comfy`, as ``comfy.comfy_account``.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def __repr__(self) -> str:
        return f"<ComfyAccount of {self._server.url}>"

    def status(self) -> AccountStatus:
        """Return which account runs use."""
        return _status(self._server.get("comfy-account"))

    def sign_in(self, email: str, password: str | None = None) -> AccountStatus:
        """Sign in with email and password, as in ComfyUI's editor.

        The server stores the sign-in in a file that only its owner can read, and requests a new
        token for runs every hour. The password is not stored. An account that is used with Google
        or GitHub has no password: it needs an API key (`set_api_key`).

        Parameters
        ----------
        email : str
            The email of the account.
        password : str, optional
            Its password; by default the user is asked for it, so that it is not in the notebook.

        Raises
        ------
        CloudError
            Email or password are wrong, or the service does not answer.
        OfflineError
            The setting ``offline`` forbids it.
        """
        if password is None:
            password = getpass.getpass(f"Password of {email}: ")
        body = {"email": email, "password": password}
        return _status(self._server.post("comfy-account", body, timeout=SIGN_IN_TIMEOUT))

    def sign_out(self) -> AccountStatus:
        """Delete the sign-in, or the stored key, from the server."""
        return self.set_api_key(None)

    def set_api_key(self, api_key: str | None) -> AccountStatus:
        """Store an API key (platform.comfy.org) on the server; None deletes key and sign-in."""
        return _status(self._server.post("comfy-account", {"api_key": api_key}))


def _status(reply: dict[str, Any]) -> AccountStatus:
    return AccountStatus(reply["source"], reply["email"], reply["problem"])


POLL_INTERVAL = 2.0  # s
EXPIRED = 410  # the HTTP status of the service for a sign-in that has expired


class SignInLink:
    """The link of one sign-in and its state; shown in the notebook, or printed."""

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
        if ipython_shell() is not None:
            from IPython.display import display

            self._handle = display(self, display_id=True)
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
            time.sleep(min(POLL_INTERVAL, max(deadline - time.monotonic(), 0.0)))
            try:
                reply = server.get("auth-response", request_id=request_id)
            except (CloudError, ServerUnreachableError) as exc:
                if exc.status == EXPIRED:
                    state = "ended; call login() again for a new link"
                    exc.say(f"The sign-in failed: {exc.message}")
                    raise
                last_error = exc  # the next poll may not return it any more
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
