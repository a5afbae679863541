"""Attacks by another user of this machine: real processes of the user `nobody`."""

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from comfydeploy_jupyter.client import connect
from comfydeploy_jupyter.comfyui import find
from comfydeploy_jupyter.comfyui.client import ComfyUIClient
from comfydeploy_jupyter.errors import (
    ComfyUIUnavailableError,
    InvalidRequestError,
    NotFoundError,
    ServerUnreachableError,
)
from comfydeploy_jupyter.machines import dask_tls
from comfydeploy_jupyter.machines.machine import Machine
from comfydeploy_jupyter.machines.settings import MachineSettings
from comfydeploy_jupyter.tunnel.tunnels import GateProcess
from comfydeploy_jupyter.util.sockets import Peers
from tests.comfyui.test_find import make_tree
from tests.comfyui.test_process import FAKE_COMFYUI, process_of
from tests.helpers.comfyui import free_port
from tests.helpers.servers import serving
from tests.helpers.waiting import until_async
from tests.transfers.conftest import IgnoringListener

pytestmark = [pytest.mark.root, pytest.mark.slow]

NOBODY = 65534
THEIRS = "belongs to the user nobody"
SCRIPT = Path(__file__).with_name("others_server.py")


class OtherUsersServer:
    """A process that listens as a ComfyUI does."""

    def __init__(self, uid, port, host="127.0.0.1", *, argv=(), mode="serve"):
        self.received = []
        self.process = subprocess.Popen(
            [sys.executable, "-I", SCRIPT, *map(json.dumps, (uid, port, host, argv, mode))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.received.append(json.loads(line))

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        """End it; return all data that it received."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        return self.received


@pytest.fixture
def listen():
    """A function that starts a listener, as the user `nobody` or another."""
    started = []

    def start(port=0, *args, uid=NOBODY, **options):
        started.append(OtherUsersServer(uid, port or free_port(), *args, **options))
        return started[-1]

    yield start
    for others_server in started:
        others_server.end()
        others_server.process.stdin.close()
        others_server.process.stdout.close()


async def system_stats(url, peers=None):
    client = ComfyUIClient(url, timeout=5.0, peers=peers)
    try:
        return await client.system_stats()
    finally:
        await client.close()


# -- whose ComfyUI it is -----------------------------------------------------------------------


def other_address():
    """Return an address of this machine besides those of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it asks for the way
        except OSError:
            pytest.skip("this machine has no other address")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    ("at", "host"),
    [
        *(("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1")),
        *(("::1", "[::1]"), ("0.0.0.0", "")),
    ],
)
async def test_another_users_server_is_refused_and_receives_nothing(listen, at, host):
    others_server = listen(0, at)
    url = f"http://{host or other_address()}:{others_server.port}"
    with pytest.raises(ComfyUIUnavailableError, match=THEIRS) as raised:
        await system_stats(url)
    assert "comfyui_trusted_users" in raised.value.extra["hint"]
    assert raised.value.details["sent"] is False
    assert not await find.answers(url)
    assert others_server.end() == []


async def test_no_websocket_to_another_users_server_is_opened(listen):
    others_server = listen()
    client = ComfyUIClient(others_server.url)
    try:
        with pytest.raises(ComfyUIUnavailableError, match=THEIRS):
            await client.open_socket("/ws?clientId=a")
        with pytest.raises(ComfyUIUnavailableError, match=THEIRS):
            await client.forward("GET", "/", {}, None)
    finally:
        await client.close()
    assert others_server.end() == []


async def test_the_gate_of_a_tunnel_refuses_another_users_server(listen, tmp_path):
    others_server, own = listen(), listen(uid=os.getuid())
    statuses = []
    for target, users in ((others_server, ()), (own, ()), (others_server, ("nobody",))):
        gate = GateProcess(tmp_path / f"gate-{len(statuses)}" / "gate.log")
        await gate.open(target.url, users)
        async with aiohttp.ClientSession() as session:
            secret = {"Authorization": f"Bearer {gate.secret}"}
            async with session.get(f"{gate.url}/system_stats", headers=secret) as answer:
                statuses.append(answer.status)
        await gate.close()
        if len(statuses) == 1:
            assert others_server.received == []
    assert statuses == [502, 200, 200]


async def test_the_proxy_of_a_worker_forwards_nothing_to_another_users_server(listen):
    others_server, own = listen(), listen(uid=os.getuid())
    for target in (others_server, own):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            stop = asyncio.Event()
            serving = asyncio.ensure_future(dask_tls.serve(listener, target.port, None, stop))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET /system_stats HTTP/1.1\r\nHost: a\r\n\r\n")
            reply = b""
            with contextlib.suppress(ConnectionError):
                reply = await reader.read(12)
            writer.close()
            stop.set()
            await serving
        assert reply == (b"HTTP/1.1 200" if target is own else b"")
    assert others_server.end() == []


async def test_only_our_own_server_may_accept_slowly(listen):
    others_server, own = listen(mode="wait"), listen(mode="wait", uid=os.getuid())
    with pytest.raises(ComfyUIUnavailableError, match=THEIRS):
        await system_stats(others_server.url)
    others_server.go_on()
    assert others_server.end() == []
    asking = asyncio.ensure_future(system_stats(own.url))
    await asyncio.sleep(0.3)
    own.go_on()
    assert (await asking)["system"]["comfyui_version"] == "0.3.75"


async def test_a_connection_accepted_before_another_users_server_left_is_refused(listen):
    """It accepted a connection and then left the port to ours; the connection is still its own."""
    others_server = listen(mode="leave")
    with socket.create_connection(("127.0.0.1", others_server.port)) as connection:
        await until_async(lambda: others_server.received)
        listen(others_server.port, uid=os.getuid())
        ends = [connection.getsockname(), connection.getpeername()]
        local, remote = [(ipaddress.ip_address(host), port) for host, port in ends]
        reason = await asyncio.to_thread(Peers().objection, local, remote)
    assert reason is not None
    assert "nobody" in reason


def test_a_server_whose_user_is_unknown_is_refused(listen):
    """Here no socket of this machine is at the other end, as if an address is translated."""
    here = ipaddress.ip_address("127.0.0.1")
    reason = Peers().objection((here, 1), (here, free_port()))
    assert reason is not None
    assert "cannot be determined" in reason
    assert Peers().objection((here, 1), (ipaddress.ip_address("192.0.2.1"), 80)) is None


def test_without_a_table_of_sockets_processes_are_inspected(listen):
    """As on macOS, where only processes of the same user can be asked."""
    own, others_server = listen(uid=os.getuid()), listen()
    for listener, fine in ((own, True), (others_server, False)):
        with socket.create_connection(("127.0.0.1", listener.port)) as connection:
            names = connection.getsockname(), connection.getpeername()
            local, remote = ((ipaddress.ip_address(host), port) for host, port in names)
            for child in (None, own.process.pid):
                reason = Peers()._objection_by_processes(local, remote, child)
                assert (reason is None) == fine


async def test_users_named_in_the_setting_are_trusted(listen):
    others_server = listen()
    for users in (["nobody"], [str(NOBODY)], ["*"]):
        stats = await system_stats(others_server.url, Peers(users))
        assert stats["system"]["comfyui_version"] == "0.3.75"
    with pytest.raises(InvalidRequestError, match=r"comfyui_trusted_users: .*'no-such-user'"):
        Peers(["no-such-user"])


async def test_another_users_server_at_the_usual_port_is_skipped(listen, tmp_path):
    others_server = listen()
    tree = make_tree(tmp_path / "ComfyUI")
    found = await find.discover(comfyui_path=str(tree), port=others_server.port)
    assert (found.kind, found.path) == ("path", tree)
    assert found.passed_over is not None
    assert "nobody" in found.passed_over
    with pytest.raises(ComfyUIUnavailableError, match=r"No ComfyUI was found\..*nobody"):
        await find.discover(places=[], port=others_server.port)
    assert others_server.end() == []


@pytest.fixture
def settings(tmp_path, listen):
    """Only for tests of the routes: another user's process is at the configured address."""
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "id_rsa").write_text("what is private")
    others_server = listen(argv=["main.py", "--output-directory", str(secret)])
    tree = make_tree(tmp_path / "ComfyUI")
    return {"comfyui_url": others_server.url, "comfyui_path": str(tree)}


