"""Lists of options that a route of ComfyUI, or a public address, gives."""

import asyncio
import contextlib
import json
import time
from types import SimpleNamespace

import pytest
from aiohttp import web

from comfydeploy_jupyter.comfyui.client import Access, ComfyUIClient
from comfydeploy_jupyter.errors import ComfyUIUnavailableError, InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.remote import MAX_OPTIONS, RemoteList
from comfydeploy_jupyter.util.system import FetchPolicy
from comfydeploy_jupyter.workflows.remote_options import MAX_ANSWER, RemoteOptions
from tests.helpers.servers import serving

SECRET = "the-key-of-this-comfyui"
VOICES = [
    {"id": "v1", "name": "Ada", "labels": {"accent": "british"}, "about": "calm"},
    {"id": "v2", "name": "Bob"},
    {"id": "v1", "name": "twice"},
    {"name": "without a value"},
]
SCHEMA = {
    "value_field": "id",
    "label_field": "{name} ({labels.accent})",
    "description_field": "about",
}


class Routes:
    """Answers of a ComfyUI by path, and what it was asked."""

    def __init__(self):
        self.answers = {}
        self.asked = []

    def json(self, path, value):
        text = value if isinstance(value, str) else json.dumps(value)
        self.text(path, text, content_type="application/json")

    def text(self, path, text, **more):
        async def answer(_):
            return web.Response(text=text, **more)

        self.answers[path] = answer

    async def handle(self, request):
        self.asked.append(request)
        answer = self.answers.get(request.path)
        return web.Response(status=404) if answer is None else await answer(request)


@contextlib.asynccontextmanager
async def served():
    made = Routes()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    async with serving(app) as made.url:
        yield made


@pytest.fixture
def routes(jp_asyncio_loop):
    context = served()
    yield jp_asyncio_loop.run_until_complete(context.__aenter__())
    jp_asyncio_loop.run_until_complete(context.__aexit__(None, None, None))


@pytest.fixture
def ask(routes, jp_asyncio_loop):
    options = RemoteOptions(FetchPolicy(False))
    client = ComfyUIClient(routes.url, access=Access(headers={"Authorization": SECRET}))

    async def asked(definition, name="voice", inputs="{}"):
        section = definition if isinstance(definition, dict) else {name: definition}
        entry = {"input": {"required": section}, "output": []}
        nodes = NodeDefinitions.of({"Talk": entry})

        async def ready():
            return client

        async def definitions():
            return SimpleNamespace(nodes=nodes)

        machine = SimpleNamespace(ready=ready, definitions=definitions)
        return await options.get(machine, "Talk", name, inputs)

    yield asked
    jp_asyncio_loop.run_until_complete(options.close())
    jp_asyncio_loop.run_until_complete(client.close())


def combo(route, **more):
    return ["COMBO", {"remote_combo": {"route": route, **more}}]


def values(reply):
    return [option["value"] for option in reply["options"]]


async def test_objects_have_a_value_a_label_and_a_description(routes, ask):
    routes.json("/voices", {"voices": {"all": VOICES}})
    definition = combo("/voices", response_key="voices.all", item_schema=SCHEMA, refresh=60_000)
    assert await ask(definition) == {
        "options": [
            {"value": "v1", "label": "Ada (british)", "note": "calm"},
            {"value": "v2", "label": "Bob", "note": ""},
        ],
        "left_out": 2,
        "refresh": 60.0,
    }
    assert routes.asked[0].headers["Authorization"] == SECRET, "that of the machine"


async def test_the_older_kind_has_a_list_of_values_and_parameters(routes, ask):
    many = ["a.png", 7, 0.5, True, None, [1], float("nan"), 2**60, "x" * 5000]
    routes.json("/internal/files/output", {"files": many})
    remote = {
        "route": "/internal/files/output?deep=1",
        "response_key": "files",
        "query_params": {"sort": "new & old", "n": 3, "wrong": [1]},
    }
    reply = await ask(["COMBO", {"remote": remote}])
    assert (values(reply), reply["left_out"]) == (["a.png", 7, 0.5], 6)
    assert dict(routes.asked[0].query) == {"deep": "1", "sort": "new & old", "n": "3"}


