"""AccountPanel without a page, and `comfy.comfy_account`, with the real routes."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest
from ipywidgets.widgets.widget import _instances

from comfydeploy_jupyter import ComfyDeployPanel
from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import CloudError
from tests.helpers.comfy_accounts import EMAIL, PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comfydeploy_jupyter.widgets.account_panel import AccountPanel
    from tests.helpers.comfy_accounts import ComfyAccounts
    from tests.helpers.jupyter import JupyterProcess


@pytest.fixture(scope="module")
def server(
    start_without_comfyui: Callable[..., JupyterProcess], shared_comfy_accounts: ComfyAccounts
) -> JupyterProcess:
    """A Jupyter server that signs in at `shared_comfy_accounts`."""
    return start_without_comfyui(comfy_account_proxy=shared_comfy_accounts.url)


@pytest.fixture
def comfy(server: JupyterProcess, comfy_accounts: ComfyAccounts) -> Iterator[Comfy]:
    found = Comfy(server.url, server.token)
    yield found
    found.comfy_account.sign_out()


@pytest.fixture
def panel(comfy: Comfy) -> Iterator[AccountPanel]:
    """The panel in its tab, after it has asked for the account."""
    whole = ComfyDeployPanel(comfy=comfy)
    whole.tab = "Account"
    whole.account_panel.wait(30)
    yield whole.account_panel
    whole.close()


def state_of_all() -> str:
    """Return what a notebook would save of all widgets."""
    states = [one.get_state() for one in _instances.values()]
    return str(states)


def test_signing_in_and_out(panel: AccountPanel, comfy: Comfy) -> None:
    assert "There is no Comfy account" in panel.report
    assert panel._sign_out.layout.display == "none"
    panel._email.value, panel._password.value = f" {EMAIL} ", PASSWORD
    panel.sign_in()
    assert PASSWORD not in state_of_all()
    panel.wait(30)
    assert f"Signed in to Comfy as {EMAIL}" in panel.report
    assert panel.error == ""
    assert comfy.comfy_account.status().source == "signed-in"
    assert EMAIL not in "".join(panel.kept)
    panel.sign_out()
    panel.wait(30)
    assert "There is no Comfy account" in panel.report


def test_a_wrong_password_is_shown_and_can_be_corrected(panel: AccountPanel) -> None:
    panel._email.value, panel._password.value = EMAIL, "wrong"
    panel.sign_in()
    panel.wait(30)
    assert "email or the password of the Comfy account is wrong" in panel.error
    assert not panel._sign_in.disabled
    panel.sign_in()
    assert "Enter the email and the password" in panel.error
    panel._password.value = PASSWORD
    panel.sign_in()
    panel.wait(30)
    assert panel.error == ""


def test_a_key_can_be_stored(panel: AccountPanel) -> None:
    panel.store_key()
    assert "Enter the API key" in panel.error
    panel._key.value = "comfyui-secret-key"
    panel.store_key()
    assert "comfyui-secret-key" not in state_of_all()
    panel.wait(30)
    assert "A key of a Comfy account is stored" in panel.report
    assert panel._sign_out.layout.display == ""


def test_the_client_asks_for_the_password(comfy: Comfy, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    monkeypatch.setattr(getpass, "getpass", lambda text: prompts.append(text) or PASSWORD)
    status = comfy.comfy_account.sign_in(EMAIL)
    assert prompts == [f"Password of {EMAIL}: "]
    assert str(status) == f"Signed in to Comfy as {EMAIL}"
    with pytest.raises(CloudError, match="is wrong"):
        comfy.comfy_account.sign_in(EMAIL, "wrong")
    assert comfy.comfy_account.status() == status, "a failed sign-in changes nothing"
    assert comfy.comfy_account.sign_out().source is None
