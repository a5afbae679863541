"""The routes of pools, with machines that do not run: the tests need no ComfyUI."""

import asyncio
import json
import ssl
import uuid
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.comfyui.client import NONE
from comfydeploy_jupyter.errors import ComfyUIUnavailableError, InvalidRequestError
from comfydeploy_jupyter.machines.pool import Member
from comfydeploy_jupyter.machines.records import MachineRecord
from comfydeploy_jupyter.machines.registry import MachineRegistry, Pool
from comfydeploy_jupyter.request_models import MachineCreate
from tests.helpers.comfyui import free_port
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.helpers.jupyter import chain
from tests.helpers.waiting import until, until_async
from tests.machines.conftest import busy_store


@pytest.fixture
def extension_config(tmp_path):
    return {
        "comfyui_url": f"http://127.0.0.1:{free_port()}",
        "data_dir": str(tmp_path / "data"),
        "autostart": False,
        "comfyui_headers": {"X-Key": "of the local machine"},
    }


@pytest.fixture
def pool(api, jp_asyncio_loop):
    return jp_asyncio_loop.run_until_complete(make_pool(api))


async def make_pool(api):
    body = {"name": "studio", "comfyui_url": f"http://127.0.0.1:{free_port()}"}
    assert (await api.post("machine/create", body))[0] == 200
    body = {"kind": "pool", "name": "My GPUs", "members": ["local", "Studio", "studio"]}
    code, made = await api.post("machine/create", body)
    assert (code, made["machine_id"]) == (200, "My-GPUs")
    machine = made["machine"]
    assert isinstance(machine, dict)
    return machine


async def test_a_pool_is_a_machine_with_members(api, extension, pool):
    assert (pool["kind"], pool["status"]) == ("pool", "unreachable")
    assert pool["config"] == {"members": ["local", "studio"]}
    assert [member["id"] for member in pool["members"]] == ["local", "studio"]
    for _ in range(2):
        assert (await api.get("machine", machine_id="my gpus"))[1]["id"] == "My-GPUs"
        rows = (await api.get("machines"))[1]
        assert [(row["id"], row["kind"]) for row in rows][-1] == ("My-GPUs", "pool")
        assert "members" not in rows[-1]
        rows = (await api.get("machines", members="1"))[1]
        (_, studio) = rows[-1]["members"]
        assert (studio["status"], studio["run"], studio["queue"]) == ("unreachable", None, 0)
        await extension.stop_extension()
        await extension.open_services()

    async def retry_of_a_run():
        run_id = await api.start(chain(), machine="My-GPUs")
        record = await extension.services.runs.record(run_id)
        await api.post("interrupt", {"prompt_id": run_id})
        await api.until(run_id, "cancelled")
        return record.retry

    assert await retry_of_a_run() == 0
    for change in ({"retry": 2}, {"members": ["studio"]}, {"name": "GPUs"}):
        assert (await api.post("machine/update", {"machine_id": "My-GPUs", **change}))[0] == 200
        assert await retry_of_a_run() == 2
    change = {"machine_id": "gpus", "name": "few", "members": ["local"]}
    code, reply = await api.post("machine/update", change)
    assert (code, reply["machine"]["name"]) == (200, "few")
    assert reply["machine"]["config"] == {"members": ["local"], "retry": 2}
    assert (await api.post("machine/delete", {"machine_id": "few"}))[1]["machine_id"] == "My-GPUs"
    assert (await api.get("machine", machine_id="few"))[0] == 404


