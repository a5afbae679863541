"""Leases on ComfyUIs, with a real scheduler and real workers, also if one of them is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.machines.dask import DaskKind
from comfydeploy_jupyter.machines.dask_leases import Target, certificates_of
from tests.clusters.conftest import RecordedMembers, ask, sleeping
from tests.helpers.clusters import make_certificates
from tests.helpers.comfyui import free_port
from tests.helpers.processes import REPOSITORY, alive
from tests.helpers.relay import Relay
from tests.helpers.selection import few
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from comfydeploy_jupyter.machines.dask_leases import DaskProvider

    Provide = Callable[..., Awaitable[tuple[DaskProvider, RecordedMembers]]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def processes_of(worker):
    """Return all processes that a worker has started."""
    return psutil.Process(worker.pid).children(recursive=True)


def comfyui_of(worker):
    """Return the ComfyUI of a worker."""
    return next(p for p in processes_of(worker) if "main.py" in p.cmdline()[1:3])


async def test_a_lease_starts_serves_and_ends_when_idle(start_cluster, provide):
    cluster = start_cluster(1)
    provider, pool = await provide(cluster, idle_timeout=6.0)
    assert pool.found_ids == [set()]
    assert provider.describe()["leases"] == []
    provider.wanted(1)
    [member] = await pool.until(1, what=cluster.log)
    assert provider.describe()["state"] == "ready"
    assert provider.describe()["leases"][0]["note"] is None  # --cpu was wanted
    stats = await ask(member, "/system_stats")
    assert "--output-directory" in stats["system"]["argv"]
    provider.wanted(0)
    # a prompt that takes longer than the idle time
    reply = await ask(member, "/prompt", sleeping(8))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{member.url}/ws", ssl=member.tls) as socket,
    ):
        assert (await socket.receive_json())["type"] == "status"
        history = await until_async(
            lambda: ask(member, f"/history/{reply['prompt_id']}"), timeout=60
        )
    assert history[reply["prompt_id"]]["status"]["status_str"] == "success"
    started = processes_of(cluster.workers[0])
    assert [path.name for path in cluster.folder.rglob("comfyui-*/output")] == ["output"]
    await pool.until(0)
    assert pool.ends == [(member.id, "Its lease has ended: no prompt for 6 s")]
    assert provider.describe()["error"] is None
    await until_async(lambda: not any(alive(p.pid) for p in started))
    await until_async(lambda: not [*cluster.folder.rglob("comfyui-*")])
    # a finished lease must not begin again when its worker dies
    cluster.workers[0].kill()
    cluster.add_worker()
    provider.wanted(1)
    [other] = await pool.until(1, what=cluster.log)
    assert other.id != member.id
    assert len(provider.describe()["leases"]) == 1


@pytest.mark.thorough
async def test_a_worker_without_a_gpu_is_told_once(start_cluster, provide, lease_settings, caplog):
    cluster = start_cluster()
    cluster.add_worker(env={"CUDA_VISIBLE_DEVICES": ""})
    arguments = [argument for argument in lease_settings["launch_args"] if argument != "--cpu"]
    provider, pool = await provide(cluster, launch_args=arguments)
    provider.wanted(1)
    [member] = await pool.until(1, what=cluster.log)
    assert "--cpu" in (await ask(member, "/system_stats"))["system"]["argv"]
    note = "its ComfyUI runs on the CPU: no GPU is visible there"
    assert [lease["note"] for lease in provider.describe()["leases"]] == [note]
    assert [record for record in caplog.messages if note in record] == [
        f"Pool 'hpc': worker {provider.describe()['leases'][0]['worker']}: {note}"
    ]


@pytest.mark.thorough
async def test_a_lease_does_not_end_while_a_prompt_comes_and_ends(start_cluster, provide):
    """ComfyUI executes a prompt while its lease checks whether it is idle; its events are held."""
    cluster = start_cluster(1)
    provider, pool = await provide(cluster, idle_timeout=3.0)
    provider.wanted(1)
    [member] = await pool.until(1, what=cluster.log)
    argv = (await ask(member, "/system_stats"))["system"]["argv"]
    direct = replace(member, url=f"http://127.0.0.1:{argv[argv.index('--port') + 1]}", tls=None)
    provider.wanted(0)
    started = processes_of(cluster.workers[0])
    proxy = next(p for p in started if any("dask_tls" in word for word in p.cmdline()[1:3]))
    await until_async(lambda: proxy.status() == psutil.STATUS_STOPPED)
    os.kill(cluster.workers[0].pid, signal.SIGSTOP)  # it goes on when the prompt has ended
    reply = await ask(direct, "/prompt", sleeping(0.0))
    await until_async(lambda: ask(direct, f"/history/{reply['prompt_id']}"))
    os.kill(cluster.workers[0].pid, signal.SIGCONT)
    await until_async(lambda: proxy.status() != psutil.STATUS_STOPPED, timeout=5)
    assert (await ask(member, f"/history/{reply['prompt_id']}")) != {}
    await pool.until(0)


@pytest.mark.thorough
async def test_the_least_number_of_leases_does_not_end_while_jupyter_is_connected(
    start_cluster, provide
):
    cluster = start_cluster(2)
    provider, pool = await provide(cluster, workers=[1, 2], idle_timeout=4.0)
    provider.wanted(2)
    first, second = await pool.until(2, what=cluster.log)
    provider.wanted(0)
    [kept] = await pool.until(1)
    [(ended, reason)] = pool.ends
    assert {kept.id, ended} == {first.id, second.id}
    assert reason == "Its lease has ended: no prompt for 4 s"
    started = [process for worker in cluster.workers for process in processes_of(worker)]
    await asyncio.sleep(10)
    assert pool.members == {kept.id: kept}
    assert "queue_running" in await ask(kept, "/queue")
    await provider.close(delete=False)
    await until_async(lambda: not any(alive(p.pid) for p in started), timeout=30)


@pytest.mark.thorough
async def test_each_ended_process_ends_the_member_and_a_new_one_follows(start_cluster, provide):
    cluster = start_cluster(1)
    provider, pool = await provide(cluster)
    provider.wanted(1)
    [first] = await pool.until(1, what=cluster.log)

    # the ComfyUI
    os.kill(comfyui_of(cluster.workers[0]).pid, signal.SIGKILL)
    await until_async(lambda: pool.ends)
    assert pool.ends[0][0] == first.id
    assert "ComfyUI has ended" in pool.ends[0][1]
    [second] = await pool.until(1, what=cluster.log)
    assert second.id != first.id

    # the worker; nothing that it has started outlives it
    started = processes_of(cluster.workers[0])
    cluster.workers[0].kill()
    await until_async(lambda: len(pool.ends) == 2)
    assert pool.ends[1] == (second.id, "Its worker has ended")
    await until_async(lambda: not any(alive(p.pid) for p in started), timeout=30)
    cluster.add_worker()
    [third] = await pool.until(1, what=cluster.log)

    # the scheduler: its members are gone only when another one answers
    started = processes_of(cluster.workers[1])
    cluster.scheduler.kill()
    await until_async(lambda: not provider.describe()["connected"])
    assert third.id in pool.members
    await until_async(lambda: not any(alive(p.pid) for p in started), timeout=60)
    assert len(pool.ends) == 2
    cluster.start(1)
    await until_async(lambda: len(pool.ends) == 3, timeout=60)
    assert pool.ends[2] == (third.id, "Its lease is not at the scheduler any more")
    [fourth] = await pool.until(1, what=cluster.log)
    assert "queue_running" in await ask(fourth, "/queue")


@pytest.mark.thorough
async def test_the_next_server_finds_a_lease_whose_proxy_admits_only_clients_of_the_cluster(
    shared_cluster, provide, tmp_path
):
    cluster = shared_cluster
    first, pool = await provide(cluster, token="mine")
    first.wanted(1)
    [member] = await pool.until(1, what=cluster.log)
    assert member.url.startswith("https://")
    other = certificates_of(make_certificates(tmp_path), field="security")
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    of_other_cluster = other.client_context()
    of_other_cluster.verify_mode = ssl.CERT_NONE
    async with aiohttp.ClientSession() as session:
        for context in (anyone, of_other_cluster):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await session.get(f"{member.url}/system_stats", ssl=context)
        with pytest.raises((aiohttp.ClientError, OSError)):
            await session.get(f"http{member.url.removeprefix('https')}/system_stats")
    await ask(member, "/prompt", sleeping(600))
    await first.close(delete=False)
    assert pool.ends == []

    other_provider, others = await provide(cluster, token="another")
    assert others.found_ids == [set()]
    await other_provider.close(delete=True)

    second, found = await provide(cluster, token="mine")
    assert found.found_ids == [{member.id}]
    assert found.members[member.id].url == member.url
    assert len((await ask(member, "/queue"))["queue_running"]) == 1
    # a pool that is deleted ends its leases, whatever they do
    started = processes_of(cluster.workers[0])
    assert started
    await second.close(delete=True)
    await until_async(lambda: not any(alive(p.pid) for p in started), timeout=30)


@pytest.mark.thorough
async def test_a_lease_that_killed_three_workers_is_replaced(start_cluster, provide):
    cluster = start_cluster(1)
    provider, pool = await provide(cluster)
    provider.wanted(1)
    deaths = []
    leases = set()
    for _ in range(4):
        await until_async(
            lambda: (
                [
                    one["worker"] is not None and one["worker"] not in deaths
                    for one in provider.describe()["leases"]
                ]
                == [True]
            ),
            timeout=120,
            what=cluster.log,
        )
        deaths.append(provider.describe()["leases"][0]["worker"])
        leases.add(provider.describe()["leases"][0]["lease"])
        cluster.workers[-1].kill()
        cluster.add_worker()
    await pool.until(1, what=cluster.log)
    leases.add(provider.describe()["leases"][0]["lease"])
    assert len(leases) == 2


@pytest.mark.thorough
async def test_new_leases_are_requested_after_a_restart_of_the_cluster(start_cluster, provide):
    """`Client.restart` deletes all tasks, and ends the workers."""
    cluster = start_cluster(1)
    provider, pool = await provide(cluster)
    provider.wanted(1)
    [first] = await pool.until(1, what=cluster.log)
    certificates = certificates_of(cluster.security, field="security")
    async with Target(cluster.address, certificates).connect(30.0) as client:
        await client.restart(wait_for_workers=False)
    await until_async(lambda: pool.ends)
    cluster.add_worker()
    [second] = await pool.until(1, what=cluster.log)
    assert second.id != first.id


SLOW_VERSIONS = """
import sys