async def test_inputs_of_options_rows_and_groups_are_found(routes, ask):
    routes.json("/a", ["a"])
    routes.json("/b", ["b"])

    def option(key):
        return {"key": key, "inputs": {"required": {"voice": combo(f"/{key}")}}}

    definition = {
        "mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [option("a"), option("b")]}],
        "rows": [
            "COMFY_DYNAMICGROUP_V3",
            {"template": {"required": {"voice": combo("/b")}}, "min": 0, "max": 5},
        ],
    }
    for key in ("a", "b"):
        assert values(await ask(definition, "mode.voice", json.dumps({"mode": key}))) == [key]
    assert values(await ask(definition, "rows.3.voice")) == ["b"]
    for name, inputs in (("mode.voice", "{}"), ("rows.9.voice", "{}"), ("mode", "{}"), ("x", "{}")):
        with pytest.raises(InvalidRequestError, match="input: Talk has"):
            await ask(definition, name, inputs)
    for inputs in ("", "[]", "{", '{"a": ' * 5000, "1"):
        with pytest.raises(InvalidRequestError, match="inputs: must be a JSON object"):
            await ask(definition, "mode.voice", inputs)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<html>", "its answer is not JSON"),
        ("", "its answer is not JSON"),
        ("[" * 100_000, "its answer is not JSON"),
        ("\ud800", "its answer is not JSON"),
        ('{"a": 1}', "there is no list in its answer"),
        ("null", "there is no list in its answer"),
        ("[null, {}, []]", "has no value that can be used"),
        (f'["{"x" * MAX_ANSWER}"]', "is larger than 4 MiB"),
    ],
)
async def test_a_wrong_answer_is_one_sentence(routes, ask, text, reason):
    async def answer(_):
        return web.Response(body=text.encode("utf-8", "surrogatepass"))

    routes.answers["/voices"] = answer
    with pytest.raises(ComfyUIUnavailableError, match=reason) as caught:
        await ask(combo("/voices"))
    assert "has no list for voice of Talk" in caught.value.message
    assert "type it" in caught.value.extra["hint"]


async def test_a_route_that_is_missing_moves_or_hangs(routes, ask):
    async def moved(_):
        raise web.HTTPFound(f"{routes.url}/elsewhere")

    async def hangs(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    routes.answers.update({"/moved": moved, "/hangs": hangs})
    began = time.monotonic()
    for route, reason in (
        ("/nowhere", "it answered 404 to GET /nowhere"),
        ("/proxy/voices", "its route is one of Comfy's API"),
        ("/moved", "it answered 302 to GET /moved"),
        ("/hangs", "no answer within 0.3 s"),
        *(("", "names no route"), (7, "names no route"), ("/" * 3000, "names no route")),
    ):
        with pytest.raises(ComfyUIUnavailableError, match=reason):
            await ask(combo(route, timeout=300))
    assert time.monotonic() - began < 5
    assert "/elsewhere" not in {request.path for request in routes.asked}


async def test_no_other_host_gets_the_secrets_and_no_private_one_is_asked(routes, ask):
    async with served() as elsewhere:
        url, address = elsewhere.url, elsewhere.url.removeprefix("http://")
        for route in (
            *(f"{url}/voices", f"//{address}/voices", f"http://localhost:{address[-5:]}/voices"),
            *(f"http://ada:word@{address}/", "http://169.254.169.254/latest", "file:///etc/passwd"),
            *("\\\\host\\voices", "http://", "javascript:alert(1)", "http://[::1"),
        ):
            with pytest.raises(ComfyUIUnavailableError, match="has no list"):
                await ask(combo(route))
        for route in (f"@{address}/voices", f".{address}/voices", f":80@{address}/", "/../voices"):
            with pytest.raises(ComfyUIUnavailableError):
                await ask(combo(route))
    assert not elsewhere.asked
    routes.json("/voices", ["own"])
    for route in (f"{routes.url}/voices", "voices", " /voices "):
        assert values(await ask(combo(route))) == ["own"], "the address of this ComfyUI is its own"


async def test_an_offline_server_asks_no_public_address():
    options = RemoteOptions(FetchPolicy(True))
    client = ComfyUIClient("http://127.0.0.1:9")
    nodes = NodeDefinitions.of(
        {"Talk": {"input": {"required": {"voice": combo("https://example.com/voices")}}}}
    )

    async def ready():
        return client

    async def definitions():
        return SimpleNamespace(nodes=nodes)

    machine = SimpleNamespace(ready=ready, definitions=definitions)
    with pytest.raises(ComfyUIUnavailableError, match="the setting `offline` forbids that"):
        await options.get(machine, "Talk", "voice")
    with pytest.raises(InvalidRequestError, match="class_type: there are no nodes 'Walk'"):
        await options.get(machine, "Walk", "voice")
    await client.close()


def test_a_list_is_bounded_whatever_it_holds():
    node = NodeDefinitions.of({"Talk": {"input": {"required": {"voice": combo("/a")}}}})
    remote = RemoteList.of(node.declared("Talk")["voice"])
    options, left_out = remote.options_in([str(n) for n in range(MAX_OPTIONS + 5)])
    assert (len(options), left_out) == (MAX_OPTIONS, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"timeout": value} for value in (0, -1, "5", True, float("nan"), 10**400, None)),
        {"item_schema": [1]},
        {"item_schema": {"value_field": 7, "label_field": ["{name}"]}},
        {"query_params": "a=b", "response_key": 5},
    ],
)
def test_contradicting_definitions_are_read_as_far_as_they_can(wrong):
    node = NodeDefinitions.of({"Talk": {"input": {"required": {"voice": combo("/a", **wrong)}}}})
    remote = RemoteList.of(node.declared("Talk")["voice"])
    assert (remote.route, remote.value, remote.response_key) == ("/a", "", "")
    assert 0.1 <= remote.timeout <= 10
