"""The routes for signing in to ComfyDeploy and for its volumes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.helpers.fake_comfydeploy import KEY


@pytest.fixture
def extension_config(cloud_config):
    return cloud_config


async def test_sign_in(api, comfydeploy, extension_config):
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
    code, listed = await api.get("workflows", target="cloud")
    assert (code, listed) == (200, [])


@pytest.mark.parametrize(
    ("query", "code", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"request_id": "a b"}, 400, "invalid_request"),
        ({"request_id": "x", "api_url": "https://evil.example"}, 403, "forbidden_api_url"),
    ],
)
async def test_bad_sign_in(api, query, code, error):
    status, body = await api.get("auth-response", **query)
    assert (status, body["code"]) == (code, error)


async def test_volume_steps_are_passed_on(api):
    headers = {"X-ComfyDeploy-Token": KEY}
    file = {"filename": "a.bin", "contentType": "application/octet-stream", "size": 3}
    code, body = await api.post("volume/file/generate-upload-url", file, headers=dict(headers))
    assert code == 200
    assert body["uploadUrl"]
    code, started = await api.post(
        "volume/file/initiate-multipart-upload", {**file, "cd_token": KEY}
    )
    assert code == 200
    upload = {"uploadId": started["uploadId"], "key": started["key"]}
    code, body = await api.post(
        "volume/file/generate-part-upload-url", {**upload, "partNumber": 1}, headers=dict(headers)
    )
    assert (code, bool(body["uploadUrl"])) == (200, True)
    code, body = await api.post("volume/file/abort-multipart-upload", upload, headers=dict(headers))
    assert (code, body) == (200, {"status": "aborted"})


async def test_volume_step_without_a_key(api):
    code, body = await api.post("volume/file/generate-upload-url", {"filename": "a"})
    assert (code, body["code"]) == (401, "no_api_key")
    assert body["detail"] == body["error"], "where the node's web plug-in reads it"


@pytest.mark.parametrize(
    "route",
    ["volume/file/upload-part-from-path", "volume/model", "volume/file/complete-multipart-upload"],
)
async def test_errors_of_volumes_have_a_detail(api, route):
    code, body = await api.post(route, "no JSON")
    assert (code, body["code"]) == (400, "invalid_json")
    assert body["detail"] == body["error"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"url": "https://example.org/a.safetensors", "folder": "models/loras"},
            {
                "source": "link",
                "folderPath": "loras",
                "downloadLink": "https://example.org/a.safetensors",
            },
        ),
        (
            {
                "source": "huggingface",
                "url": "owner/repo",
                "folder": "loras",
                "filename": "a.safetensors",
            },
            {
                "source": "huggingface",
                "folderPath": "loras",
                "filename": "a.safetensors",
                "huggingface": {"repoId": "owner/repo"},
            },
        ),
        (
            {
                "source": "huggingface",
                "url": "https://huggingface.co/owner/repo/resolve/main/a.safetensors",
                "folder": "loras",
            },
            {
                "source": "link",
                "folderPath": "loras",
                "downloadLink": "https://huggingface.co/owner/repo/resolve/main/a.safetensors",
            },
        ),
        (
            {"source": "civitai", "url": "https://civitai.com/models/1", "folder": "loras"},
            {
                "source": "civitai",
                "folderPath": "loras",
                "civitai": {"url": "https://civitai.com/models/1"},
            },
        ),
    ],
)
async def test_a_model_for_a_cloud_volume_in_our_request_format(api, comfydeploy, ours, theirs):
    code, answer = await api.post("volume/model", {**ours, "target": "cloud", "cd_token": KEY})
    assert code == 200, answer
    assert comfydeploy.seen[-1].body == theirs


async def test_a_model_for_a_cloud_volume_with_a_missing_field(api, comfydeploy):
    for body, field in (({"url": "https://h/a"}, "folder"), ({"folder": "loras"}, "url")):
        code, answer = await api.post("volume/model", {**body, "target": "cloud", "cd_token": KEY})
        assert (code, answer["details"]["field"]) == (400, field)
    assert comfydeploy.paths("POST") == []


async def test_model_for_a_cloud_volume(api):
    model = {"source": "link", "folderPath": "loras", "filename": "a.safetensors"}
    body = {**model, "downloadLink": "https://example.org/a", "target": "cloud", "cd_token": KEY}
    code, answer = await api.post("volume/model", body)
    assert (code, answer["message"]) == (200, "Model download started")
    code, answer = await api.post("volume/model", body)
    assert (code, answer["code"]) == (409, "cloud_error")
