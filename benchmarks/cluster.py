"""Measures the TLS proxy of a ComfyUI on a cluster, leases, and the client of the scheduler.

A Dask scheduler and one worker run as processes of this machine, with TLS. Requests and events pass
the proxy and, in turns, go to the port of the same ComfyUI directly; both clients use one
connection and the same code. Then a Jupyter server uses the cluster as a pool: the time from the
announcement of a member to its first run, and from an interrupt to the end of the run. In the end,
four leases are requested from a scheduler without workers, while a timer of a millisecond runs on
the event loop
of the provider; the reference is the same loop before that.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.machines.dask import DaskKind
from comfydeploy_jupyter.machines.dask_leases import Target, certificates_of
from tests.helpers.clusters import DaskCluster
from tests.helpers.comfyui import ComfyUIServer, comfyui_tree
from tests.helpers.jupyter import RestartableJupyter
from tests.helpers.waiting import until, until_async

from .common import Figure, node, report, run
from .ticker import Ticker

if TYPE_CHECKING:
    import ssl

    from comfydeploy_jupyter.machines.pool import Member

REQUESTS = 400
PROMPTS = 100
INTERRUPTS = 7
LEASES = 4


class Members:
    """The members of a pool without runs."""

    def __init__(self) -> None:
        self.members: list[Member] = []

    async def joined(self, pool_id: str, member: Member) -> None:
        """Note a member."""
        self.members.append(member)

    async def left(self, pool_id: str, member_id: str, reason: str) -> None:
        """Do nothing."""

    async def found(self, pool_id: str, member_ids: Any) -> None:
        """Do nothing."""


async def requests_through(urls: dict[str, tuple[str, ssl.SSLContext | None]]) -> dict[str, float]:
    """Return the median milliseconds of a small request to each address, in turns."""
    times: dict[str, list[float]] = {name: [] for name in urls}
    async with aiohttp.ClientSession() as session:
        for number in range(REQUESTS):
            order = list(urls) if number % 2 == 0 else list(reversed(urls))
            for name in order:
                url, tls = urls[name]
                begin = time.perf_counter()
                async with session.get(f"{url}/prompt", ssl=tls or False) as reply:
                    await reply.read()
                times[name].append((time.perf_counter() - begin) * 1000)
    return {name: statistics.median(values[20:]) for name, values in times.items()}


async def events_through(urls: dict[str, tuple[str, ssl.SSLContext | None]]) -> float:
    """Return by how many milliseconds, as a median, an event is later through the proxy.

    ComfyUI sends changes of its queue to every client.
    """
    arrived: dict[str, list[float]] = {name: [] for name in urls}

    async def follow(name: str, session: aiohttp.ClientSession) -> None:
        url, tls = urls[name]
        async with session.ws_connect(f"{url}/ws?clientId={uuid.uuid4()}", ssl=tls or False) as ws:
            async for message in ws:
                if message.type is aiohttp.WSMsgType.TEXT:
                    arrived[name].append(time.perf_counter())

    async with aiohttp.ClientSession() as session:
        followers = [asyncio.create_task(follow(name, session)) for name in urls]
        await until_async(lambda: all(arrived.values()))
        direct = urls["direct"][0]
        for number in range(PROMPTS):
            async with session.post(
                f"{direct}/prompt", json={"prompt": node("TestText", text="a")}
            ):
                pass
            await until_async(
                lambda least=number: all(len(times) > 3 * least for times in arrived.values())
            )
        await asyncio.sleep(0.5)
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
    pairs = zip(arrived["direct"], arrived["proxy"], strict=False)
    return statistics.median((late - early) * 1000 for early, late in pairs)


def lease_fields(folder: Path) -> dict[str, Any]:
    """Return the fields of a request with which ComfyUI is started."""
    path, python = comfyui_tree()
    base = ComfyUIServer(folder / "base").base_dir
    return {
        "comfyui_path": str(path),
        "comfyui_python": str(python),
        "launch_args": ["--cpu", "--base-directory", str(base), "--disable-api-nodes"],
    }


async def measure_door(cluster: DaskCluster, fields: dict[str, Any]) -> list[Figure]:
    """Measure requests and events through the proxy."""
    kind = DaskKind(ComfyDeploy())
    request = {"scheduler": cluster.address, "security": cluster.security, "workers": [0, 1]}
    provider = kind.make("proxy", await kind.check({**request, **fields}, {}))
    members = Members()
    await provider.start(members)
    provider.wanted(1)
    await until_async(lambda: members.members, timeout=300)
    [member] = members.members
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{member.url}/system_stats", ssl=member.tls or False) as reply,
    ):
        arguments = (await reply.json())["system"]["argv"]
    port = arguments[arguments.index("--port") + 1]
    urls = {"direct": (f"http://127.0.0.1:{port}", None), "proxy": (member.url, member.tls)}
    medians = await requests_through(urls)
    added = await events_through(urls)
    await provider.close(delete=True)
    return [
        Figure("a request through the proxy", medians["proxy"], medians["direct"], "added", 0.5),
        Figure("an event through the proxy", added, 0.001, "added", 2.0),
    ]


async def measure_leases(cluster: DaskCluster, fields: dict[str, Any]) -> list[Figure]:
    """Measure how soon leases are requested, and how long the loop is blocked meanwhile."""
    ticker = Ticker()
    ticker.start()
    await asyncio.sleep(1.0)
    idle = max(late for late, _ in ticker.take()["gaps"])
    kind = DaskKind(ComfyDeploy())
    request = {"scheduler": cluster.address, "security": cluster.security, "workers": [0, LEASES]}
    provider = kind.make("leases", await kind.check({**request, **fields}, {}))
    await provider.start(Members())
    begin = time.perf_counter()
    provider.wanted(LEASES)
    client = Target(cluster.address, certificates_of(cluster.security, field="")).connect(10)
    async with client:
        await until_async(lambda: client.list_datasets(), lambda names: len(names) == LEASES)
    latency = (time.perf_counter() - begin) * 1000
    gaps = ticker.take()["gaps"]
    await provider.close(delete=True)
    late = max(late for late, _ in gaps)
    computed = max(computed for _, computed in gaps)
    print(f"the longest gap: {late * 1000:.1f} ms, of which the process computed", end=" ")
    print(f"{computed * 1000:.1f} ms at most; {idle * 1000:.1f} ms before")
    return [Figure(f"{LEASES} leases asked for", latency, 0.001, "added", 2000.0)]


def milliseconds(text: str) -> float:
    """Return a timestamp of a record in milliseconds since the epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


