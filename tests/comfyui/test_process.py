import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from comfydeploy_jupyter.comfyui.process import ComfyUIProcess
from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from tests.helpers.comfyui import free_port
from tests.helpers.processes import REPOSITORY, alive
from tests.helpers.waiting import until_async

pytestmark = pytest.mark.slow

# A program that starts at once and responds like ComfyUI. A file "orders" in its folder makes it
# end, respond slowly, or start a child process.
FAKE_COMFYUI = """
import http.server, json, os, pathlib, subprocess, sys, time
orders = pathlib.Path("orders")
order = orders.read_text() if orders.exists() else ""
print("argv", json.dumps(sys.argv[1:]), flush=True)
print("environment", json.dumps(dict(os.environ)), flush=True)
if "locked" in order:
    print("Failed to initialize database. Please ensure you have installed the latest requirements."
          " If the error persists, please report this as in future the database will be required:"
          " Could not acquire lock on database '/x/comfyui.db'. Another ComfyUI process may already"
          " be using it. Use --database-url to specify a separate database file.", flush=True)
if "taken" in order:
    orders.write_text(order.replace("taken", "", 1))
    sys.exit("OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8188):"
             " address already in use" if "33" not in order else
             "\x1b[1m\x1b[31m[ERROR]\x1b[0m Port 8188 is already in use on address 127.0.0.1."
             " Please close the other application or use a different port with --port.")
if "end" in order:
    sys.exit("asked to end at once")
if "hang" in order:
    time.sleep(1000)
if "child" in order:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", os.getcwd()])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            os._exit(70)
        body = json.dumps({"system": {"comfyui_version": "0"}, "devices": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def tree(tmp_path):
    """A folder with the files of a ComfyUI; its program is a replacement."""
    path = tmp_path / "ComfyUI"
    (path / "comfy").mkdir(parents=True)
    (path / "main.py").write_text(FAKE_COMFYUI)
    return path


@contextlib.asynccontextmanager
async def process_of(tree, **settings):
    settings.setdefault("python", sys.executable)
    settings.setdefault("grace", 0.5)
    process = ComfyUIProcess(tree, log_path=tree.parent / "logs" / "comfyui.log", **settings)
    try:
        yield process
    finally:
        await process.stop()


def processes_in(folder):
    """All processes that run in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
    return found


def started_at(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def spawn(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=cwd, stdout=subprocess.PIPE, start_new_session=True
    )


async def argv(process):
    lines = [line for line in await process.log_tail(50) if line.startswith("argv ")]
    return list(json.loads(lines[-1].removeprefix("argv ")))


async def crash(process):
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{process.url}/crash")


async def test_start_answer_and_stop(tree):
    states = []
    async with process_of(tree) as process:
        assert (process.state, process.pid, process.url) == ("stopped", None, None)
        process.on_state = states.append
        await process.start()
        pid = process.pid
        assert pid is not None
        assert alive(pid)
        assert process.state == "running"
        async with aiohttp.ClientSession() as session, session.get(f"{process.url}/") as reply:
            assert reply.status == 200
        await process.start()
        assert process.pid == pid, "a second start changes nothing"
        await process.stop()
        assert not alive(pid)
        assert (process.state, process.pid) == ("stopped", None)
        await process.stop()
        assert states == ["starting", "running", "stopped"]
        url = process.url
        await process.start()
        assert (process.url, process.restarts) == (url, 0)
        assert process.pid != pid
        assert process.log_path.read_text().count("argv ") == 2, "the log is kept"
        assert len(await process.log_tail(3)) == 3
        assert await process.log_tail(0) == []


async def test_default_arguments_and_environment(tree, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("JUPYTER_TOKEN", "secret-of-jupyter")
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "secret-of-comfydeploy")
    async with process_of(tree, env={"OWN": "value"}) as process:
        await process.start()
        port = str(process.url).rpartition(":")[2]
        expected = ["--listen", "127.0.0.1", "--port", port, "--preview-method", "auto", "--cpu"]
        assert await argv(process) == expected
        log = process.log_path.read_text()
        assert '"OWN": "value"' in log
        assert "secret-of" not in log
    port = free_port()
    given = ["--port", str(port), "--preview-method=none", "--listen", "127.0.0.1", "--cpu"]
    async with process_of(tree, launch_args=given) as process:
        await process.start()
        assert process.url == f"http://127.0.0.1:{port}"
        assert await argv(process) == given, "they win over the default ones"


async def test_concurrent_starts_are_one_start(tree):
    async with process_of(tree) as process:
        given_up = asyncio.ensure_future(process.start())
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(process.start()) for _ in range(5)]
        await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.gather(*others)
        assert process.log_path.read_text().count("argv ") == 1


