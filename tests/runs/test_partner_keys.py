"""Keys of a Comfy account: only ComfyUI's partner nodes get them."""

import asyncio
import hashlib
import json
import uuid

import pytest

from tests.helpers.comfy_accounts import CONFIGURED
from tests.helpers.waiting import until_async

from .conftest import until_connected

KEY = "comfyui-0f1e2d3c4b5a69788796a5b4c3d2e1f0"
AUTH = "eyJhbGciOi.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4"
KEPT = "comfyui-kept-2222222222222222222222"


@pytest.fixture
def extension_config(account_config):
    return account_config


def partner(**inputs):
    inputs = {"fail": False, "show": False, "token": uuid.uuid4().hex, **inputs}
    return {"7": {"class_type": "TestPartner", "inputs": inputs}}


def hashes(*keys):
    return [hashlib.sha256(str(key).encode()).hexdigest() for key in keys]


async def run(api, graph=None, **fields):
    return await api.post("run", {"workflow_api": graph or partner(), **fields})


async def test_which_key_a_run_has(api):
    extra = {"api_key_comfy_org": KEY, "auth_token_comfy_org": AUTH, "other": "x"}
    _, body = await run(api, extra_data=extra)
    assert body["outputs"]["7"]["text"] == hashes(KEY, AUTH)
    _, body = await run(api)
    assert body["outputs"]["7"]["text"] == hashes(CONFIGURED, None)
    nobody = {"email": None, "problem": None}
    _, reply = await api.get("comfy-account")
    assert reply == {"has_key": True, "source": "configured", **nobody}
    _, reply = await api.post("comfy-account", {"api_key": KEPT})
    assert reply == {"success": True, "has_key": True, "source": "kept", **nobody}
    _, body = await run(api, extra_data={"api_key_comfy_org": ""})
    assert body["outputs"]["7"]["text"] == hashes(KEPT, None)
    await api.post("comfy-account", {"api_key": None})
    _, body = await run(api)
    assert body["outputs"]["7"]["text"] == hashes(CONFIGURED, None)


async def test_a_kept_key_is_there_after_a_restart_and_readable_by_its_owner_only(
    api, extension, tmp_path
):
    await api.post("comfy-account", {"api_key": KEPT})
    file = tmp_path / "data" / "comfy_account.json"
    assert file.stat().st_mode & 0o777 == 0o600
    await extension.services.comfy_account.keep(KEPT)
    extension.services.comfy_account._kept = None
    await extension.services.comfy_account.open()
    assert extension.services.comfy_account.known_keys() == {"api_key_comfy_org": KEPT}
    await api.post("comfy-account", {"api_key": None})
    assert not file.exists()


async def test_keys_are_sent_to_comfyui_only(events, api, newer, tmp_path, caplog):
    caplog.set_level("DEBUG")
    keys = {"api_key_comfy_org": KEY, "auth_token_comfy_org": AUTH}
    for kind in ("fail", "show"):
        body = {"workflow_api": partner(**{kind: True}), "prompt_id": kind, "extra_data": keys}
        text = json.dumps(await events(body=body))
        assert newer.prompts[-1]["extra_data"].items() >= keys.items()
        record = json.dumps((await api.get("check-status", prompt_id=kind))[1])
        shown = f"{text}{record}{(await api.get('runs'))[1]}{caplog.messages}"
        files = b"".join(f.read_bytes() for f in (tmp_path / "data").rglob("*") if f.is_file())
        for key in keys.values():
            assert key not in shown
            assert key.encode() not in files
        assert "***" in text
        assert "***" in record


async def test_keys_are_masked_in_the_history(api, newer):
    """The end of the run, whose event was lost, is read from ComfyUI's history."""
    graph = {
        "1": {"class_type": "TestSleep", "inputs": {"seconds": 1.5, "token": uuid.uuid4().hex}},
        **partner(fail=True, anything=["1", 0]),
    }
    body = {"prompt_id": "gap", "wait": False, "extra_data": {"api_key_comfy_org": KEY}}
    await run(api, graph, **body)
    await api.until("gap", "running")
    newer.fail("GET", "/prompt", _refuse)  # no new socket before the run is over
    newer.drop_sockets()
    await _until_over(newer)
    newer.remove_faults()
    record = await api.until("gap", "failed")
    assert record["error"]["message"] == "401 for the key *** and the token None"
    await until_connected(api)


async def _refuse(request):
    request.transport.abort()
    raise ConnectionResetError


async def _until_over(newer):
    await until_async(
        lambda: asyncio.to_thread(newer.ask, "/prompt"),
        lambda answer: answer["exec_info"]["queue_remaining"] == 0,
    )


INVALID = [
    {"api_key_comfy_org": 5},
    {"api_key_comfy_org": ["secret-value"]},
    {"auth_token_comfy_org": "secret-value with spaces"},
    {"api_key_comfy_org": "secret-value\n"},
    {"api_key_comfy_org": "secret-value" * 10_000},
    "secret-value",
    [],
]


async def test_an_invalid_key_is_refused_and_not_shown(api, newer):
    before = len(newer.prompts)
    for extra in INVALID:
        code, body = await run(api, extra_data=extra)
        assert (code, body["code"]) == (400, "invalid_request")
        assert body["details"]["field"] == "extra_data"
        if isinstance(extra, dict):
            assert next(iter(extra)) in body["error"]
        assert "secret-value" not in json.dumps(body)
    assert len(newer.prompts) == before
    for key in (5, "", "a b", "x" * 20_000, {}):
        code, body = await api.post("comfy-account", {"api_key": key})
        assert (code, body["details"]["field"]) == (400, "api_key")
    assert (await api.get("comfy-account"))[1]["source"] == "configured"
