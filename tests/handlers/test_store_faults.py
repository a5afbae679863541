"""Replies when the store cannot be used, and that everything works afterwards."""

import asyncio
import sqlite3
import subprocess
import sys
import time

import pytest

from comfydeploy_jupyter.store.database import Database
from tests.helpers.waiting import until_async


@pytest.fixture
def path(tmp_path):
    """The file of the store, before the server begins."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "comfydeploy.db"


@pytest.fixture
def locking(path):
    """Another process that locks the store until its input is closed."""
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA locking_mode = EXCLUSIVE'); c.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True); sys.stdin.read(); c.execute('ROLLBACK'); c.close()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process


class TestFaultsAtTheStart:
    @pytest.fixture
    def extension_config(self, without_comfyui, monkeypatch):
        monkeypatch.setitem(Database.__init__.__kwdefaults__, "patience", 3.0)
        return without_comfyui

    async def test_locked(self, locking, api):
        begin = time.monotonic()
        answers = await asyncio.gather(*(api.get("workflows") for _ in range(5)))
        assert time.monotonic() - begin < 15, "they do not wait one after the other"
        for code, body in answers:
            assert (code, body["code"]) == (503, "store_unavailable")
            assert body["details"]["reason"] == "locked"
            assert body["hint"]
        locking.stdin.close()
        assert (await api.get("workflows"))[0] == 200

    @pytest.fixture
    def newer(self, path):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE migrations (name, applied_at)")
            connection.execute("INSERT INTO migrations VALUES ('telepathy', '2099')")
        connection.close()
        return path.read_bytes()

    async def test_newer(self, newer, api, path):
        code, body = await api.get("check-status")
        assert (code, body["code"]) == (503, "store_unavailable")
        assert "telepathy" in body["error"]
        assert body["details"]["reason"] == "newer"
        assert path.read_bytes() == newer
        assert [other.name for other in path.parent.glob("*damaged*")] == []


def limit(connection, pages):
    """Let SQLite report a full disk when the database has that many pages."""
    connection.execute(f"PRAGMA max_page_count = {pages}")


class TestFullDisk:
    async def test_writes_are_complete_or_absent_and_the_server_goes_on(
        self, extension, api, chain
    ):
        """The store cannot grow for a while; runs that end during that time are stored later."""
        graph = chain(("TestText", {"text": "x"}))
        version = {"name": "w", "workflow_api": graph}
        code, saved = await api.post("workflow", version)
        assert code == 200
        running = await api.start(chain(("TestSleep", {"seconds": 1.0})))
        database = extension.services.database
        await database.write(limit, 1)
        large = chain(("TestText", {"text": "".join(map(str, range(40_000)))}))
        for route, body in (
            ("workflow/version", {"workflow_id": saved["workflow_id"], "workflow_api": large}),
            ("workflow", {"name": "second", "workflow_api": large}),
            ("run", {"workflow_api": large, "prompt_id": "never"}),
        ):
            code, body = await api.post(route, body)
            assert (code, body["code"]) == (507, "no_space"), body
        assert (await api.get("check-status", prompt_id="never"))[0] == 404
        await database.write(limit, 1 << 30)
        assert (await api.until(running, "success"))["outputs"]
        _, workflows = await api.get("workflows")
        assert [(w["name"], w["latest_version"]) for w in workflows] == [("w", 1)]
        code, body = await api.post(
            "workflow/version", {"workflow_id": saved["workflow_id"], "workflow_api": large}
        )
        assert (code, body["version"]) == (200, 2)
        await api.run(graph, prompt_id="never")

    async def test_the_end_of_a_run_is_stored_as_soon_as_possible(self, extension, api, chain):
        graph = chain(("TestSleep", {"seconds": 0.5}))
        prompt_id = await api.start(graph)
        database = extension.services.database
        await api.until(prompt_id, "running", "success")
        await database.write(hinder)
        assert (await api.until(prompt_id, "success"))["outputs"], "users see it"
        _, runs = await api.get("runs")
        assert runs[0]["status"] != "success"
        await database.write(lambda connection: connection.execute("DROP TRIGGER hindrance"))
        await until_async(lambda: api.get("runs"), lambda runs: runs[1][0]["status"] == "success")


def hinder(connection):
    connection.execute(
        "CREATE TRIGGER hindrance BEFORE UPDATE ON runs"
        " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
