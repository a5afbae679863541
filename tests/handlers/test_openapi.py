"""The specification that the server sends."""

import json

from comfydeploy_jupyter.handlers.document import specification


async def test_the_document_has_the_address_of_this_server(api, jp_base_url):
    code, body = await api.get("openapi.json")
    assert code == 200
    assert body["servers"] == [{"url": jp_base_url.rstrip("/")}]
    assert body == json.loads(json.dumps(specification(jp_base_url)))


async def test_a_document_with_a_matching_etag_is_not_sent_again(api):
    first = await api.raw("GET", "openapi.json")
    headers = {"If-None-Match": first.headers["ETag"]}
    again = await api.raw("GET", "openapi.json", headers=headers)
    assert (again.code, again.body) == (304, b"")
    other = await api.raw("GET", "openapi.json", headers={"If-None-Match": '"other"'})
    assert (other.code, other.body) == (200, first.body)
