"""The HTTP client with a real ComfyUI: the conditions before it sends a prompt to ComfyUI."""

import asyncio
import json
import uuid

import pytest

from comfydeploy_jupyter.comfyui.client import ComfyUIClient
from comfydeploy_jupyter.comfyui.definitions import Definitions, DefinitionSet
from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from tests.helpers.disks import files_limited_to
from tests.helpers.jupyter import chain


@pytest.fixture
def client(comfyui, jp_asyncio_loop):
    client = ComfyUIClient(comfyui.url)
    yield client
    jp_asyncio_loop.run_until_complete(client.close())


async def knows(client, prompt_id):
    running, pending = await client.queue()
    return prompt_id in (*running, *pending) or await client.history(prompt_id) is not None


def post(client, prompt_id, after):
    graph = json.dumps(chain()).encode()
    posting = client.post_prompt(graph, prompt_id=prompt_id, client_id="nobody", after=after)
    return asyncio.ensure_future(posting)


@pytest.mark.parametrize("pause", [0, 0.3], ids=["at-once", "later"])
async def test_a_prompt_is_not_sent_if_the_step_before_it_fails(client, pause):
    prompt_id = str(uuid.uuid4())
    before = asyncio.get_running_loop().create_future()
    posting = post(client, prompt_id, before)
    await asyncio.sleep(pause)
    before.set_exception(OSError("the disk is full"))
    with pytest.raises(ComfyUIUnavailableError):
        await posting
    await asyncio.sleep(0.3)
    assert not await knows(client, prompt_id)


async def test_the_step_before_a_prompt_continues_if_comfyui_does_not_reply():
    client = ComfyUIClient("http://127.0.0.1:9")
    before = asyncio.get_running_loop().create_future()
    with pytest.raises(ComfyUIUnavailableError) as refusal:
        await post(client, str(uuid.uuid4()), before)
    assert refusal.value.details["sent"] is False
    assert "port 9 of 127.0.0.1 refuses the connection" in str(refusal.value)
    assert not before.done()
    await client.close()


async def test_definitions_are_used_on_a_full_disk(client, tmp_path, caplog):
    cache = tmp_path / "definitions.json.gz"
    definitions = Definitions(cache)
    with files_limited_to(1000):
        found = await definitions.get(client, None)
        text = await definitions.text(client, None)
    assert (found.source, "TestSleep" in found.object_info) == ("live", True)
    assert b"TestSleep" in text
    assert "cannot be stored" in caplog.text
    assert list(tmp_path.iterdir()) == []
    definitions.attach()
    await definitions.get(client, None)
    assert (await Definitions(cache).offline()).source == "cached"


async def test_what_was_asked_before_a_new_connection_is_asked_again(client, tmp_path):
    definitions = Definitions(tmp_path / "definitions.json.gz")
    former = ComfyUIClient("http://127.0.0.1:9")
    for asked, outcome in ((former, ComfyUIUnavailableError), (client, DefinitionSet)):
        asking = asyncio.ensure_future(definitions.get(asked, None))
        await asyncio.sleep(0)
        definitions.attach()
        (found,) = await asyncio.gather(asking, return_exceptions=True)
        assert isinstance(found, outcome)
        assert definitions.known is None
        assert await definitions.get(client, None) is not found
        definitions.attach()
    await former.close()
