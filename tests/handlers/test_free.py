"""``POST free``: ComfyUI frees memory, and the reply says how much."""

import asyncio

import psutil

from comfydeploy_jupyter.client.comfy import FreedMemory

MIB = 1024**2


def resident(pid):
    return psutil.Process(pid).memory_info().rss


async def test_cached_outputs_of_nodes_are_freed(api, chain, comfyui):
    shown = {"steps": 1, "delay": 0.0, "size": 4096}  # 192 MiB as ComfyUI keeps it
    await api.run(chain(("TestPreview", shown)))
    before = resident(comfyui.pid)
    asking = asyncio.ensure_future(api.post("free", {}))
    turns = 0
    while not asking.done():  # Jupyter's event loop goes on
        await asyncio.sleep(0.01)
        turns += 1
    code, body = await asking
    assert turns > 20
    assert (code, body["success"], body["machine"], body["pending"]) == (200, True, "local", False)
    assert before - resident(comfyui.pid) > 100 * MIB
    for kind in ("gpu", "ram"):
        change = body[kind]
        assert change["freed"] == max(change["after"] - change["before"], 0)
    assert body["gpu"] == {"before": 0, "after": 0, "freed": 0}  # there is none here
    assert body["ram"]["before"] > 0


async def test_memory_is_freed_after_the_current_run(api, chain):
    graph = chain(("TestProgress", {"steps": 1200, "delay": 0.05}))
    await api.start(graph, prompt_id="slow")
    await api.until("slow", "running")
    code, body = await api.post("free", {"unload_models": True, "free_memory": False})
    assert (code, body["pending"]) == (200, True)
    assert (await api.get("check-status", prompt_id="slow"))[1]["status"] == "running"
    await api.post("interrupt", {"prompt_id": "slow"})
    await api.until("slow", "cancelled")


async def test_wrong_requests(api):
    for fields, expected in (
        ({"unload_models": 1}, (400, "unload_models")),
        ({"free_memory": "yes"}, (400, "free_memory")),
        ({"machine": ""}, (400, "machine")),
        ({"machine": "nowhere"}, (404, "machine")),
    ):
        assert await api.refusal("free", fields) == expected


def test_the_text_of_freed_memory():
    assert str(FreedMemory(3 * 1024**3, 5 * MIB, pending=False)) == (
        "3.0 GiB of GPU memory, 5.0 MiB of RAM freed"
    )
    assert str(FreedMemory(0, 0, pending=True)).endswith(
        "ComfyUI frees more when the current run has ended"
    )
