"""A network that loses everything while a prompt is being sent, and works again later.

The test makes a network namespace of its own, which needs no root, and turns its loopback device
off and on. The kernel sends lost bytes again, also after a connection was closed.
"""

import asyncio
import fcntl
import signal
import socket
import struct
import subprocess
import sys

import pytest
from aiohttp import web

from comfydeploy_jupyter.comfyui.client import ComfyUIClient
from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few

CUT = 1.5  # seconds
AFTER = 5.0  # seconds after the cut; the kernel sends lost bytes 3.0 and 6.2 s after it began
PORT = 8188
BUFFER = 16384  # bytes that the kernel buffers of what a process sends, about
UP, RUNNING, SET_FLAGS = 0x1, 0x40, 0x8914  # linux/if.h, linux/sockios.h

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs the namespaces of Linux"),
]


def switch(on):
    """Turn the loopback device on or off."""
    flags = UP | RUNNING if on else RUNNING
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SET_FLAGS, struct.pack("16sh14x", b"lo", flags))


async def serve_and_cut(how, size):
    """Return the number of prompts that a server has got after the cut, which has a new network."""
    switch(True)
    posts = []

    async def prompt(request):
        posts.append(await request.json())
        return web.json_response({})

    async def remaining(_):
        return web.json_response({"exec_info": {"queue_remaining": 0}})

    app = web.Application()
    app.router.add_post("/prompt", prompt)
    app.router.add_get("/prompt", remaining)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"from tests.comfyui.test_cut import post; post({size})"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdin is not None
    assert await client.stdout.readline() == b"connected\n"
    switch(False)
    client.stdin.write(b"\n")
    if how == "timeout":
        assert await client.stdout.readline() == b"no answer within 1 s\n"
    await asyncio.sleep(CUT)
    if how == "kill":
        client.send_signal(signal.SIGKILL)
    switch(True)
    await asyncio.sleep(AFTER)
    if how == "timeout":
        client.kill()
    await client.wait()
    await runner.cleanup()
    return len(posts)


def post(size):
    """Send a prompt over a connection that is open already, when there is a line to read."""

    async def send():
        client = ComfyUIClient(f"http://127.0.0.1:{PORT}", timeout=1.0)
        await client.queue_remaining()
        print("connected", flush=True)
        sys.stdin.readline()
        graph = f'{{"1": "{"x" * size}"}}'.encode()
        try:
            await client.post_prompt(graph, prompt_id="a", client_id="b")
        except ComfyUIUnavailableError as error:
            print(error.details["reason"], flush=True)
        await asyncio.sleep(2 * AFTER)

    asyncio.run(send())


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("how", "size"),
    few(
        [
            ("timeout", 100),  # the kernel still has the prompt
            ("timeout", 4 * BUFFER),  # the process has a part of it
            ("kill", 100),
        ]
    ),
)
def test_a_prompt_that_was_given_up_does_not_arrive_later(how, size):
    isolated = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system does not allow a network namespace")
    buffers = f"Path('/proc/sys/net/ipv4/tcp_wmem').write_text('4096 {BUFFER} {BUFFER}')"
    script = (
        "import asyncio; from pathlib import Path;"
        f" from tests.comfyui.test_cut import serve_and_cut as cut; {buffers};"
        f" print(asyncio.run(cut({how!r}, {size})))"
    )
    found = subprocess.run(
        [*isolated, sys.executable, "-c", script],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stdout == "0\n", found.stderr