async def test_an_invalid_pool_is_refused(api, pool, jp_serverapp):
    for fields, code, field in (
        ({"members": []}, 400, "members"),
        ({"members": None}, 400, "members"),
        ({"members": "local"}, 400, "members"),
        ({"members": [1]}, 400, "members"),
        ({"members": ["nobody"]}, 404, "members"),
        ({"members": ["local", "my gpus"]}, 400, "members"),
        ({"members": ["auto"]}, 400, "members"),
        ({"members": ["local"], "name": "studio"}, 409, "name"),
        ({"members": ["local"], "name": "My-GPUs"}, 409, "name"),
    ):
        found, reply = await api.post("machine/create", {"kind": "pool", "name": "new", **fields})
        assert (found, reply["details"]["field"]) == (code, field), fields
        if fields["members"] is not None and "name" not in fields:
            found, reply = await api.post("machine/update", {"machine_id": "My-GPUs", **fields})
            assert (found, reply["details"]["field"]) == (code, field), fields
    token = jp_serverapp.identity_provider.token
    comfy = await asyncio.to_thread(Comfy, jp_serverapp.connection_url, token)
    cluster = {"scheduler": f"tcp://127.0.0.1:{free_port()}", "comfyui_path": "/opt/ComfyUI"}
    for workers, field in (([8, 0], "workers"), ([0, 2], "scheduler")):
        with pytest.raises(InvalidRequestError, match=f"^{field}: "):
            await asyncio.to_thread(comfy.machines.create, "lab", workers=workers, **cluster)
    assert (await api.get("machine", machine_id="My-GPUs"))[1]["config"] == pool["config"]
    assert (await api.post("machine/delete", {"machine_id": "studio"}))[0] == 200
    _, reply = await api.get("machine", machine_id="My-GPUs")
    assert (reply["config"], len(reply["members"])) == ({"members": ["local"]}, 1)


async def test_runs_wait_for_a_pool_whose_machines_are_down(api, extension, pool):
    code, reply = await api.post("run", {"workflow_api": chain(), "machine": "auto"})
    assert (code, reply["code"]) == (503, "comfyui_unavailable")
    runs = []
    for _ in range(3):
        code, run = await api.post(
            "run", {"workflow_api": chain(), "machine": "my gpus", "wait": False}
        )
        assert (code, run["status"], run["machine"], run["pool"]) == (
            200,
            "queued",
            "My-GPUs",
            "My-GPUs",
        )
        runs.append(run["prompt_id"])
    assert (await api.get("check-status", prompt_id=runs[2]))[1]["queue_position"] == 3
    code, reply = await api.post("machine/delete", {"machine_id": "My-GPUs"})
    assert (code, reply["details"]["runs"]) == (409, 3)
    await extension.stop_extension()
    await extension.open_services()
    assert (await api.get("check-status", prompt_id=runs[2]))[1]["queue_position"] == 3
    code, reply = await api.post("interrupt", {"prompt_id": runs[0], "machine": "My-GPUs"})
    assert (code, reply["was"]) == (200, "queued")
    for run in runs[1:]:
        assert (await api.post("interrupt", {"prompt_id": run}))[0] == 200
    for run in runs:
        await api.until(run, "cancelled")
    assert (await api.post("interrupt", {"machine": "My-GPUs"}))[0] == 409
    assert (await api.post("machine/delete", {"machine_id": "My-GPUs"}))[0] == 200


class Cluster:
    """A kind of pool whose members the test adds and removes."""

    def __init__(self):
        self.demand = []
        self.pools = None
        self.failure = None
        self.close_failure = None
        self.closed = []
        self.stays = []
        self.starts = 0
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.existing = {}
        self.fields = {}

    async def check(self, fields, known):
        self.fields = fields
        names = ("scheduler", "retry", "shared_dir", "launch_args")
        return {"members": [], **{name: fields.get(name) for name in names}}

    def shown(self, settings):
        return dict(settings)

    def make(self, pool_id, settings):
        return self

    async def start(self, pools):
        if self.failure is not None:
            raise self.failure
        self.pools = pools
        await self.may_start.wait()
        await pools.found("hpc", self.existing.keys())
        for member in self.existing.values():
            await pools.joined("hpc", member)
        self.starts += 1

    def wanted(self, runs):
        self.demand.append(runs)

    def describe(self):
        return {"workers": len(self.demand)}

    async def close(self, *, delete=None, stays=False):
        """Close as a provider with ``delete``, and as a kind without it."""
        if delete is not None:
            await asyncio.sleep(0.1)
            self.closed.append(delete)
            if self.close_failure is not None:
                raise self.close_failure
            self.stays.append(stays)
            await self.may_close.wait()


