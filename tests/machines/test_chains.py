"""Chains over two real ComfyUIs: the picture of one machine is the input on another."""

import asyncio
import io

import pytest
from PIL import Image

from tests.handlers.test_chains import NEXT, output, slow
from tests.helpers.comfyui import ComfyUIServer
from tests.helpers.waiting import until_async


@pytest.fixture(scope="module")
def second(installed_comfyui, tmp_path_factory):
    server = ComfyUIServer(tmp_path_factory.mktemp("second"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def pool(api, extension, second, jp_asyncio_loop):
    """The machine ``second``, whose files Jupyter cannot read, and a pool of it and `local`."""

    async def create():
        body = {"name": "second", "comfyui_url": second.url}
        assert (await api.post("machine/create", body))[0] == 200
        body = {"kind": "pool", "name": "both", "members": ["second", "local"]}
        assert (await api.post("machine/create", body))[0] == 200
        await until_async(statuses, lambda found: found == {"second": "ready", "local": "ready"})

    async def statuses():
        _, reply = await api.get("machine", machine_id="both")
        return {member["id"]: member["status"] for member in reply["members"]}

    jp_asyncio_loop.run_until_complete(create())


async def picture(api, prompt_id):
    """Return the machine of a run that ends soon, and the colour of its picture."""
    record = await api.until(prompt_id, "success", "failed")
    assert record["status"] == "success", record["error"]
    (image,) = record["outputs"]["2"]["images"]
    params = {"filename": image["filename"], "machine": record["machine"]}
    content = (await api.raw("GET", "view", params=params)).body
    return record["machine"], Image.open(io.BytesIO(content)).convert("RGB").getpixel((3, 3))


@pytest.mark.parametrize(("one", "other"), [("second", "local"), ("local", "second")])
async def test_a_picture_goes_from_one_machine_to_another(api, one, other):
    first = await api.start(slow(0.5, color=0x00FF00), machine=one)
    inputs = {"image": output(first)}
    waits = await api.start(NEXT, inputs=inputs, machine=other)
    assert await picture(api, waits) == (other, (0, 255, 0))
    at_once = await api.start(NEXT, inputs=inputs, machine=other)
    assert await picture(api, at_once) == (other, (0, 255, 0))


@pytest.mark.thorough
async def test_pictures_travel_to_the_members_of_a_pool(api):
    colours = [0x0000FF, 0x00FF00, 0xFF0000, 0xFFFF00, 0x00FFFF, 0xFF00FF]
    held = [await api.start(slow(30), machine=machine) for machine in ("local", "second")]
    firsts = [await api.start(slow(0.5, color=colour), machine="both") for colour in colours]
    nexts = [
        await api.start(NEXT, inputs={"image": output(first)}, machine="both") for first in firsts
    ]
    _, record = await api.get("check-status", prompt_id=nexts[-1])
    assert (record["status"], record["machine"]) == ("not-started", "both")
    for run in held:
        await api.post("interrupt", {"prompt_id": run})
    found = await asyncio.gather(*(picture(api, run) for run in nexts))
    assert [16**4 * r + 16**2 * g + b for _, (r, g, b) in found] == colours
    assert {machine for machine, _ in found} == {"local", "second"}
