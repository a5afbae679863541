"""``check-status`` as a health check: its status shows whether ComfyUI can be used."""

import asyncio

import pytest
from tornado.httpclient import AsyncHTTPClient

from .conftest import until_connected


@pytest.fixture
def extension_config(relay, tmp_path):
    return {"comfyui_url": relay.url, "data_dir": str(tmp_path / "data")}


@pytest.fixture
def probe(extension, jp_base_url, jp_http_port, jp_asyncio_loop):
    """Return a function that sends a request like a probe, which reads only the HTTP status."""
    client = AsyncHTTPClient(force_instance=True)

    async def request(query, method="GET", **headers):
        url = f"http://127.0.0.1:{jp_http_port}{jp_base_url}comfyui-deploy/check-status?{query}"
        return await client.fetch(url, method=method, headers=headers, raise_error=False)

    yield request
    client.close()


async def test_health_of_a_comfyui_that_hangs_or_is_unreachable(
    api, connected, relay, jp_serverapp, scrape
):
    settings = jp_serverapp.web_app.settings
    await api.get("models")
    used_at = settings["api_last_activity"]
    for query in ({"strict": "1"}, {}):
        code, body = await api.get("check-status", **query)
        assert (code, body["status"]) == (200, "ok")
        assert settings["api_last_activity"] == used_at, (
            "a probe keeps an idle Jupyter from being culled"
        )
    await api.get("check-status", in_use="true")
    assert settings["api_last_activity"] > used_at

    relay.freeze()
    code, body = await api.get("check-status")
    assert (code, body["status"]) == (200, "ok"), "without strict, no request is sent"
    answers = [api.get("check-status", strict="1", timeout="0.3") for _ in range(5)]
    for code, body in await asyncio.gather(*answers):
        assert (code, body["code"], body["success"]) == (503, "comfyui_unavailable", False)
        assert (body["status"], body["comfyui"]["url"]) == ("degraded", relay.url)
        assert "no answer within 0.3 s" in body["error"]
        assert body["queue"] == {"running": 0, "pending": 0}
    assert (await scrape()).of("comfyui_up", machine="local") == 1, "neither do the metrics"
    relay.unfreeze()
    assert (await api.get("check-status", strict="1"))[0] == 200

    await relay.refuse()
    await until_connected(api, wanted=False)
    code, body = await api.get("check-status", strict="true")
    assert (code, body["code"], body["status"]) == (503, "comfyui_unavailable", "degraded")
    assert "'local'" in body["error"]
    assert body["comfyui"]["reachable"] is False
    assert (await api.get("check-status"))[0] == 200
    await relay.listen()
    await until_connected(api)
    assert (await api.get("check-status", strict="1"))[0] == 200

    for query, code, field in (
        ({"strict": "perhaps"}, 400, "strict"),
        ({"strict": "1", "timeout": "0"}, 400, "timeout"),
        ({"strict": "1", "timeout": "3600"}, 400, "timeout"),
        ({"strict": "1", "prompt_id": "some-run"}, 400, "strict"),
        ({"strict": "1", "machine": "nowhere"}, 404, "machine"),
    ):
        answer = await api.get("check-status", **query)
        assert (answer[0], answer[1]["details"]["field"]) == (code, field), query


async def test_by_token_in_the_header_or_the_address(probe, connected, jp_serverapp, relay):
    token = jp_serverapp.identity_provider.token
    header = {"Authorization": f"token {token}"}
    for method in ("GET", "HEAD"):
        assert (await probe("strict=1", method)).code == 403
        assert (await probe("strict=1", method, **header)).code == 200
        assert (await probe(f"strict=1&token={token}", method)).code == 200
    relay.freeze()
    for method in ("GET", "HEAD"):
        answer = await probe("strict=1&timeout=0.2", method, **header)
        assert answer.code == 503
        assert bool(answer.body) is (method == "GET")