async def test_the_routes_say_why_and_send_nothing(call, jp_auth_header, settings):
    async def request(path, **body):
        verb = "POST" if body else "GET"
        answer = await call(verb, f"comfyui-deploy/{path}", dict(jp_auth_header), body or None)
        return answer.code, answer.body.decode(errors="replace")

    code, text = await request("object_info")
    error = json.loads(text)
    assert (code, error["code"]) == (503, "comfyui_unavailable")
    assert THEIRS in error["error"]
    assert "comfyui_trusted_users" in error["hint"]
    status = json.loads((await request("check-status"))[1])["comfyui"]
    assert THEIRS in status["error"]
    assert "comfyui_trusted_users" in status["hint"]
    for path in ("view?filename=id_rsa", "view?filename=id_rsa&type=output", "fs/stat?path=output"):
        code, text = await request(path)
        assert code in (403, 404, 503)
        assert "what is private" not in text
    url = settings["comfyui_url"].replace("127.0.0.1", "localhost")
    code, text = await request("machine/create", name="other", comfyui_url=url)
    error = json.loads(text)
    assert (code, error["details"]["field"]) == (400, "comfyui_url")
    assert THEIRS in error["error"]


# -- the port of a Jupyter server that has ended -----------------------------------------------


@pytest.fixture
def announced(tmp_path, monkeypatch):
    """A function that names a Jupyter server in one of the ways in which kernels find theirs."""
    for name in ("COMFYDEPLOY_JUPYTER_URL", "COMFYDEPLOY_JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "1")

    def announce(how, url, pid=None):
        pid = pid or os.getpid()
        if how == "file":
            info = {"url": f"{url}/", "base_url": "/", "pid": pid, "sock": ""}
            info["token"] = "the token"
            (tmp_path / f"jpserver-{pid}.json").write_text(json.dumps(info))
            return
        names = {
            "environment": ("COMFYDEPLOY_JUPYTER_URL", "COMFYDEPLOY_JUPYTER_TOKEN"),
            "hub": ("JUPYTERHUB_SERVICE_URL", "JUPYTERHUB_API_TOKEN"),
        }
        monkeypatch.setenv(names[how][0], f"{url}/")
        monkeypatch.setenv(names[how][1], "the token")

    return announce


@pytest.mark.filterwarnings("ignore:.*gets no token:UserWarning")
@pytest.mark.parametrize("how", ["file", "environment", "hub"])
def test_another_users_server_gets_no_token_of_jupyter(listen, announced, how):
    """A client stays careful: the server may end at any time."""
    others_server, own = listen(), listen(uid=os.getuid())
    announced(how, others_server.url)
    with pytest.raises(ServerUnreachableError, match=r"gets no token|no Jupyter server"):
        connect(start=False)
    assert others_server.received == []
    announced(how, own.url)
    comfy = connect(start=False)
    assert "the token" in "".join(own.end())
    taken = listen(own.port)
    with pytest.raises(ServerUnreachableError, match=THEIRS) as refused:
        comfy.status()
    assert refused.value.extra["sent"] is False
    assert [*taken.end(), *others_server.end()] == []


def test_a_file_of_a_server_whose_process_is_another_users_is_skipped(listen, announced):
    """The process has ended, and its number was used again."""
    own = listen(uid=os.getuid())
    announced("file", own.url, listen().process.pid)
    with pytest.raises(ServerUnreachableError, match="no Jupyter server"):
        connect(start=False)
    assert own.end() == []


def test_an_address_that_the_user_gives_is_used(listen, announced):
    others_server = listen()
    connect(others_server.url, "the token")
    assert "the token" in "".join(others_server.end())


# -- the port of a ComfyUI that was started here -----------------------------------------------


async def test_another_users_server_at_our_port_is_not_used(listen, tmp_path):
    """Neither by another user, nor by another process of this user, after ours has ended."""
    tree = tmp_path / "ComfyUI"
    (tree / "comfy").mkdir(parents=True)
    (tree / "main.py").write_text(FAKE_COMFYUI)
    async with process_of(tree) as process:
        await process.start()
        url = process.url
        assert url is not None
        client = ComfyUIClient(url, peers=process.peers)
        assert (await client.system_stats())["system"]["comfyui_version"] == "0"
        (tree / "orders").write_text("hang")
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"{url}/crash")
        await until_async(lambda: process.pid is None)
        for uid in (os.getuid(), NOBODY):
            other = listen(int(url.rpartition(":")[2]), uid=uid)
            with pytest.raises(ComfyUIUnavailableError, match=r"is not running|uses its port"):
                await client.system_stats()
            assert other.end() == []
        await client.close()


