"""Runs of pools through the routes, with small servers in place of ComfyUIs."""

import asyncio
import uuid

import pytest

from comfydeploy_jupyter.client import Comfy
from tests.helpers.comfyui import free_port
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.helpers.waiting import until_async
from tests.machines.conftest import busy_store

NAMES = ("one", "two", "three")


@pytest.fixture
def extension_config(tmp_path):
    nowhere = {"comfyui_url": f"http://127.0.0.1:{free_port()}", "autostart": False}
    return {**nowhere, "data_dir": str(tmp_path / "data")}


@pytest.fixture
def comfyuis(api, jp_asyncio_loop):
    """Three machines, by their names, which are the pool ``all``; they hold their prompts.

    Each has executed a run of another workflow, so it is known that they are equally fast.
    """
    found = {name: InstantComfyUI() for name in NAMES}
    tasks = []

    async def start():
        for name, comfyui in found.items():
            port = free_port()
            comfyui.released.clear()
            tasks.append(asyncio.ensure_future(comfyui.serve(port)))
            body = {"name": name, "comfyui_url": f"http://127.0.0.1:{port}"}
            code, reply = await api.post("machine/create", body)
            assert code == 200, reply
        body = {"kind": "pool", "name": "all", "members": list(NAMES)}
        code, reply = await api.post("machine/create", body)
        assert code == 200, reply
        await until_async(
            lambda: api.get("machine", machine_id="all"),
            lambda reply: [member["status"] for member in reply[1]["members"]] == ["ready"] * 3,
        )
        other = {**graph(), "2": graph()["1"]}
        runs = await asyncio.gather(*(submit(api, 1, name, other) for name in NAMES))
        await until_async(lambda: [comfyui.load for comfyui in found.values()] == [(1, 0)] * 3)
        await asyncio.sleep(0.5)
        release(found)
        for (run,) in runs:
            await api.until(run, "success")
        hold(found)

    jp_asyncio_loop.run_until_complete(start())
    yield found
    for task in tasks:
        task.cancel()
    jp_asyncio_loop.run_until_complete(asyncio.wait(tasks))


def hold(comfyuis):
    for comfyui in comfyuis.values():
        comfyui.released.clear()


def release(comfyuis):
    for comfyui in comfyuis.values():
        comfyui.released.set()


async def until_full(comfyuis):
    """Wait until each machine executes a run, and one more waits there."""
    await until_async(lambda: [comfyui.load for comfyui in comfyuis.values()] == [(1, 1)] * 3)


def graph():
    return {"1": {"class_type": "TestText", "inputs": {"text": "", "token": uuid.uuid4().hex}}}


async def submit(api, count, machine="all", workflow=None):
    runs = []
    for _ in range(count):
        body = {"workflow_api": workflow or graph(), "machine": machine, "wait": False}
        code, reply = await api.post("run", body)
        assert code == 200, reply
        runs.append(reply["prompt_id"])
    return runs


async def machines_of(api, runs):
    return [(await api.get("check-status", prompt_id=run))[1]["machine"] for run in runs]


async def test_a_sweep_queues_points_for_all_members_or_as_many_as_its_user_wants(
    comfyuis, api, jp_serverapp
):
    token = jp_serverapp.identity_provider.token
    comfy = await asyncio.to_thread(Comfy, jp_serverapp.connection_url, token)
    for at_once, held in (("auto", 6), (5, 5)):
        hold(comfyuis)
        options = {"machine": "all", "at_once": at_once, "save": False, "wait": False}
        sweep = await asyncio.to_thread(comfy.sweep, graph(), {"1.token": range(18)}, **options)
        await until_async(
            lambda held=held: sum(sum(comfyui.load) for comfyui in comfyuis.values()) == held,
            what=lambda: [comfyui.load for comfyui in comfyuis.values()],
        )
        if at_once == "auto":
            await until_full(comfyuis)
        release(comfyuis)
        assert await asyncio.to_thread(sweep.wait, 60)
        assert sweep.status == "done"
        runs = (await api.get("runs", limit=18))[1]
        assert {run["machine"] for run in runs} == set(NAMES)
        assert all(run["status"] == "success" for run in runs)