def served_at(cluster: DaskCluster) -> float:
    """Return when the last member was announced, in milliseconds since the epoch."""

    async def read() -> float:
        client = Target(cluster.address, certificates_of(cluster.security, field="")).connect(10)
        async with client:
            [name] = await client.list_datasets()
            events = await client.get_events(name)
            return max(at for at, event in events if event["state"] == "serving") * 1000

    return asyncio.run(read())


def measure_pool(cluster: DaskCluster, fields: dict[str, Any], folder: Path) -> list[Figure]:
    """Measure the first run of a member, and interrupts, through Jupyter."""
    jupyter = RestartableJupyter(folder / "jupyter", {"autostart": False})
    jupyter.start()
    try:
        request = {"scheduler": cluster.address, "security": cluster.security, "workers": [0, 1]}
        body = {"name": "hpc", "kind": "dask", **request, **fields}
        status, reply = jupyter.post("machine/create", body)
        assert status == 200, reply
        run_body = {"workflow_api": node("TestText", text="a"), "machine": "hpc", "wait": False}
        first = jupyter.post("run", run_body)[1]["prompt_id"]
        record = jupyter.until(first, "success", timeout=300)
        joined = milliseconds(record["started_at"]) - served_at(cluster)
        ends = []
        for _ in range(INTERRUPTS):
            run_body = {
                "workflow_api": node("TestSleep", seconds=60.0),
                "machine": "hpc",
                "wait": False,
            }
            prompt_id = jupyter.post("run", run_body)[1]["prompt_id"]
            jupyter.until(prompt_id, "running", timeout=60)
            begin = time.perf_counter()
            jupyter.post("interrupt", {"prompt_id": prompt_id})
            until(
                lambda known=prompt_id: jupyter.get("check-status", prompt_id=known)[1]["status"],
                lambda state: state == "cancelled",
            )
            ends.append((time.perf_counter() - begin) * 1000)
        jupyter.post("machine/delete", {"machine_id": "hpc"})
    finally:
        jupyter.kill()
    return [
        Figure("from a member's announcement to its first run", joined, 0.001, "added", 1000.0),
        Figure("an interrupt (median)", statistics.median(ends), 0.001, "added", 300.0),
    ]


def main() -> int:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fields = lease_fields(folder)
        cluster, empty = DaskCluster(folder / "cluster"), DaskCluster(folder / "empty")
        try:
            cluster.start(1)
            empty.start()
            figures = asyncio.run(measure_door(cluster, fields))
            figures += measure_pool(cluster, fields, folder)
            figures += asyncio.run(measure_leases(empty, fields))
        finally:
            cluster.close()
            empty.close()
    return report(*figures)


if __name__ == "__main__":
    run(main)