@pytest.fixture
def cluster(extension, jp_asyncio_loop, monkeypatch):
    jp_asyncio_loop.run_until_complete(extension.open_services())
    made = Cluster()
    monkeypatch.setattr(extension.services.pools, "_dask", made)
    return made


@pytest.fixture
def join(api, extension, cluster, jp_asyncio_loop):
    """A function that adds a member to the pool ``hpc`` and waits until it is connected."""
    tasks = []

    async def add(name, comfyui=None):
        comfyui, port = comfyui or InstantComfyUI(), free_port()
        tasks.append(asyncio.ensure_future(comfyui.serve(port)))
        await cluster.pools.joined("hpc", Member(name, f"http://127.0.0.1:{port}"))
        machine = extension.services.machines.get(name)
        await until_async(lambda: machine.connected)
        return comfyui

    yield add
    for task in tasks:
        task.cancel()
    jp_asyncio_loop.run_until_complete(asyncio.wait(tasks))


async def test_a_provider_that_fails_unexpectedly_is_started_again(api, extension, cluster, caplog):
    """Also one that cannot be closed either."""
    cluster.failure = TypeError("adapt() got an unexpected keyword argument")
    cluster.close_failure = OSError("the connection is closed")
    made = await extension.services.pools.create("dask", MachineCreate(name="hpc"))
    assert "TypeError: adapt() got an unexpected keyword argument" in made["error"]
    await until_async(lambda: cluster.closed)
    cluster.failure = cluster.close_failure = None
    await until_async(lambda: api.get("machine", machine_id="hpc"), lambda a: a[1]["provider"])
    assert (await api.get("machine", machine_id="hpc"))[1]["error"] is None
    assert "Starting pool 'hpc' failed, and goes on" in caplog.text
    caplog.clear()


async def test_the_end_of_jupyter_ends_the_creation_of_a_pool_at_any_time(extension, cluster):
    pools, machines = extension.services.pools, extension.services.machines

    async def created(name):
        creating = asyncio.create_task(pools.create("dask", MachineCreate(name=name)))
        while machines.find_pool(name) is None:  # noqa: ASYNC110 - sees it before the next step
            await asyncio.sleep(0)
        return creating

    # the start of its provider has had no step
    creating = await created("a")
    await pools.close()
    await asyncio.wait_for(creating, 5)
    assert (cluster.pools, cluster.closed) == (None, [])
    # or it waits for the cluster
    cluster.may_start.clear()
    creating = await created("b")
    await until_async(lambda: cluster.pools)
    await pools.close()
    await asyncio.wait_for(creating, 5)
    assert cluster.closed == [False]


async def test_a_pool_with_unfinished_runs_keeps_its_cluster(api, extension, cluster):
    cluster.existing = {"hpc-1": Member("hpc-1", f"http://127.0.0.1:{free_port()}")}
    await extension.services.pools.create("dask", MachineCreate(name="hpc"))
    _, run = await api.post("run", {"workflow_api": chain(), "machine": "hpc", "wait": False})
    change = {"machine_id": "hpc", "scheduler": "tls://127.0.0.1:8786"}
    code, reply = await api.post("machine/update", change)
    assert (code, reply["details"]) == (409, {"field": "scheduler", "runs": 1})
    assert (await api.post("machine/update", {"machine_id": "hpc", "restart": True}))[0] == 200
    _, pool = await api.get("machine", machine_id="hpc")
    assert [member["id"] for member in pool["members"]] == ["hpc-1"]
    await api.post("interrupt", {"prompt_id": run["prompt_id"]})
    await api.until(run["prompt_id"], "cancelled")
    cluster.existing = {}
    code, reply = await api.post("machine/update", change)
    assert (code, reply["machine"]["members"]) == (200, [])


