"""The client of the ComfyDeploy API, against a small ComfyDeploy."""

import json
import logging
import socket
import time
import traceback

import pytest

from comfydeploy_jupyter.compat.comfydeploy import (
    Account,
    CloudAccess,
    CloudClient,
    Credentials,
    iso_utc,
)
from comfydeploy_jupyter.errors import (
    CloudError,
    ForbiddenAPIURLError,
    InvalidRequestError,
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


async def test_requests(account, comfydeploy):
    assert await account.get("workflows", limit=3, search="a b&c", offset=None) == []
    (seen,) = comfydeploy.seen
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert (seen.path, seen.query) == ("/api/workflows", {"limit": "3", "search": "a b&c"})
    await account.post("machine", "serverless", body={"name": "m", "gpu": "L4"})
    (machine_id,) = comfydeploy.machines
    changed = await account.patch("machine", "serverless", machine_id, body={"gpu": "H100"})
    assert changed["gpu"] == "H100"
    with pytest.raises(CloudError) as caught:
        await account.get("workflow", "a/../../x?y#z")
    assert caught.value.status == 404
    assert comfydeploy.seen[-1].path == "/api/workflow/a/../../x?y#z"
    for odd in ("..", ".", ""):
        with pytest.raises(InvalidRequestError, match="not an id"):
            await account.get("workflow", odd)


async def test_errors(account, comfydeploy):
    of_field = {"detail": [{"loc": ["body", "name"], "msg": "Field required"}, {"msg": "b"}]}
    what = "GET /api/workflows"
    for status, body, reported_status, message in (
        (401, {"detail": "Invalid token"}, 401, "ComfyDeploy: Invalid token"),
        (404, {"error": "No such\nmachine"}, 404, "ComfyDeploy: No such machine"),
        (409, {"message": "taken"}, 409, "ComfyDeploy: taken"),
        (403, {"detail": {"message": "no plan"}}, 403, "ComfyDeploy: no plan"),
        (422, of_field, 422, "ComfyDeploy: name: Field required; b"),
        (400, "<html>no</html>", 400, f"ComfyDeploy answered 400 to {what}"),
        (400, [1], 400, f"ComfyDeploy answered 400 to {what}"),
        (302, {}, 502, f"ComfyDeploy answers {what} with a redirect"),
        (200, "<html>", 502, f"ComfyDeploy's answer to {what} has an unexpected form"),
        (500, {"detail": "broken"}, 502, "ComfyDeploy: broken"),
        (503, "down", 502, f"ComfyDeploy answered 503 to {what}"),
    ):
        times = 4 if status >= 500 else 1
        comfydeploy.fail(status, body=body, times=times, headers={"Location": "https://evil.test/"})
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
async def test_which_requests_are_repeated(account, comfydeploy, fault):
    def fail(times=1):
        comfydeploy.seen.clear()
        if fault == "fail":
            comfydeploy.fail(500, times=times)
        else:
            comfydeploy.cut(times=times)

    fail(3)
    assert await account.get("workflows") == []
    assert len(comfydeploy.seen) == 4
    fail()
    with pytest.raises(CloudError) as caught:
        await account.post("machine", "serverless", body={"name": "m", "gpu": "L4"})
    assert (caught.value.status, len(comfydeploy.seen)) == (502, 1)
    fail()
    body = {"git_custom_nodes": {}, "cnr_custom_nodes": {}}
    answer = await account.post("snapshot-to-docker", body=body, idempotent=True)
    assert answer == {"steps": []}
    comfydeploy.seen.clear()
    comfydeploy.fail(500, times=10)
    with pytest.raises(CloudError):
        await account.get("workflows")
    assert len(comfydeploy.seen) == 4


async def test_a_refused_request_is_repeated_when_the_service_says(account, comfydeploy):
    comfydeploy.fail(429, headers={"Retry-After": "0.3"})
    started = time.monotonic()
    await account.post("machine", "serverless", body={"name": "m", "gpu": "L4"})
    assert time.monotonic() - started >= 0.3
    assert len(comfydeploy.machines) == 1
    comfydeploy.fail(429, headers={"Retry-After": "3600"})  # it does not wait so long
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


def test_allow_list():
    access = CloudAccess(("https://api.comfydeploy.com", "https://h/api/"), None)
    for url in (
        *("https://api.comfydeploy.com", "https://api.comfydeploy.com/", "https://h/api"),
        *("HTTPS://API.comfydeploy.com:443/api", "https://h/api/v2"),
    ):
        assert access.check_url(url, field="api_url")
    for url in (
        *("http://api.comfydeploy.com", "https://api.comfydeploy.com:8443"),
        *("https://api.comfydeploy.com.evil.example", "https://api.comfydeploy.com@evil.example"),
        *("https://user:pass@api.comfydeploy.com", "https://api.comfydeploy.com\\@evil.example"),
        *("https://evil.example/https://api.comfydeploy.com", "//api.comfydeploy.com", ""),
        *("https://[::1", "https://h/apis", "https://h/", "https://h/api/../admin"),
        *("https://h/api/%2e%2e/admin", "https://h/api/%252e%252e/admin"),
    ):
        with pytest.raises(ForbiddenAPIURLError) as caught:
            access.check_url(url, field="api_url")
        assert caught.value.details["field"] == "api_url"
        assert "pass" not in caught.value.message
    client = CloudClient("https://evil.example/api", access=CloudAccess(("https://a",), KEY))
    with pytest.raises(ForbiddenAPIURLError, match="cloud_url"):
        client.account()


def test_credentials_are_kept_for_their_owner_only(tmp_path):
    file = tmp_path / "credentials.json"
    credentials = Credentials(file)
    assert credentials.load() is None
    for name in ("Ada", "Bob"):
        credentials.keep(Account("key", name))
        assert credentials.load() == Account("key", name)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]
    for text, account in (
        ('{"api_key": "sk-1\\n", "name": ""}', Account("sk-1", "")),
        ('{"api_key": "sk\\n1", "name": ""}', None),
        ("[]", None),
    ):
        file.write_text(text)
        assert credentials.load() == account


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2026-03-01T10:00:00.123Z", "2026-03-01T10:00:00.123Z"),
        ("2026-03-01 10:00:00", "2026-03-01T10:00:00.000Z"),
        ("2026-03-01 10:00:00.123456", "2026-03-01T10:00:00.123Z"),
        ("2026-03-01 10:00:00.123456+00Z", "2026-03-01T10:00:00.123Z"),
        ("2026-03-01 10:00:00.1+00", "2026-03-01T10:00:00.100Z"),
        ("2026-03-01T10:00:00+00:00Z", "2026-03-01T10:00:00.000Z"),
        ("2026-03-01T01:00:00.5+02:30", "2026-02-28T22:30:00.500Z"),
        ("2026-03-01T23:00:00-0130", "2026-03-02T00:30:00.000Z"),
        ("2026-03-01T10:00", "2026-03-01T10:00:00.000Z"),
        ("2026-03-01", "2026-03-01T00:00:00.000Z"),
        (" 2026-03-01t10:00:00z ", "2026-03-01T10:00:00.000Z"),
        ("0001-01-01T00:00:00+01:00", None),
        ("2026-02-30T10:00:00Z", None),
        ("2026-03-01T25:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1772359200, None),
    ],
)
def test_date(text, date):
    assert iso_utc(text) == date