async def test_a_run_says_why_it_waits_for_its_pool(api, extension):
    """Its machine, which does not start automatically, cannot be reached at first."""
    body = {"kind": "pool", "name": "single", "members": ["local"]}
    assert (await api.post("machine/create", body))[0] == 200
    (run,) = await submit(api, 1, "single")
    reply = await until_async(
        lambda: api.get("check-status", prompt_id=run),
        lambda reply: "does not answer" in reply[1].get("live_status", ""),
    )
    assert reply[1]["live_status"].startswith(
        "Waiting for a machine: machine 'local' is unreachable"
    )
    (listed,) = (await api.get("runs"))[1]
    assert listed["live_status"] == reply[1]["live_status"]
    port = int(extension.comfyui_url.rpartition(":")[2])
    serving = asyncio.ensure_future(InstantComfyUI().serve(port))
    assert (await api.until(run, "success"))["machine"] == "local"
    serving.cancel()
    await asyncio.wait([serving])


@pytest.mark.thorough
async def test_a_removed_member_keeps_its_runs(comfyuis, api):
    runs = await submit(api, 8)
    await until_full(comfyuis)
    places = await machines_of(api, runs)
    here = [run for run, place in zip(runs, places, strict=True) if place == "one"]
    assert (len(here), places[6:]) == (2, ["all"] * 2)

    # It can neither be deleted nor get another ComfyUI while it has runs; nothing changes.
    code, reply = await api.post("machine/delete", {"machine_id": "one"})
    assert (code, reply["code"], reply["details"]["runs"]) == (409, "conflict", 2)
    body = {"machine_id": "one", "comfyui_url": f"http://127.0.0.1:{free_port()}"}
    code, reply = await api.post("machine/update", body)
    assert (code, reply["code"], reply["details"]["runs"]) == (409, "conflict", 2)
    code, reply = await api.post("machine/update", {"machine_id": "all", "members": ["two"]})
    assert (code, reply["machine"]["config"]) == (200, {"members": ["two"]})
    assert await machines_of(api, runs) == places

    release(comfyuis)
    for run in runs:
        assert (await api.until(run, "success", "failed"))["status"] == "success"
    after = await machines_of(api, runs)
    assert after[:6] == places[:6], "those that a machine had stay there"
    assert after[6:] == ["two"] * 2, "those that waited in the queue go to the new members"

    assert (await api.post("machine/delete", {"machine_id": "one"}))[0] == 200
    (last,) = await submit(api, 1)
    assert (await api.until(last, "success"))["machine"] == "two"


@pytest.mark.thorough
async def test_no_run_is_assigned_to_a_member_during_its_deletion(comfyuis, api, extension):
    """The store is busy while the machine is deleted; runs arrive meanwhile."""
    release(comfyuis)
    async with busy_store(extension):
        deleting = asyncio.create_task(api.post("machine/delete", {"machine_id": "one"}))
        await asyncio.sleep(0.1)
        arriving = asyncio.create_task(submit(api, 3))
        await asyncio.sleep(0.1)
    runs = await arriving
    assert (await deleting)[0] == 200
    for run in runs:
        assert (await api.until(run, "success", "failed"))["machine"] in ("two", "three")
    assert comfyuis["one"].load == (0, 0)


@pytest.mark.thorough
async def test_a_member_that_gets_a_run_during_its_change_keeps_its_comfyui(
    comfyuis, api, extension
):
    """The store is busy while the machine gets another address; runs arrive meanwhile."""
    _, before = await api.get("machine", machine_id="one")
    url = f"http://127.0.0.1:{free_port()}"
    body = {"machine_id": "one", "name": "uno", "comfyui_url": url}
    async with busy_store(extension):
        changing = asyncio.create_task(api.post("machine/update", body))
        await asyncio.sleep(0.5)
        arriving = asyncio.gather(*(submit(api, 1) for _ in NAMES))
        await until_async(
            lambda: api.get("machines"),
            lambda answer: any(row["id"] == "one" and row["work"] for row in answer[1]),
        )
    runs = [run for (run,) in await arriving]
    code, reply = await changing
    assert (code, reply["code"], reply["details"]["runs"]) == (409, "conflict", 1)
    _, after = await api.get("machine", machine_id="one")
    assert (after["name"], after["config"]) == ("one", before["config"])
    release(comfyuis)
    for run in runs:
        assert (await api.until(run, "success", "failed"))["status"] == "success"