if "distributed.cli.dask_worker" in sys.orig_argv[:3]:  # not the process that ends it
    import time

    import distributed.versions as versions

    packages = versions.get_package_info

    def slow(names):
        with open({requests!r}, "a") as file:
            print("a request", file=file)
        time.sleep(9)
        return packages(names)

    versions.get_package_info = slow
"""


@pytest.mark.thorough
async def test_a_member_ends_at_once_while_a_worker_is_slow_to_send_its_versions(
    start_cluster, provide, tmp_path
):
    """They are compared, because a lease was refused."""
    requests = tmp_path / "requests"
    (tmp_path / "sitecustomize.py").write_text(SLOW_VERSIONS.format(requests=str(requests)))
    cluster = start_cluster(1)
    provider, pool = await provide(cluster, workers=[0, 3])
    cluster.add_worker(env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"})
    provider.wanted(2)
    await pool.until(2, what=cluster.log)
    before = requests.read_text()  # each worker sends its versions when it starts
    refusing = cluster.add_worker(threads=2)
    await until_async(lambda: "Registered to" in refusing.log(), what=refusing.log)
    provider.wanted(3)
    await until_async(lambda: requests.read_text() != before, timeout=60, what=cluster.log)
    cluster.workers[0].kill()
    await until_async(lambda: pool.ends, timeout=5)
    assert pool.ends[0][1] == "Its worker has ended"


@pytest.mark.parametrize(
    ("fields", "expected"),
    few(
        [
            # the interpreter in the folder is used, whoever can change it
            ({"comfyui_path": "tree", "comfyui_python": ""}, "it was started"),
            ({"threads": 2}, "has 2 threads"),
            ({"launch_args": ["--no-such-option"]}, "ended while it started"),
            ({"shared_dir": "/proc/nowhere"}, "shared_dir: /proc/nowhere"),
        ]
    ),
)
async def test_a_missing_requirement_of_a_worker_is_reported(
    shared_cluster, start_cluster, provide, tmp_path, fields, expected
):
    tree = tmp_path / "tree"
    python = tree / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tree / "venv").chmod(0o777)
    (tree / "comfy").mkdir()
    (tree / "main.py").write_text("raise SystemExit('it was started')")
    if fields.get("comfyui_path") == "tree":
        fields = {**fields, "comfyui_path": str(tree)}
    cluster = shared_cluster
    if "threads" in fields:
        cluster, fields = start_cluster(), {}
        cluster.add_worker(threads=2)
    provider, pool = await provide(cluster, **fields)
    provider.wanted(1)
    error = await until_async(lambda: provider.describe()["error"], timeout=120, what=cluster.log)
    assert expected in error
    assert pool.members == {}


@pytest.mark.thorough
async def test_another_version_of_the_package_on_a_worker_is_reported(
    start_cluster, provide, tmp_path
):
    package = tmp_path / "elsewhere" / "comfydeploy_jupyter"
    package.mkdir(parents=True)
    for path in (REPOSITORY / "comfydeploy_jupyter").iterdir():
        if path.name not in ("_version.py", "__pycache__"):
            (package / path.name).symlink_to(path)
    (package / "_version.py").write_text('__version__ = "0.0.7"\n')
    cluster = start_cluster()
    cluster.add_worker(env={"PYTHONPATH": str(package.parent)})
    provider, _ = await provide(cluster)
    provider.wanted(1)
    error = await until_async(lambda: provider.describe()["error"], timeout=120, what=cluster.log)
    assert "has comfydeploy-jupyter 0.0.7" in error


async def test_leases_that_were_not_granted_are_withdrawn(shared_scheduler, provide):
    """The client's work happens in another thread, which ends with the provider."""
    provider, pool = await provide(shared_scheduler, workers=[0, 4])
    provider.wanted(9)
    await until_async(lambda: len(provider.describe()["leases"]) == 4)
    provider.wanted(1)
    await until_async(lambda: len(provider.describe()["leases"]) == 1)
    assert pool.ends == []
    assert "dask-hpc" in [thread.name for thread in threading.enumerate()]
    await provider.close(delete=True)
    await until_async(lambda: "dask-hpc" not in [thread.name for thread in threading.enumerate()])


