"""`comfy.comfy_account`, with the real routes."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import CloudError
from tests.helpers.comfy_accounts import EMAIL, PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def test_a_key_can_be_stored(comfy: Comfy) -> None:
    assert str(comfy.comfy_account.status()) == "There is no Comfy account; partner nodes need one"
    stored = comfy.comfy_account.set_api_key("comfyui-secret-key")
    assert stored.source == "kept"
    assert comfy.comfy_account.sign_out().source is None


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