async def test_a_crash_is_reported_and_comfyui_is_restarted(tree):
    states = []
    async with process_of(tree) as process:
        await process.start()
        url, first = process.url, process.pid
        process.on_state = lambda state: states.append((state, time.monotonic()))
        crashed = time.monotonic()
        await crash(process)
        await until_async(lambda: process.state == "backoff")
        assert (process.last_exit, process.pid) == (70, None)
        await until_async(lambda: process.state == "running")
        assert process.restarts == 1
        assert process.url == url
        assert process.pid != first
        assert [state for state, _ in states] == ["backoff", "starting", "running"]
        assert states[0][1] - crashed < 10, "it was not asked for again after a while"
        assert states[1][1] - states[0][1] >= 1.0
        await crash(process)
        await until_async(lambda: process.state == "backoff")
        await process.stop()  # it ends the pause
        await asyncio.sleep(1.3)
        assert (process.state, processes_in(tree)) == ("stopped", [])


async def test_pauses_grow_while_it_fails_and_start_cuts_them_short(tree):
    times = []
    async with process_of(tree) as process:
        await process.start()
        process.on_state = lambda state: (
            times.append(time.monotonic()) if state == "backoff" else None
        )
        (tree / "orders").write_text("end")
        await crash(process)
        await until_async(lambda: len(times) == 3)
        assert times[1] - times[0] >= 1.0
        assert times[2] - times[1] >= 2.0
        (tree / "orders").unlink()
        await process.start()
        assert time.monotonic() - times[2] < 4.0, "the third pause is 4 s"
        assert process.state == "running"


async def test_a_stop_during_the_start_raises_for_waiting_callers(tree):
    (tree / "orders").write_text("hang")
    async with process_of(tree) as process:
        waiting = asyncio.ensure_future(process.start())
        await until_async(lambda: process.pid is not None)
        await process.stop()
        with pytest.raises(ComfyUIUnavailableError, match="stopped before it answered"):
            await waiting
        assert processes_in(tree) == []


async def test_a_failed_start_says_why(tree):
    (tree / "orders").write_text("end")
    async with process_of(tree) as process:
        process.log_path.parent.mkdir()
        process.log_path.write_text("of an earlier start\n")
        with pytest.raises(ComfyUIUnavailableError, match="ended while it started") as raised:
            await process.start()
        error = raised.value
        assert error.details["log"][-1] == "asked to end at once"
        assert "of an earlier start" not in error.details["log"]
        assert error.details["exit_code"] == 1
        assert str(process.log_path) in error.extra["hint"]
        assert process.state == "failed"
        (tree / "orders").unlink()
        await process.start()
        assert process.state == "running"


@pytest.mark.parametrize("given", [None, "sqlite:////data/my own.db"])
async def test_a_database_that_another_comfyui_uses_is_told(tree, given):
    (tree / "orders").write_text("locked")
    database = tree / "user" / "comfyui.db" if given is None else Path("/data/my own.db")
    own = [] if given is None else ["--database-url", given]
    async with process_of(tree, launch_args=own) as process:
        await process.start()
        note = process.database_note
        assert note is not None
        assert f"Another ComfyUI uses the database {database}, so this one works without" in note
        other = database.with_name(f"{database.stem}-2.db")
        assert f"Add --database-url sqlite:///{other} to launch_args" in note
        (tree / "orders").write_text("locked end")
        await process.stop()
        with pytest.raises(ComfyUIUnavailableError, match="ended while it started") as raised:
            await process.start()
        assert "uses the database" in raised.value.extra["hint"]
        assert "does not start" in raised.value.extra["hint"]
        (tree / "orders").unlink()
        await process.start()
        assert process.database_note is None, "of this start only"