async def test_an_address_that_refuses_connections_is_told_soon():
    kind = DaskKind(ComfyDeploy(cluster_allow_plain_tcp=True))
    pool = {"comfyui_path": "/opt/ComfyUI"}
    for address, why in (
        (f"tcp://127.0.0.1:{free_port()}", "Connection refused"),
        ("tcp://no-such-host.invalid:8786", "not known|Temporary failure|No address"),
    ):
        begun = time.monotonic()
        with pytest.raises(InvalidRequestError, match=f"scheduler: .* cannot be used: .*({why})"):
            await kind.check({**pool, "scheduler": address}, {})
        assert time.monotonic() - begun < 5.0


@pytest.mark.thorough
async def test_a_slow_scheduler_is_not_taken_for_none(shared_scheduler):
    cluster = shared_scheduler
    relay = Relay(cluster.port)
    relay.delay = 0.6
    await relay.listen()
    pool = {"comfyui_path": "/opt/ComfyUI", "security": cluster.security}
    scheduler = f"tls://127.0.0.1:{relay.port}"
    begun = time.monotonic()
    try:
        checked = await DaskKind(ComfyDeploy()).check({**pool, "scheduler": scheduler}, {})
    finally:
        await relay.close()
    assert checked["scheduler"] == scheduler
    assert time.monotonic() - begun > 1.5
