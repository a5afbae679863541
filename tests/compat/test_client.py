"""The client of the ComfyDeploy API, against a small ComfyDeploy."""

from __future__ import annotations

import json
import logging
import socket
import time
import traceback

import pytest

from comfydeploy_jupyter.compat.comfydeploy import Account, CloudAccess, CloudClient, Credentials
from comfydeploy_jupyter.errors import (
    CloudError,
    ForbiddenAPIURLError,
    InvalidRequestError,
    NoAPIKeyError,
)
from tests.helpers.fake_comfydeploy import KEY


@pytest.fixture
def client(comfydeploy, jp_asyncio_loop):
    access = CloudAccess((comfydeploy.root,), KEY)
    made = CloudClient(comfydeploy.url, access=access, timeout=2.0, pause=0.01)
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


@pytest.fixture
def account(client):
    return client.account()


async def test_key_and_query_are_sent(account, comfydeploy):
    assert await account.get("workflows", limit=3, search="a b&c", offset=None) == []
    (seen,) = comfydeploy.seen
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert (seen.path, seen.query) == ("/api/workflows", {"limit": "3", "search": "a b&c"})


async def test_body_is_sent_as_json(account, comfydeploy):
    await account.post("machine", "serverless", body={"name": "m", "gpu": "L4"})
    (machine_id,) = comfydeploy.machines
    changed = await account.patch("machine", "serverless", machine_id, body={"gpu": "H100"})
    assert changed["gpu"] == "H100"


@pytest.mark.parametrize(
    ("root", "path"),
    [("", "/api/workflows"), ("/", "/api/workflows"), ("/api", "/api/workflows")],
)
async def test_api_url_in_the_form_that_the_node_sends(client, comfydeploy, root, path):
    account = client.account(api_url=f"{comfydeploy.root}{root}")
    assert await account.get("workflows") == []
    assert comfydeploy.seen[0].path == path


async def test_an_id_stays_one_segment_of_the_path(account, comfydeploy):
    with pytest.raises(CloudError) as caught:
        await account.get("workflow", "a/../../x?y#z")
    assert caught.value.status == 404
    assert comfydeploy.seen[0].path == "/api/workflow/a/../../x?y#z"
    for odd in ("..", ".", ""):
        with pytest.raises(InvalidRequestError, match="not an id"):
            await account.get("workflow", odd)


@pytest.mark.parametrize(
    ("status", "body", "reported_status", "message"),
    [
        (401, {"detail": "Invalid token"}, 401, "ComfyDeploy: Invalid token"),
        (404, {"error": "No such\nmachine"}, 404, "ComfyDeploy: No such machine"),
        (409, {"message": "taken"}, 409, "ComfyDeploy: taken"),
        (403, {"detail": {"message": "no plan"}}, 403, "ComfyDeploy: no plan"),
        (
            422,
            {"detail": [{"loc": ["body", "name"], "msg": "Field required"}, {"msg": "b"}]},
            422,
            "ComfyDeploy: name: Field required; b",
        ),
        (400, "<html>no</html>", 400, "ComfyDeploy answered 400 to GET /api/workflows"),
        (400, [1], 400, "ComfyDeploy answered 400 to GET /api/workflows"),
        (302, {}, 502, "ComfyDeploy answers GET /api/workflows with a redirect"),
        (200, "<html>", 502, "ComfyDeploy's answer to GET /api/workflows has an unexpected form"),
        (500, {"detail": "broken"}, 502, "ComfyDeploy: broken"),
        (503, "down", 502, "ComfyDeploy answered 503 to GET /api/workflows"),
    ],
)
async def test_errors(account, comfydeploy, status, body, reported_status, message):
    comfydeploy.fail(status, body=body, times=4, headers={"Location": "https://evil.example/"})
    with pytest.raises(CloudError) as caught:
        await account.get("workflows")
    assert (caught.value.status, caught.value.message) == (reported_status, message)
    assert caught.value.code == "cloud_error"


async def test_the_key_is_never_shown(client, account, comfydeploy, caplog):
    caplog.set_level(logging.DEBUG)
    comfydeploy.fail(403, body={"detail": f"key {KEY} may not do that"})
    comfydeploy.cut(times=10)
    texts = [repr(client), repr(account), repr(client.access), repr(Account(KEY, "Ada"))]
    for _ in range(2):
        with pytest.raises(CloudError) as caught:
            await account.get("workflows")
        texts += [json.dumps(caught.value.to_reply()), *traceback.format_exception(caught.value)]
    assert "key *** may not do that" in texts[4]
    assert not [text for text in (*texts, caplog.text) if KEY in text]
    assert not [seen for seen in comfydeploy.seen if KEY in str(seen.query) + seen.path]


@pytest.mark.parametrize("fault", ["fail", "cut"])
async def test_a_get_is_repeated(account, comfydeploy, fault):
    if fault == "fail":
        comfydeploy.fail(500, times=3)
    else:
        comfydeploy.cut(times=3)
    assert await account.get("workflows") == []
    assert len(comfydeploy.seen) == 4


async def test_a_get_is_repeated_a_limited_number_of_times(account, comfydeploy):
    comfydeploy.fail(500, times=10)
    with pytest.raises(CloudError):
        await account.get("workflows")
    assert len(comfydeploy.seen) == 4


