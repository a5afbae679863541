"""The Comfy account that partner nodes use."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import printable

if TYPE_CHECKING:
    from .server import Server

SIGN_IN_TIMEOUT = 60.0  # s

_SOURCES = {
    "kept": "A key of a Comfy account is stored on the server",
    "configured": "The key of a Comfy account in the server's configuration is used",
    None: "There is no Comfy account; partner nodes need one",
}


class AccountStatus(NamedTuple):
    """The Comfy account that runs use.

    Attributes
    ----------
    source : str or None
        ``signed-in``, ``kept`` (a stored key), ``configured``, or None without an account.
    email : str or None
        The email of the user who is signed in.
    problem : str or None
        Why runs get no token at present although a user is signed in.
    """

    source: str | None
    email: str | None
    problem: str | None

    def __str__(self) -> str:
        if self.source != "signed-in":
            return _SOURCES[self.source]
        said = f"Signed in to Comfy as {self.email}"
        return printable(f"{said}, but without a token: {self.problem}" if self.problem else said)


class ComfyAccount:
    """The Comfy account whose keys the server sends with runs, for partner nodes.

    Made by `Comfy`, as ``comfy.comfy_account``.

    Parameters
    ----------
    server : Server
        The server.
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