async def test_no_run_is_assigned_to_members_that_are_about_to_end(api, extension, cluster, join):
    """The store is busy while the settings of their pool are changed; a run arrives meanwhile."""
    await extension.services.pools.create("dask", MachineCreate(name="hpc"))
    comfyui = await join("hpc-1")
    change = {"machine_id": "hpc", "shared_dir": "/new"}
    async with busy_store(extension):
        changing = asyncio.create_task(api.post("machine/update", change))
        await asyncio.sleep(0.3)
        body = {"workflow_api": chain(), "machine": "hpc", "wait": False}
        arriving = asyncio.create_task(api.post("run", body))
        await asyncio.sleep(0.3)
        assert extension.services.machines.open_runs("hpc-1") == 0
    code, reply = await changing
    assert (code, reply["machine"]["members"]) == (200, [])
    code, run = await arriving
    assert (code, run["status"], run["machine"]) == (200, "queued", "hpc")
    assert comfyui.load == (0, 0)


async def test_what_a_change_of_the_settings_does_to_the_cluster(api, extension, cluster):
    await extension.services.pools.create("dask", MachineCreate(name="hpc", scheduler="tcp://a:1"))
    for change in ({"launch_args": ["--lowvram"]}, {"scheduler": "tcp://b:1"}):
        assert (await api.post("machine/update", {"machine_id": "hpc", **change}))[0] == 200
    assert (cluster.closed, cluster.stays) == ([True, True], [True, False])
    for name in ("token", "cd_token"):  # the key of a request is no setting of a pool
        change = {"machine_id": "hpc", "retry": 2, name: "cd-secret"}
        assert (await api.post("machine/update", change))[0] == 200
        assert cluster.fields["retry"] == 2
        assert name not in cluster.fields
    assert len(cluster.closed) == 2, "its provider does not need the new default of retry"
    body = {"workflow_api": chain(), "machine": "hpc", "wait": False}
    _, run = await api.post("run", body)
    assert (await extension.services.runs.record(run["prompt_id"])).retry == 2


async def test_a_pool_has_one_provider_after_changes_at_the_same_time(api, extension, cluster):
    await extension.services.pools.create("dask", MachineCreate(name="hpc"))
    restart = {"machine_id": "hpc", "restart": True}
    for last, change, left in (
        ("machine/update", restart, 1),
        ("machine/delete", {"machine_id": "hpc"}, 0),
    ):
        await asyncio.gather(api.post("machine/update", restart), api.post(last, change))
        assert cluster.starts - len(cluster.closed) == left


async def test_a_provider_adds_and_removes_members(api, extension, cluster):
    services = extension.services
    cluster.failure = ComfyUIUnavailableError("the scheduler does not answer")
    made = await services.pools.create("dask", MachineCreate(name="hpc"))
    assert made["error"] == "the scheduler does not answer"
    cluster.failure = None
    await until_async(lambda: api.get("machine", machine_id="hpc"), lambda a: a[1]["provider"])
    _, run = await api.post("run", {"workflow_api": chain(), "machine": "hpc", "wait": False})
    assert (run["status"], cluster.demand[-1]) == ("queued", 1)
    await cluster.pools.joined("hpc", Member("hpc-1", f"http://127.0.0.1:{free_port()}"))
    _, reply = await api.get("machine", machine_id="hpc")
    assert [(member["id"], member["name"]) for member in reply["members"]] == [("hpc-1", "hpc-1")]
    code, machine = await api.get("machine", machine_id="hpc-1")
    assert (code, machine["id"], machine["config"]["autostart"]) == (200, "hpc-1", False)
    for path, fields in (
        ("machine/delete", {}),
        ("machine/update", {"name": "new"}),
        ("machine/update", {"restart": True}),
    ):
        code, refusal = await api.post(path, {"machine_id": "hpc-1", **fields})
        assert (code, refusal["details"]) == (409, {"field": "machine_id", "machine": "hpc"})
    settings = services.machines.get("hpc-1").settings
    assert services.machines.get("local").settings.credentials != NONE
    assert settings.credentials == NONE, "those of the local machine are not for a worker"
    assert (await api.get("machine", machine_id="auto"))[1]["id"] == "local"
    address = f"https://127.0.0.1:{free_port()}"
    await cluster.pools.joined("hpc", Member("hpc-2", address, tls=ssl.create_default_context()))
    code, refusal = await api.post("tunnel/start", {"machine": "hpc-2"})
    assert (code, refusal["code"], refusal["details"]["field"]) == (
        400,
        "invalid_request",
        "machine",
    )
    assert "only Jupyter's certificate; open a tunnel to Jupyter instead" in refusal["error"]
    assert (await api.get("tunnel/status"))[1]["running"] is False
    await cluster.pools.found("hpc", ["hpc-1"])
    _, reply = await api.get("machine", machine_id="hpc")
    assert [member["id"] for member in reply["members"]] == ["hpc-1"]
    await cluster.pools.left("hpc", "hpc-1", "Its job was cancelled")
    assert (await api.get("machine", machine_id="hpc"))[1]["members"] == []
    assert (await api.get("check-status", prompt_id=run["prompt_id"]))[1]["status"] == "queued"
    await api.post("interrupt", {"prompt_id": run["prompt_id"]})
    until(lambda: cluster.demand[-1] == 0)
    assert (await api.post("machine/delete", {"machine_id": "hpc"}))[0] == 200
    assert cluster.closed[-1] is True


