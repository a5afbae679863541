"""The tab of ComfyDeployPanel with the Comfy account that partner nodes use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from .base import Panel
from .parts import button, column, field, note, row, text_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import AccountStatus, Comfy

FIELD_WIDTH = "260px"
ADVICE = (
    "Partner nodes (API nodes) call paid services. Sign in with the email and the password of your "
    "Comfy account. If you sign in there with Google or GitHub, make an API key at "
    "platform.comfy.org, and store it here. The password is not stored."
)


class AccountPanel(Panel):
    """Signs in to a Comfy account, or stores its key.

    The password and the key are removed from their fields when they are sent.
    """

    def __init__(self, comfy: Comfy | Panel | None = None) -> None:
        super().__init__(comfy)
        self._state = text_box()
        self._email = field(w.Text, "Email", FIELD_WIDTH)
        self._password = field(w.Password, "Password", FIELD_WIDTH)
        self._key = field(w.Password, "API key", FIELD_WIDTH, placeholder="comfyui-…")
        self._sign_in = button("Sign in", self.sign_in, icon="sign-in", style="primary")
        self._store = button("Store key", self.store_key, icon="key")
        self._sign_out = button(
            "Sign out", self.sign_out, icon="sign-out", hint="Delete the sign-in or the key"
        )
        self._buttons = (self._sign_in, self._store, self._sign_out)
        self.fill(
            self._state,
            column(
                row(self._email), row(self._password, self._sign_in), row(self._key, self._store)
            ),
            row(self._sign_out),
            text_box(note(ADVICE)),
        )
        self.keep("<p>Comfy account</p>", "<AccountPanel>")
        self._do(lambda: self.comfy.comfy_account.status())

    @property
    def report(self) -> str:
        """The account as HTML."""
        return str(self._state.value)

    def sign_in(self) -> None:
        """Sign in, like the button; do not wait for it."""
        email, password = self._email.value.strip(), self._password.value
        self._password.value = ""  # the state of a widget may be saved with the notebook
        if not (email and password):
            self.show_error("Enter the email and the password")
            return
        self._do(lambda: self.comfy.comfy_account.sign_in(email, password))

    def store_key(self) -> None:
        """Store the key, like the button; do not wait for it."""
        key = self._key.value.strip()
        self._key.value = ""
        if not key:
            self.show_error("Enter the API key")
            return
        self._do(lambda: self.comfy.comfy_account.set_api_key(key))

    def sign_out(self) -> None:
        """Sign out, like the button; do not wait for it."""
        self._do(lambda: self.comfy.comfy_account.sign_out())

    def _do(self, request: Callable[[], AccountStatus]) -> None:
        """Send a request in a thread, and show the account that its reply names."""
        self.clear_error()
        for one in self._buttons:
            one.disabled = True
        self.start(self._show, request)

    def _show(self, request: Callable[[], AccountStatus]) -> None:
        try:
            status = request()
            self._state.value = note(str(status), live=True)
            stored = status.source in ("signed-in", "kept")
            self._sign_out.layout.display = "" if stored else "none"
        finally:
            for one in self._buttons:
                one.disabled = False