@pytest.mark.parametrize("fault", ["fail", "cut"])
async def test_a_post_is_not_repeated(account, comfydeploy, fault):
    if fault == "fail":
        comfydeploy.fail(500)
    else:
        comfydeploy.cut()
    with pytest.raises(CloudError) as caught:
        await account.post("machine", "serverless", body={"name": "m", "gpu": "L4"})
    assert caught.value.status == 502
    assert len(comfydeploy.seen) == 1


async def test_an_idempotent_post_is_repeated(account, comfydeploy):
    comfydeploy.fail(502)
    body = {"git_custom_nodes": {}, "cnr_custom_nodes": {}}
    answer = await account.post("snapshot-to-docker", body=body, idempotent=True)
    assert answer == {"steps": []}


async def test_a_refused_post_is_repeated_when_the_service_says(account, comfydeploy):
    comfydeploy.fail(429, headers={"Retry-After": "0.3"})
    started = time.monotonic()
    await account.post("machine", "serverless", body={"name": "m", "gpu": "L4"})
    assert time.monotonic() - started >= 0.3
    assert len(comfydeploy.machines) == 1


async def test_a_long_retry_after_is_not_waited_for(account, comfydeploy):
    comfydeploy.fail(429, headers={"Retry-After": "3600"})
    started = time.monotonic()
    with pytest.raises(CloudError) as caught:
        await account.get("workflows")
    assert (caught.value.status, caught.value.details["retry_after"]) == (429, 3600)
    assert time.monotonic() - started < 60


async def test_a_service_that_does_not_reply_times_out(comfydeploy):
    access = CloudAccess((comfydeploy.root,), KEY)
    client = CloudClient(comfydeploy.url, access=access, timeout=0.3)
    comfydeploy.hang()
    with pytest.raises(CloudError, match="did not answer GET /api/workflows in time") as caught:
        await client.account().get("workflows")
    assert caught.value.status == 502
    await client.close()


async def test_nothing_listens_at_the_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = CloudClient(f"{url}/api", access=CloudAccess((url,), KEY), pause=0.01)
        with pytest.raises(CloudError, match="cannot be reached") as caught:
            await client.account().get("workflows")
    assert caught.value.status == 502
    await client.close()


async def test_native_run(client, comfydeploy):
    body = {"workflow_api": {"1": {}}}
    answer = await client.native_run(f"{comfydeploy.url}/native", body, None)
    assert answer == {"workflow_api": {"1": {}}, "inputs": {}}
    comfydeploy.fail(200, body=[1])
    with pytest.raises(CloudError, match="the native run"):
        await client.native_run(f"{comfydeploy.url}/native", body, None)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.comfydeploy.com", True),
        ("https://api.comfydeploy.com/", True),
        ("HTTPS://API.comfydeploy.com:443/api", True),
        ("http://api.comfydeploy.com", False),
        ("https://api.comfydeploy.com:8443", False),
        ("https://api.comfydeploy.com.evil.example", False),
        ("https://api.comfydeploy.com@evil.example", False),
        ("https://user:pass@api.comfydeploy.com", False),
        ("https://evil.example/https://api.comfydeploy.com", False),
        ("https://api.comfydeploy.com\\@evil.example", False),
        ("//api.comfydeploy.com", False),
        ("https://[::1", False),
        ("", False),
        ("https://h/api", True),
        ("https://h/api/v2", True),
        ("https://h/apis", False),
        ("https://h/", False),
        ("https://h/api/../admin", False),
        ("https://h/api/%2e%2e/admin", False),
        ("https://h/api/%252e%252e/admin", False),
    ],
)
def test_allow_list(url, allowed):
    access = CloudAccess(("https://api.comfydeploy.com", "https://h/api/"), None)
    if allowed:
        assert access.check_url(url, field="api_url")
    else:
        with pytest.raises(ForbiddenAPIURLError) as caught:
            access.check_url(url, field="api_url")
        assert caught.value.details["field"] == "api_url"
        assert "pass" not in caught.value.message


def test_a_configured_address_is_checked_too():
    client = CloudClient("https://evil.example/api", access=CloudAccess(("https://a",), KEY))
    with pytest.raises(ForbiddenAPIURLError, match="cloud_url"):
        client.account()


def test_order_of_the_keys():
    access = CloudAccess((), "configured")
    assert access.key("given") == "given"
    assert access.key(None) == "configured"
    access.signed_in_key = "session"
    assert access.key("") == "session"
    for odd in ("a\nb", "ключ"):
        with pytest.raises(NoAPIKeyError):
            access.key(odd)
    with pytest.raises(NoAPIKeyError):
        CloudAccess((), None).key(None)


def test_credentials_are_kept_for_their_owner_only(tmp_path):
    credentials = Credentials(tmp_path / "credentials.json")
    assert credentials.load() is None
    for name in ("Ada", "Bob"):
        credentials.keep(Account("key", name))
        assert credentials.load() == Account("key", name)
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]
    (tmp_path / "credentials.json").write_text('{"api_key": "sk-1\\n", "name": ""}')
    assert credentials.load() == Account("sk-1", "")
    (tmp_path / "credentials.json").write_text('{"api_key": "sk\\n1", "name": ""}')
    assert credentials.load() is None
    (tmp_path / "credentials.json").write_text("[]")
    assert credentials.load() is None