async def test_a_start_at_an_occupied_port_fails(listen, tmp_path):
    tree = tmp_path / "ComfyUI"
    (tree / "comfy").mkdir(parents=True)
    # Until the port is taken, this ComfyUI does not bind it; and then it goes on without.
    (tree / "main.py").write_text(
        "import pathlib, sys, time\n"
        "pathlib.Path('port').write_text(sys.argv[sys.argv.index('--port') + 1])\n"
        "time.sleep(1000)\n"
    )
    async with process_of(tree, start_timeout=4.0) as process:
        starting = asyncio.ensure_future(process.start())
        await until_async(lambda: (tree / "port").is_file() and (tree / "port").read_text())
        other = listen(int((tree / "port").read_text()))
        with pytest.raises(ComfyUIUnavailableError, match="did not answer within 4 s"):
            await starting
        assert process.state == "failed"
        assert other.end() == []


# -- what a ComfyUI says of itself -------------------------------------------------------------


async def test_folders_are_not_read_from_http_replies(tmp_path):
    """The process is this user's own, and connected; its stated arguments permit no access."""
    tree, secret = make_tree(tmp_path / "ComfyUI"), tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "id_rsa").write_text("secret")
    argv = ["main.py", "--output-directory", str(secret), "--base-directory", str(secret)]
    async with comfyui_with_arguments(argv) as url:
        machine = Machine(
            "local",
            MachineSettings(comfyui_url=url, comfyui_path=str(tree)),
            client_id="session",
            folder=tmp_path / "data",
            listener=IgnoringListener(),
        )
        try:
            await machine.ready()
            await until_async(lambda: machine.system)
            assert machine.system["argv"] == argv
            folders = await machine.folders()
            assert folders.directory("output") == tree / "output"
            assert folders.base == tree
            with pytest.raises(NotFoundError):
                await machine.open_file("output", "", "id_rsa")
            (tree / "models/loras").mkdir(parents=True)
            (tree / "models/loras/a.safetensors").touch()
            with pytest.raises(InvalidRequestError, match="type: must be output, input or temp"):
                await machine.open_file("models/loras", "", "a.safetensors")
        finally:
            await machine.close()


@contextlib.asynccontextmanager
async def comfyui_with_arguments(argv):
    """A ComfyUI that states these launch arguments."""
    stats = {"system": {"comfyui_version": "0.3.75", "argv": argv}, "devices": []}

    async def status(_):
        return web.json_response({**stats, "exec_info": {"queue_remaining": 0}})

    async def events(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.add_routes([web.get("/system_stats", status), web.get("/prompt", status)])
    app.add_routes([web.get("/ws", events)])
    async with serving(app) as url:
        yield url