async def test_no_run_is_accepted_by_a_pool_during_its_deletion(api, extension, cluster):
    """The end of its provider takes long; runs arrive meanwhile."""
    await extension.services.pools.create("dask", MachineCreate(name="hpc"))
    await cluster.pools.joined("hpc", Member("hpc-1", f"http://127.0.0.1:{free_port()}"))
    cluster.may_close.clear()
    deleting = asyncio.create_task(api.post("machine/delete", {"machine_id": "hpc"}))
    await until_async(lambda: cluster.closed, lambda closed: closed == [True])
    body = {"workflow_api": chain(), "wait": False}
    answers = [await api.post("run", {**body, "machine": name}) for name in ("hpc", "hpc-1")]
    await cluster.pools.left("hpc", "hpc-1", "Its lease was cancelled")
    await cluster.pools.joined("hpc", Member("hpc-2", f"http://127.0.0.1:{free_port()}"))
    cluster.may_close.set()
    assert (await deleting)[0] == 200
    assert [(code, reply["code"]) for code, reply in answers] == [(404, "not_found")] * 2
    assert [row["id"] for row in (await api.get("machines"))[1]] == ["local"]


def test_what_cannot_be_removed_from_the_store_is_added_again():
    registry, machine = MachineRegistry(), SimpleNamespace(id="a", name="a")
    pool, record = Pool("hpc", "hpc", "dask", ("a",)), MachineRecord("c", "c", "cloud", {})
    registry.set_pool(pool)
    registry.add(machine)
    registry.cloud["c"] = record
    with suppress(OSError), registry.removed("a", "hpc", "c") as machines:
        assert machines == [machine]
        assert (registry.find("a"), registry.pools, registry.cloud) == (None, (), {})
        raise OSError("the disk is full")
    assert (registry.find("a"), registry.pools, registry.cloud) == (machine, (pool,), {"c": record})
    assert registry.all_machines.members == ()


@pytest.mark.slow
async def test_runs_of_another_server_wait_again_if_their_member_is_gone(api, extension, cluster):
    """Both servers have the same pool, whose members this one does not know."""
    services = extension.services
    await services.pools.create("dask", MachineCreate(name="hpc"))
    body = {"workflow_api": chain(), "machine": "hpc", "wait": False}
    made = await services.runs.record((await api.post("run", body))[1]["prompt_id"])
    folder = services.database.path.parent / "sessions"
    for name in ("gone", "there"):
        run = replace(
            made, prompt_id=name, comfyui_id=str(uuid.uuid4()), machine=f"hpc-{name}", session="a"
        )
        await services.runs._context.repository.add(run, json.dumps(chain()).encode(), None)
    cluster.existing = {"hpc-there": Member("hpc-there", f"http://127.0.0.1:{free_port()}")}
    (folder / "a.lock").touch(0o600)  # the other server has exited
    await until_async(
        lambda: api.get("check-status", prompt_id="gone"),
        lambda answer: (answer[1]["status"], answer[1]["machine"]) == ("queued", "hpc"),
    )
    _, there = await api.get("check-status", prompt_id="there")
    assert (there["status"], there["machine"]) == ("queued", "hpc-there")
    _, pool = await api.get("machine", machine_id="hpc")
    assert [member["id"] for member in pool["members"]] == ["hpc-there"]
