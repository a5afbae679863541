"""The routes for signing in to ComfyDeploy and for its volumes."""

import stat
from pathlib import Path

import pytest

from tests.helpers.fake_comfydeploy import KEY


@pytest.fixture
def extension_config(cloud_config):
    return cloud_config


async def test_sign_in(api, comfydeploy, extension_config):
    for query, expected in (
        ({}, (400, "invalid_request")),
        ({"request_id": "a b"}, (400, "invalid_request")),
        ({"request_id": "x", "api_url": "https://evil.example"}, (403, "forbidden_api_url")),
    ):
        code, body = await api.get("auth-response", **query)
        assert (code, body["code"]) == expected
    code, body = await api.get("auth-response", request_id="anfrage-ü-漢")
    assert (code, body["auth_url"].rpartition("/")[2]) == (202, "anfrage-%C3%BC-%E6%BC%A2")
    code, body = await api.get("auth-response", request_id="req-1")
    assert (code, body["authenticated"], body["status"]) == (202, False, "pending")
    assert body["auth_url"] == "https://www.comfydeploy.com/auth/request/req-1"
    comfydeploy.approve("req-1")
    code, body = await api.get("auth-response", request_id="req-1")
    assert (code, body["success"], body["authenticated"], body["name"]) == (200, True, True, "Ada")
    assert KEY not in str(body)
    kept = Path(extension_config["data_dir"]) / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert await api.get("workflows", target="cloud") == (200, [])


async def test_volume_steps_are_passed_on(api):
    async def step(name, **body):
        headers = {"X-ComfyDeploy-Token": KEY}
        return await api.post(f"volume/file/{name}", body, headers=headers)

    file = {"filename": "a.bin", "contentType": "application/octet-stream", "size": 3}
    code, body = await step("generate-upload-url", **file)
    assert (code, bool(body["uploadUrl"])) == (200, True)
    code, started = await step("initiate-multipart-upload", **file)
    assert code == 200
    upload = {"uploadId": started["uploadId"], "key": started["key"]}
    code, body = await step("generate-part-upload-url", **upload, partNumber=1)
    assert (code, bool(body["uploadUrl"])) == (200, True)
    assert await step("abort-multipart-upload", **upload) == (200, {"status": "aborted"})


async def test_errors_of_volumes_have_a_detail(api):
    """The node's web plug-in reads it there."""
    for route, body, expected in (
        ("volume/file/generate-upload-url", {"filename": "a"}, (401, "no_api_key")),
        ("volume/file/upload-part-from-path", "no JSON", (400, "invalid_json")),
        ("volume/model", "no JSON", (400, "invalid_json")),
        ("volume/file/complete-multipart-upload", "no JSON", (400, "invalid_json")),
    ):
        code, answer = await api.post(route, body)
        assert (code, answer["code"]) == expected
        assert answer["detail"] == answer["error"]


async def test_a_model_for_a_cloud_volume_in_our_request_format(api, comfydeploy):
    link, page = "https://example.org/a.safetensors", "https://civitai.com/models/1"
    resolved = "https://huggingface.co/owner/repo/resolve/main/c.safetensors"
    of_link = {"source": "link", "folderPath": "loras"}
    repo, civitai = {"repoId": "owner/repo"}, {"url": page}
    for ours, theirs in (
        ({"url": link, "folder": "models/loras"}, {**of_link, "downloadLink": link}),
        (
            {"source": "huggingface", "url": "owner/repo", "filename": "b"},
            {**of_link, "source": "huggingface", "filename": "b", "huggingface": repo},
        ),
        (
            {"source": "huggingface", "url": resolved, "filename": "c"},
            {**of_link, "downloadLink": resolved, "filename": "c"},
        ),
        (
            {"source": "civitai", "url": page, "filename": "d"},
            {**of_link, "source": "civitai", "filename": "d", "civitai": civitai},
        ),
    ):
        body = {"folder": "loras", **ours, "target": "cloud", "cd_token": KEY}
        code, answer = await api.post("volume/model", body)
        assert code == 200, answer
        assert comfydeploy.seen[-1].body == theirs
    sent = comfydeploy.paths("POST")
    for body, field in (({"url": "https://h/a"}, "folder"), ({"folder": "loras"}, "url")):
        refused = await api.refusal("volume/model", {**body, "target": "cloud", "cd_token": KEY})
        assert refused == (400, field)
    assert comfydeploy.paths("POST") == sent
    body = {**of_link, "filename": "a.safetensors", "downloadLink": link, "target": "cloud"}
    body["cd_token"] = KEY
    code, answer = await api.post("volume/model", body)
    assert (code, answer["message"]) == (200, "Model download started")
    code, answer = await api.post("volume/model", body)
    assert (code, answer["code"]) == (409, "cloud_error")
