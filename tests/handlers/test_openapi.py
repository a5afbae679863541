"""The specification that the server sends."""

import json

from comfydeploy_jupyter.handlers.document import specification


async def test_the_document_has_the_address_of_this_server_and_an_etag(api, jp_base_url):
    first = await api.raw("GET", "openapi.json")
    document = json.loads(first.body)
    assert document["servers"] == [{"url": jp_base_url.rstrip("/")}]
    assert document == json.loads(json.dumps(specification(jp_base_url)))
    for etag, code, body in ((first.headers["ETag"], 304, b""), ('"other"', 200, first.body)):
        again = await api.raw("GET", "openapi.json", headers={"If-None-Match": etag})
        assert (again.code, again.body) == (code, body)
