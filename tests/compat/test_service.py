"""The other routes of the service through the client, as machines, sign-in and volumes use them."""

from __future__ import annotations

import aiohttp
import pytest
from yarl import URL

from comfydeploy_jupyter.compat.comfydeploy import CloudAccess, CloudClient
from comfydeploy_jupyter.errors import CloudError
from tests.helpers.fake_comfydeploy import KEY


@pytest.fixture
def client(comfydeploy, jp_asyncio_loop):
    made = CloudClient(comfydeploy.url, access=CloudAccess((comfydeploy.root,), KEY), pause=0.01)
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


@pytest.fixture
def account(client):
    return client.account()


async def test_a_machine_is_built_and_then_ready(account):
    made = await account.post("machine", "serverless", body={"name": "m", "gpu": "H100"})
    assert (made["status"], made["run_timeout"]) == ("building", 300)
    assert (await account.get("machine", made["id"]))["status"] == "building"
    assert (await account.get("machine", made["id"]))["status"] == "ready"
    for body, status, words in (
        ({"name": "m", "gpu": "H100"}, 409, "already exists"),
        ({"name": "n", "gpu": "GTX"}, 422, "gpu: Input should be one of CPU, T4"),
        ({"gpu": "T4"}, 422, "name: Field required"),
    ):
        with pytest.raises(CloudError, match=words) as caught:
            await account.post("machine", "serverless", body=body)
        assert caught.value.status == status
    with pytest.raises(CloudError, match="Machine not found"):
        await account.get("machine", "x")


async def test_a_snapshot_becomes_steps(account):
    body = {
        "git_custom_nodes": {
            "https://example.org/a/nodes": {"hash": "1" * 40, "disabled": False},
            "https://example.org/a/off": {"hash": "2" * 40, "disabled": True},
        },
        "cnr_custom_nodes": {"pack": "1.0.0"},
    }
    steps = (await account.post("snapshot-to-docker", body=body, idempotent=True))["steps"]
    assert [step["type"] for step in steps] == ["custom-node", "custom-node-manager"]
    assert steps[0]["data"]["hash"] == "1" * 40
    assert len((await account.get("latest-hashes"))["comfyui_hash"]) == 40


async def test_a_sign_in_is_answered_once_and_without_a_key(client, comfydeploy):
    url = URL(comfydeploy.url) / "platform" / "comfyui" / "auth-response"

    async def request_key():
        return await client.call("GET", url, key=None, params={"request_id": "r"})

    with pytest.raises(CloudError) as pending:
        await request_key()
    comfydeploy.approve("r")
    assert await request_key() == {"api_key": KEY, "name": "Ada"}
    with pytest.raises(CloudError) as second_answer:
        await request_key()
    assert (pending.value.status, second_answer.value.status) == (404, 410)
    assert not [seen for seen in comfydeploy.seen if "Authorization" in seen.headers]


async def test_a_model_is_added_once(account):
    body = {"source": "link", "folderPath": "loras", "filename": "a", "downloadLink": "https://h/a"}
    assert "message" in await account.post("volume", "model", body=body)
    with pytest.raises(CloudError, match="already exists") as caught:
        await account.post("volume", "model", body=body)
    assert caught.value.status == 409


async def test_a_file_is_uploaded_in_parts(account, comfydeploy):
    file = {"filename": "a.bin", "contentType": "application/octet-stream", "size": 6}
    upload = await account.post("volume", "file", "initiate-multipart-upload", body=file)
    ids = {"uploadId": upload["uploadId"], "key": upload["key"]}
    parts = []
    async with aiohttp.ClientSession() as session:
        for number, content in ((1, b"abc"), (2, b"def")):
            answer = await account.post(
                "volume", "file", "generate-part-upload-url", body={**ids, "partNumber": number}
            )
            async with session.put(answer["uploadUrl"], data=content) as response:
                parts.append({"partNumber": number, "eTag": response.headers["ETag"]})
    with pytest.raises(CloudError, match="Parts do not match"):
        await account.post(
            "volume", "file", "complete-multipart-upload", body={**ids, "parts": parts[:1]}
        )
    done = await account.post(
        "volume", "file", "complete-multipart-upload", body={**ids, "parts": parts}
    )
    assert done == {"status": "ok", "key": upload["key"]}
    stored = comfydeploy.uploads[upload["key"]]["parts"]
    assert b"".join(content for _, content in stored.values()) == b"abcdef"
    aborted = await account.post("volume", "file", "abort-multipart-upload", body=ids)
    assert aborted == {"status": "aborted"}
