"""A managed ComfyUI that executes nothing any more although its process runs."""

import asyncio
import sys

import pytest
import requests

from comfydeploy_jupyter.comfyui.process import ComfyUIProcess
from comfydeploy_jupyter.comfyui.run_main import PROMPT_WORKER_ENDED
from comfydeploy_jupyter.machines.hardware import Activity
from tests.helpers.jupyter import chain
from tests.helpers.selection import few
from tests.helpers.waiting import until_async

from .conftest import GPUS

pytestmark = pytest.mark.slow

STUCK_AFTER = 4.0

# Starts a thread like ComfyUI's, which ends in a way that the test chooses.
WORKER = """
import http.server, json, os, sys, threading
def prompt_worker():
    asked.wait()
    {end}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        facts = {{"name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path[0]}}
        body = json.dumps({{"system": facts, "devices": []}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/end":
            asked.set()
    def log_message(self, *_):
        pass
asked = threading.Event()
threading.Thread(target=prompt_worker, daemon=True).start()
threading.Thread(target=print, args=("another thread",)).start()
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def extension_config(managed):
    return {**managed, "stuck_after": STUCK_AFTER}


async def until_up(api):
    answer = await until_async(
        lambda: api.get("check-status", strict="1"), lambda found: found[0] == 200, timeout=120
    )
    return dict(answer[1]["comfyui"])


async def queue(api, *nodes):
    _, body = await api.post("run", {"workflow_api": chain(*nodes), "wait": False})
    return str(body["prompt_id"])


@pytest.mark.parametrize("end", few(["return", "raise ValueError('a fault')", "sys.exit(3)"]))
async def test_comfyui_is_ended_when_its_prompt_worker_ends(tmp_path, end):
    tree = tmp_path / "ComfyUI"
    (tree / "comfy").mkdir(parents=True)
    (tree / "main.py").write_text(WORKER.format(end=end))
    process = ComfyUIProcess(tree, python=sys.executable, log_path=tmp_path / "comfyui.log")
    try:
        await process.start()
        facts = (await asyncio.to_thread(requests.get, process.url, timeout=10)).json()["system"]
        assert (facts["name"], facts["file"]) == ("__main__", str(tree / "main.py"))
        assert facts["path"] == str(tree)
        assert facts["argv"][1:3] == ["--listen", "127.0.0.1"]
        await asyncio.to_thread(requests.get, f"{process.url}/end", timeout=10)
        await until_async(lambda: process.state == "backoff")
        assert process.last_exit == PROMPT_WORKER_ENDED
        assert process.end_reason == "ComfyUI's prompt worker has ended"
        log = "\n".join(await process.log_tail(100))
        assert ("ValueError: a fault" in log) == ("ValueError" in end)
        await until_async(lambda: process.state == "running")
    finally:
        await process.stop()


@pytest.mark.thorough
@pytest.mark.timeout(400)
async def test_comfyui_whose_prompt_worker_has_ended(api):
    first = await until_up(api)
    fatal = await queue(api, ("TestSleep", {"seconds": 3.0}), ("TestExit", {}))
    waiting = await queue(api)
    record = await api.until(fatal, "failed", timeout=60)
    assert record["error"]["type"] == "ComfyUIEnded"
    assert record["error"]["message"].startswith("ComfyUI's prompt worker has ended while ")
    assert record["error"]["node_type"] == "TestExit"
    code, body = await api.get("check-status", strict="1")
    assert (code, body["status"]) == (503, "degraded")
    assert body["error"].endswith("ComfyUI's prompt worker has ended")
    await api.until(waiting, "success", timeout=120)
    second = await until_up(api)
    assert second["pid"] != first["pid"]
    assert second["end_reason"] == "ComfyUI's prompt worker has ended"


@pytest.mark.timeout(400)
async def test_comfyui_that_has_prompts_and_does_nothing(api):
    first = await until_up(api)
    slow = await queue(api, ("TestProgress", {"steps": int(STUCK_AFTER * 3), "delay": 0.5}))
    await api.until(slow, "success", timeout=60)
    assert (await until_up(api))["pid"] == first["pid"], "events are activity"
    stuck = await queue(api, ("TestStuck", {}))
    waiting = await queue(api)
    record = await api.until(stuck, "failed", timeout=60)
    assert record["error"]["message"].startswith("ComfyUI had prompts, but did nothing for ")
    assert record["error"]["node_type"] == "TestStuck"
    await api.until(waiting, "success", timeout=120)
    last = await until_up(api)
    assert last["restarts"] == first["restarts"] + 1
    assert "did nothing" in last["end_reason"]


async def test_activity(nvidia_smi, tmp_path):
    """Work of the process, of a process that it has started, and of one of its GPUs."""
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c',"
        " 'import sys\\nfor line in sys.stdin:\\n for n in range(10**7): pass\\n"
        " print(1, flush=True)'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    if line == 'work\\n':\n"
        "        for n in range(10**7): pass\n"
        "    elif line == 'child\\n':\n"
        "        child.stdin.write('\\n'); child.stdin.flush(); child.stdout.readline()\n"
        "    print('done', flush=True)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def do(what):
        process.stdin.write(f"{what}\n".encode())
        await process.stdout.readline()

    idle = [{**GPUS[0], "utilization.gpu": 0}, {**GPUS[1], "utilization.gpu": 90}]
    try:
        await process.stdout.readline()
        nvidia_smi(idle)
        mine = Activity(process.pid, {"CUDA_VISIBLE_DEVICES": "0"})
        mine.seen()
        for what in ("work", "child"):
            await until_async(lambda: not mine.seen())
            await do(what)
            assert mine.seen(), what
        await until_async(lambda: not mine.seen())
        both = Activity(process.pid, {})
        other = Activity(process.pid, {"CUDA_VISIBLE_DEVICES": idle[1]["uuid"]})
        assert both.seen()
        assert other.seen()
    finally:
        process.kill()
        await process.wait()