@pytest.mark.thorough
async def test_histograms_have_the_runs_of_the_pool(comfyuis, api, scrape):
    """They have the runs of the pool, wherever these were executed, and no others."""
    before = await scrape()
    runs = await submit(api, 6)
    await until_full(comfyuis)
    meanwhile = await scrape()
    await asyncio.sleep(0.3)
    release(comfyuis)
    records = [await api.until(run, "success") for run in runs]
    (alone,) = await submit(api, 1, "one")
    (auto,) = await submit(api, 1, "auto")
    others = [await api.until(run, "success") for run in (alone, auto)]
    after = await scrape()

    def gained(name, since=before, **labels):
        return (after.of(name, **labels) or 0) - (since.of(name, **labels) or 0)

    done = {"pool": "all", "status": "success"}
    name = "pool_run_duration_seconds"
    assert gained(f"{name}_count", **done) == gained(f"{name}_count", meanwhile, **done) == 6
    seconds = [record["execution_time"] for record in records]
    assert gained(f"{name}_sum", **done) == pytest.approx(sum(seconds))
    assert sum(duration > 0.25 for duration in seconds) == 3, "those that were held"
    buckets = [gained(f"{name}_bucket", le=le, **done) for le in ("0.25", "+Inf")]
    assert buckets == [3, 6]
    for status in ("failed", "cancelled"):
        assert gained(f"{name}_count", pool="all", status=status) == 0
    assert gained("pool_run_wait_seconds_count", pool="all") == 6
    assert gained("pool_run_wait_seconds_count", meanwhile, pool="all") == 3
    assert gained("pool_run_wait_seconds_sum", meanwhile, pool="all") > 3 * 0.25
    assert gained(f"{name}_count", pool="auto", status="success") == 1
    by_machine = [
        gained("run_duration_seconds_count", machine=machine, status="success") for machine in NAMES
    ]
    assert sum(by_machine) == len(records) + len(others)


async def test_runs_say_that_the_machines_they_wait_for_fail(comfyuis, api, extension):
    """Those of a pool say that all its machines are paused; those of a machine, that it is lost."""
    registry = extension.services.machines
    pooled = await submit(api, 12)
    (alone,) = await submit(api, 1, "two")
    (waiting, *_) = [
        r for r in pooled if (await api.get("check-status", prompt_id=r))[1]["machine"] == "all"
    ]
    assert (await api.get("check-status", prompt_id=waiting))[1]["live_status"] == ""
    registry.pause_of = lambda machine_id: f"runs fail on {machine_id}"
    listed = {run["prompt_id"]: run.get("live_status") for run in (await api.get("runs"))[1]}
    assert listed[waiting].startswith(
        "Waiting for a machine: machine 'one' is paused (runs fail on one), machine 'two' is"
    )
    assert listed[alone] == "", "only pools do without it"
    await registry.find("two").connection.close()
    await until_async(lambda: not registry.find("two").answers)
    reply = await api.get("check-status", prompt_id=alone)
    assert reply[1]["live_status"].startswith("Waiting for a machine: machine 'two' is ")


async def test_a_node_class_that_one_machine_has_leads_its_runs_there(comfyuis, api):
    """Other runs are executed by the other machines meanwhile."""
    rare = {"1": {**graph()["1"], "class_type": "Rare"}}
    body = {"workflow_api": rare, "machine": "all", "wait": False}
    comfyuis["two"].classes.append("Rare")
    node = {"id": 1, "type": "Rare", "mode": 0, "inputs": [], "outputs": []}
    node["widgets_values"] = ["", "token"]
    saved = {"workflow": {"nodes": [node], "links": [], "version": 0.4}}
    runs = []
    for number in range(6):
        code, reply = await api.post(
            "run", {**body, "workflow_api": None, **saved} if number % 2 else body
        )
        assert code == 200, reply
        runs.append(reply["prompt_id"])
    others = await submit(api, 2)
    await until_async(lambda: [sum(comfyuis[name].load) for name in ("one", "three")] == [1, 1])
    release(comfyuis)
    for run in [*runs, *others]:
        await api.until(run, "success")
    assert await machines_of(api, runs) == ["two"] * 6
    body["workflow_api"] = {"1": {**graph()["1"], "class_type": "Rarer"}}
    code, reply = await api.post("run", body)
    assert (code, reply["code"]) == (400, "prompt_invalid"), "all of them refuse it"
