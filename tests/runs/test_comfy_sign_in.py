"""Signing in to a Comfy account: only ComfyUI's partner nodes get its tokens."""

import asyncio
import json
import re

import pytest

from tests.helpers.comfy_accounts import CONFIGURED, EMAIL, PASSWORD, error

from .test_partner_keys import hashes, partner, run

TOKEN = "/securetoken.googleapis.com/v1/token"


@pytest.fixture
def extension_config(account_config):
    return account_config


async def sign_in(api, **changes):
    return await api.post("comfy-account", {"email": EMAIL, "password": PASSWORD, **changes})


async def token_of_a_run(api):
    _, body = await run(api)
    return body["outputs"]["7"]["text"]


async def test_runs_have_the_token_until_the_user_signs_out(api, comfy_accounts, tmp_path):
    code, reply = await sign_in(api)
    assert code == 200, reply
    assert reply == {
        "success": True,
        "has_key": True,
        "source": "signed-in",
        "email": EMAIL,
        "problem": None,
    }
    (token,) = comfy_accounts.id_tokens
    assert comfy_accounts.customers == [{"token": token, "body": {"signup_source": "localhost"}}]
    for _ in range(2):
        assert await token_of_a_run(api) == hashes(None, token)
    assert len(comfy_accounts.requests) == 2, "a valid token is not replaced"
    file = tmp_path / "data" / "comfy_sign_in.json"
    assert file.stat().st_mode & 0o777 == 0o600
    _, reply = await api.post("comfy-account", {"api_key": None})
    assert (reply["source"], reply["email"]) == ("configured", None)
    assert not file.exists()
    assert await token_of_a_run(api) == hashes(CONFIGURED, None)


async def test_a_token_is_replaced_before_it_ends(api, extension, comfy_accounts):
    comfy_accounts.lifetime = "200"
    await sign_in(api)
    await asyncio.gather(*(token_of_a_run(api) for _ in range(3)))
    assert comfy_accounts.requests.count(TOKEN) >= 1
    comfy_accounts.lifetime = "3600"
    assert await token_of_a_run(api) == hashes(None, comfy_accounts.id_tokens[-1])
    before = len(comfy_accounts.requests)
    account = extension.services.comfy_account
    await account.open()  # as after a restart, which forgets the token of the last hour
    account._valid_until = 0.0
    await asyncio.gather(*(token_of_a_run(api) for _ in range(3)))
    assert comfy_accounts.requests[before:] == [TOKEN], "one request for all runs"
    assert await token_of_a_run(api) == hashes(None, comfy_accounts.id_tokens[-1])


FAILURES = [
    (400, error("INVALID_LOGIN_CREDENTIALS"), "email or the password"),
    (400, error("EMAIL_NOT_FOUND"), "email or the password"),
    (400, error("USER_DISABLED"), "is disabled"),
    (400, error("TOO_MANY_ATTEMPTS_TRY_LATER : Try again later."), "Too many wrong attempts"),
    (200, {"mfaPendingCredential": "x", "localId": "u1"}, "second factor"),
    (200, {"idToken": "", "refreshToken": "x"}, "contains no token"),
    (200, {"idToken": "a b", "refreshToken": "x"}, "contains no token"),
    (200, {"idToken": ["x"], "refreshToken": "x"}, "contains no token"),
    (200, [], "contains no token"),
    (200, "<html>", "contains no token"),
    (302, {}, "status 302"),
    (503, "<html>", "status 503"),
    (403, {"error": "text"}, "status 403"),
    (200, "x" * (2 << 20), "more than"),
]


async def test_a_sign_in_that_fails_says_why_and_changes_nothing(
    api, extension, comfy_accounts, caplog
):
    caplog.set_level("DEBUG")
    for status, answer, reported in FAILURES:
        comfy_accounts.answers.append((status, answer))
        code, body = await sign_in(api)
        assert (code, body["code"]) == (400 if status == 400 else 502, "cloud_error")
        assert reported in body["error"]
        assert PASSWORD not in json.dumps(body) + "\n".join(caplog.messages)
        assert (await api.get("comfy-account"))[1]["source"] == "configured"
    code, body = await sign_in(api, password="secret-wrong")
    assert (code, body["details"]["reason"]) == (400, "INVALID_LOGIN_CREDENTIALS")
    assert "secret-wrong" not in json.dumps(body)
    assert comfy_accounts.customers == []
    tokens = {"idToken": "x", "refreshToken": "y", "expiresIn": "3600"}
    comfy_accounts.answers += [(200, tokens), (500, {"message": "out of order"})]
    code, body = await sign_in(api)
    assert (code, body["code"]) == (502, "cloud_error")
    assert "api.comfy.org" in body["error"], "its account cannot be opened"
    assert extension.services.comfy_account.source == "configured"
    extension.services.comfy_account._root = "http://127.0.0.1:9/"
    code, body = await sign_in(api)
    assert (code, body["code"]) == (502, "cloud_error")
    assert "identitytoolkit.googleapis.com cannot be reached" in body["error"]
    assert PASSWORD not in json.dumps(body)