@pytest.mark.thorough
@pytest.mark.parametrize("order", ["taken", "33 taken taken"])
async def test_a_port_that_is_taken_meanwhile_is_not_used(tree, order):
    (tree / "orders").write_text(order)
    async with process_of(tree) as process:
        await process.start()
        assert process.state == "running"
        assert process.restarts == 0
    (tree / "orders").write_text(order.replace("taken", "taken " * 9))
    async with process_of(tree) as process:
        with pytest.raises(ComfyUIUnavailableError, match="ended while it started"):
            await process.start()
    (tree / "orders").write_text(order)
    async with process_of(tree, launch_args=["--port", str(free_port())]) as process:
        with pytest.raises(ComfyUIUnavailableError):  # it is the user's
            await process.start()


async def test_start_that_takes_too_long_is_ended(tree):
    (tree / "orders").write_text("hang")
    async with process_of(tree, start_timeout=0.5) as process:
        with pytest.raises(ComfyUIUnavailableError, match=r"did not answer within 0\.5 s"):
            await process.start()
        assert processes_in(tree) == []


async def test_folder_interpreter_and_port_are_checked(tree, tmp_path):
    async with process_of(tmp_path / "nothing") as process:
        with pytest.raises(ComfyUIUnavailableError, match="no ComfyUI in"):
            await process.start()
    (tree / ".venv").mkdir()
    async with process_of(tree, python=None) as process:
        with pytest.raises(ComfyUIUnavailableError, match="No Python with torch") as raised:
            await process.start()
        assert f"{tree}/.venv/bin/python is not used: it is missing" in raised.value.message
        assert raised.value.message.endswith("set comfyui_python to use it.")
    async with process_of(tree, python=tmp_path / "no-python") as process:
        with pytest.raises(ComfyUIUnavailableError, match="ended while it started") as raised:
            await process.start()
        assert "cannot start" in raised.value.details["log"][-1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with process_of(tree, launch_args=["--port", str(port)]) as process:
            with pytest.raises(ComfyUIUnavailableError, match=f"port {port}.* is taken"):
                await process.start()


async def test_a_killed_reaper_leaves_no_process(tree):
    (tree / "orders").write_text("child")
    async with process_of(tree) as process:
        await process.start()
        before = processes_in(tree)
        assert len(before) == 2
        record = json.loads(process.log_path.with_suffix(".json").read_text())
        assert record["pid"] == process.pid
        os.kill(record["guard"], signal.SIGKILL)
        await until_async(lambda: process.state == "backoff")
        await until_async(lambda: not any(map(alive, before)))


OWNER = """
import asyncio, sys
from comfydeploy_jupyter.comfyui.process import ComfyUIProcess
async def main():
    process = ComfyUIProcess(sys.argv[1], log_path=sys.argv[2], python=sys.executable)
    await process.start()
    print(process.pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_comfyui_does_not_outlive_its_owner(tree, number):
    (tree / "orders").write_text("child")
    log_path = tree.parent / "logs" / "comfyui.log"
    owner = spawn("-c", OWNER, str(tree), str(log_path), cwd=REPOSITORY)
    with owner:
        assert alive(int(owner.stdout.readline()))
        owner.send_signal(number)
        await until_async(lambda: not processes_in(tree))


async def test_a_comfyui_of_a_killed_server_is_ended_at_the_next_start(tree):
    """It remains if owner and reaper are killed, on a system without PR_SET_PDEATHSIG."""
    async with process_of(tree) as process:
        await process.start()
        record_path = process.log_path.with_suffix(".json")
        record = json.loads(record_path.read_text())
        await process.stop()
        with spawn("main.py", "--port", str(free_port()), cwd=tree) as left:
            record |= {"pid": left.pid, "started_at": started_at(left.pid) + 1}
            record_path.write_text(json.dumps(record))
            await process.stop()
            await process.start()
            assert left.poll() is None, "another process that got the pid is left alone"
            await process.stop()
            record |= {"pid": left.pid, "started_at": started_at(left.pid)}
            record_path.write_text(json.dumps(record))
            await process.start()
            assert left.wait(5) == -signal.SIGTERM


async def test_a_broken_record_of_the_process_is_ignored(tree):
    async with process_of(tree) as process:
        process.log_path.parent.mkdir()
        for content in ("{", "[]", '{"pid": Infinity, "started_at": 1}'):
            process.log_path.with_suffix(".json").write_text(content)
            await process.start()
            assert process.state == "running", content
            await process.stop()
