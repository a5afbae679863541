"""The tokens of a Comfy account; tests/runs/test_comfy_sign_in.py has the routes and the runs."""

import pytest

from comfydeploy_jupyter.compat import comfy_account
from comfydeploy_jupyter.compat.comfy_account import ComfyAccount
from comfydeploy_jupyter.compat.comfydeploy import Credentials
from tests.helpers.comfy_accounts import EMAIL, PASSWORD


@pytest.fixture
def account(comfy_accounts, jp_asyncio_loop, tmp_path):
    stores = [Credentials(tmp_path / name) for name in ("key", "sign-in")]
    made = ComfyAccount(*stores, None, proxy=comfy_accounts.url)
    comfy_accounts.lifetime = "200"  # less than the time before which a token is replaced
    jp_asyncio_loop.run_until_complete(made.sign_in(EMAIL, PASSWORD))
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


async def test_a_new_refresh_token_is_stored(account, comfy_accounts, tmp_path):
    assert await account.keys() == {"auth_token_comfy_org": comfy_accounts.id_tokens[1]}
    stored = Credentials(tmp_path / "sign-in").load()
    assert stored == (comfy_accounts.refresh_tokens[1], EMAIL)


async def test_a_sign_in_that_is_over_is_not_tried_again(account, comfy_accounts, monkeypatch):
    monkeypatch.setattr(comfy_account, "ASK_AGAIN_AFTER", -1.0)
    comfy_accounts.answers.append((500, {}))
    comfy_accounts.refresh_tokens.clear()
    for count in (3, 4, 4):  # requests: after an error of the service it tries again
        await account.keys()
        assert len(comfy_accounts.requests) == count
    assert "expired" in account.problem