INVALID = [
    ({"email": EMAIL}, "password"),
    ({"password": "secret-value"}, "email"),
    ({"email": "secret-value", "password": "secret-value"}, "email"),
    ({"email": f"{EMAIL}\n", "password": "secret-value"}, "email"),
    ({"email": EMAIL, "password": ""}, "password"),
    ({"email": EMAIL, "password": ["secret-value"]}, "password"),
    ({"email": EMAIL, "password": "secret-value" * 1000}, "password"),
    ({"email": EMAIL, "password": "secret-value", "api_key": "k"}, "api_key"),
    ({}, "api_key"),
]


async def test_an_invalid_request_is_refused(api, comfy_accounts):
    for body, field in INVALID:
        code, reply = await api.post("comfy-account", body)
        assert (code, reply["details"]["field"]) == (400, field)
        assert "secret-value" not in json.dumps(reply)
    assert comfy_accounts.requests == []


async def test_without_a_token_runs_are_executed_and_the_account_says_why(
    api, comfy_accounts, extension
):
    comfy_accounts.lifetime = "0"
    await sign_in(api)
    comfy_accounts.answers.append((503, "<html>"))
    assert await token_of_a_run(api) == hashes(None, None)
    assert await token_of_a_run(api) == hashes(None, None)
    assert comfy_accounts.requests.count(TOKEN) == 1, "not asked again at once"
    _, reply = await api.get("comfy-account")
    assert (reply["source"], reply["email"]) == ("signed-in", EMAIL)
    assert "securetoken.googleapis.com answers with status 503" in reply["problem"]
    extension.services.comfy_account._ask_after = 0.0  # time passes
    comfy_accounts.lifetime = "3600"
    assert await token_of_a_run(api) == hashes(None, comfy_accounts.id_tokens[-1])
    assert (await api.get("comfy-account"))[1]["problem"] is None


async def test_an_expired_sign_in_is_reported_and_can_be_repeated(api, comfy_accounts):
    comfy_accounts.lifetime = "0"
    await sign_in(api)
    comfy_accounts.refresh_tokens.clear()
    assert await token_of_a_run(api) == hashes(None, None)
    assert "sign in again" in (await api.get("comfy-account"))[1]["problem"]
    comfy_accounts.lifetime = "3600"
    _, reply = await sign_in(api)
    assert reply["problem"] is None
    assert await token_of_a_run(api) == hashes(None, comfy_accounts.id_tokens[-1])


async def test_passwords_and_tokens_are_never_shown(
    events, api, newer, comfy_accounts, tmp_path, caplog
):
    caplog.set_level("DEBUG")
    replies = [await sign_in(api)]
    (id_token,), (refresh_token,) = comfy_accounts.id_tokens, comfy_accounts.refresh_tokens
    for kind in ("fail", "show"):
        body = {"workflow_api": partner(**{kind: True}), "prompt_id": kind}
        messages = await events(body=body)
        assert newer.prompts[-1]["extra_data"]["auth_token_comfy_org"] == id_token
        assert "***" in json.dumps(messages)
        replies += [messages, await api.get("check-status", prompt_id=kind)]
    replies += [await api.get("runs"), await api.get("comfy-account")]
    files = {f.name: f.read_bytes() for f in (tmp_path / "data").rglob("*") if f.is_file()}
    assert refresh_token.encode() in files.pop("comfy_sign_in.json")
    kept = b"".join(files.values()).decode("latin-1")
    everything = f"{json.dumps(replies)}{caplog.messages}{kept}"
    assert not re.findall(f"{PASSWORD}|{id_token}|{refresh_token}", everything)


class TestOffline:
    """With the setting ``offline``."""

    @pytest.fixture
    def extension_config(self, newer, comfy_accounts, tmp_path):
        return {
            "comfyui_url": newer.url,
            "comfy_account_proxy": comfy_accounts.url,
            "data_dir": str(tmp_path / "data"),
            "offline": True,
        }

    async def test_no_request_is_sent(self, api, extension, comfy_accounts):
        code, body = await sign_in(api)
        assert (code, body["code"]) == (403, "offline")
        account = extension.services.comfy_account
        account._refresh_token, account.email = "kept", EMAIL
        assert await token_of_a_run(api) == hashes(None, None)
        assert "offline" in (await api.get("comfy-account"))[1]["problem"]
        assert comfy_accounts.requests == []
