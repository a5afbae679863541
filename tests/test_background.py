"""Unexpected exceptions in the loops of a server: each of them goes on, and stops as usual."""

import asyncio
import contextlib

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from comfydeploy_jupyter import services
from comfydeploy_jupyter.comfyui.client import ComfyUIClient
from comfydeploy_jupyter.comfyui.socket import Connection
from comfydeploy_jupyter.runs import deletion, service
from comfydeploy_jupyter.store.database import CallThreads, DataFile, Outcome
from comfydeploy_jupyter.store.session import Session
from comfydeploy_jupyter.transfers.callbacks import CallbackTarget
from comfydeploy_jupyter.util.times import Backoff
from tests.helpers.comfyui import free_port
from tests.helpers.disks import files_limited_to
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.helpers.jupyter import chain
from tests.helpers.processes import alive
from tests.helpers.servers import serving
from tests.helpers.waiting import until_async


def failures():
    """Return how many exceptions of background work are counted."""
    return REGISTRY.get_sample_value("comfydeploy_background_failures_total") or 0


class TestOfRuns:
    """With a store that lacks a table for a while, which raises an error of SQLite."""

    @pytest.fixture
    def instant(self, jp_asyncio_loop):
        found = InstantComfyUI()
        found.port = free_port()
        serving = asyncio.ensure_future(found.serve(found.port), loop=jp_asyncio_loop)
        yield found
        serving.cancel()
        jp_asyncio_loop.run_until_complete(asyncio.wait([serving]))

    @pytest.fixture
    def extension_config(self, instant, tmp_path):
        url = f"http://127.0.0.1:{instant.port}"
        return {"comfyui_url": url, "data_dir": str(tmp_path / "data"), "keep_runs": {"number": 1}}

    @pytest.fixture
    def without_runs(self, extension):
        """Return a context in which the store has no table of runs."""

        @contextlib.asynccontextmanager
        async def without():
            store = extension.services.database
            await store.write(lambda c: c.execute("ALTER TABLE runs RENAME TO away").fetchall())
            try:
                yield
            finally:
                await store.write(lambda c: c.execute("ALTER TABLE away RENAME TO runs").fetchall())

        return without

    async def post(self, api, **fields):
        body = {"workflow_api": chain(), "wait": False, **fields}
        code, reply = await api.post("run", body)
        assert code == 200, reply
        return str(reply["prompt_id"])

    @pytest.mark.thorough
    async def test_ends_are_stored_later_and_assigned_runs_are_not_lost(
        self, api, extension, instant, without_runs
    ):
        instant.released.clear()
        body = {"kind": "pool", "name": "all", "members": ["local"]}
        assert (await api.post("machine/create", body))[0] == 200
        for _ in range(3):
            await self.post(api, machine="all")
        await until_async(lambda: instant.load == (1, 1))
        before = failures()
        async with without_runs():
            instant.released.set()
            await until_async(lambda: failures() - before >= 4)
        statuses = "SELECT DISTINCT status FROM runs"
        await until_async(
            lambda: extension.services.database.read(lambda c: c.execute(statuses).fetchall()),
            lambda found: [tuple(row) for row in found] == [("success",)],
        )

    async def test_old_runs_are_deleted_and_ended_servers_are_found_later(
        self, api, extension, without_runs, monkeypatch
    ):
        runs = [await self.post(api) for _ in range(3)]
        for prompt_id in runs:
            await api.until(prompt_id, "success")
        await extension.stop_extension()
        with monkeypatch.context() as patch:
            patch.setattr(deletion, "FIRST_AFTER", 0.5)
            patch.setattr(service, "LIMITS_AGAIN", Backoff(first=0.1))
            await api.get("runs")
            before = failures()
            async with without_runs():
                await until_async(lambda: failures() > before)
            await until_async(lambda: api.get("runs"), lambda answer: len(answer[1]) == 1)
            await extension.stop_extension()
        monkeypatch.setattr(services, "RECOVER_INTERVAL", 0.05)
        await api.get("runs")
        sessions = extension.folder / "sessions"
        first, second = [await asyncio.to_thread(Session, sessions) for _ in range(2)]
        before = failures()
        async with without_runs():
            first.close()
            await until_async(lambda: failures() > before)
        second.close()
        name = next(path for path in sessions.glob("*.lock") if path.stem == second.id)
        await until_async(lambda: taken(name))


def taken(lock):
    """Return whether a server has locked the file of a session."""
    session = Session(lock.parent)
    session.close()
    return lock.stem not in session.claimed


async def test_a_connection_goes_on_after_an_error_of_its_listener(caplog):
    sockets = []

    async def accept(request):
        sockets.append(web.WebSocketResponse())
        await sockets[-1].prepare(request)
        await sockets[-1].receive()
        return sockets[-1]

    async def remaining(request):
        return web.json_response({"exec_info": {"queue_remaining": 0}})

    app = web.Application()
    app.router.add_get("/ws", accept)
    app.router.add_get("/prompt", remaining)
    lost = []

    def lose():
        lost.append(1)
        raise RuntimeError("the listener is broken")

    async with serving(app) as url:
        client = ComfyUIClient(url, timeout=10)
        connection = Connection(
            client, "me", on_event=lambda _: None, on_connect=lambda: None, on_disconnect=lose
        )
        connection.start()
        for _ in range(3):
            assert await connection.wait_connected(30)
            await until_async(lambda: len(sockets) == len(lost) + 1)
            await sockets[-1].close()
            await until_async(lambda: len(sockets) == len(lost))
        assert await connection.wait_connected(30)
        await connection.close()
        await client.close()
    assert len(lost) == 4, "closing it disconnects it"
    assert "the listener is broken" in caplog.text


@pytest.mark.parametrize("error", [StopIteration(), MemoryError()])
async def test_threads_of_the_store_go_on(error):
    fails = True

    def do(calls):
        if fails:
            raise error
        return [Outcome(call.work) for call in calls]

    threads = CallThreads("tests", do, most=8)
    calls = [threads.call(number) for number in range(3)]
    done = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
    assert [type(each) for each in done] == [
        RuntimeError if isinstance(error, StopIteration) else MemoryError
    ] * 3
    fails = False
    assert await asyncio.wait_for(threads.call(7), 10) == 7
    threads.end()
    await asyncio.to_thread(threads.join)


class TestFullDisk:
    @pytest.fixture
    def extension_config(self, installed_comfyui, tmp_path):
        path, python = installed_comfyui
        (tmp_path / "base" / "custom_nodes").mkdir(parents=True)
        return {
            "comfyui_path": str(path),
            "comfyui_python": str(python),
            "launch_args": [
                *("--base-directory", str(tmp_path / "base"), "--disable-api-nodes", "--cpu"),
                *("--database-url", "sqlite:///:memory:"),
            ],
            "data_dir": str(tmp_path / "data"),
        }

    @pytest.mark.thorough
    async def test_a_stop_closes_everything(self, api, extension, tmp_path):
        await api.get("runs")
        machine = extension.services.machines.get()
        await machine.ready()
        pid = machine.process.pid
        callbacks = extension.services.transfers.callbacks
        endpoint = f"http://127.0.0.1:{free_port()}"
        target = CallbackTarget("run-1", session="", status_endpoint=endpoint)
        await callbacks.add(target)
        before = failures()
        with files_limited_to(0):
            callbacks.send(target, b"{}")
            await until_async(lambda: failures() > before)
            await extension.stop_extension()
        assert not alive(pid)
        file = DataFile(tmp_path / "data" / "comfydeploy.db")
        assert file.lock(0.0), "no server has it open"
        file.unlock()
