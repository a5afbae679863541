"""JupyterHub's idle culler ends an unused server, and none that works."""

import contextlib
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from comfydeploy_jupyter import connect
from tests.helpers.jupyter import chain
from tests.helpers.waiting import until

CULL_AFTER = 12  # s without activity; more than the start of a server takes on a busy machine
WORK = 24.0  # s that each work takes
STARTING = threading.Lock()  # the start of several servers at once could take longer
STATUS_ROUTES = (
    *("check-status", "check-status?strict=1", "check-status?prompt_id=none", "check-ws-status"),
    *("upload-queue-status", "tunnel/status", "machine", "machines", "comfyui-version"),
    "runs?no_track_activity=1",
)


class Server:
    """A user's server, requested directly: the proxy would count each request as activity."""

    def __init__(self, hub, user):
        with STARTING:
            hub.start_servers(user)
        self.hub = hub
        self.user = user
        self.url = hub.direct_url(user)
        self.token = hub.token(user)
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"token {self.token}"

    def is_up(self):
        return self.hub.server(self.user) is not None

    def get(self, route):
        return self.session.get(f"{self.url}comfyui-deploy/{route}", timeout=30)

    def post(self, route, **kwargs):
        answer = self.session.post(f"{self.url}comfyui-deploy/{route}", timeout=60, **kwargs)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def graph(seconds):
    return chain(("TestSleep", {"seconds": seconds}))


@pytest.fixture(scope="module")
def hub(start_jupyterhub, comfyui):
    """A hub that ends unused servers soon; tests use it one after the other."""
    return start_jupyterhub(
        users=("runs", "downloads", "uploads", "sweeps", "watches"),
        cull_after=CULL_AFTER,
        ComfyDeploy={"comfyui_url": comfyui.url, "comfyui_path": str(comfyui.base_dir)},
    )


def run(server, _):
    """Start a run for which no client waits; its end is not requested."""
    server.post("run", json={"workflow_api": graph(WORK), "wait": False})
    time.sleep(WORK)


def download(server, service):
    name = "slow.safetensors"
    service.files[name] = bytes(16 * 65536)
    service.store_delay = WORK / 16
    body = {"action": "add", "source": "link", "url": f"{service.url}/files/{name}"}
    server.post("volume/model", json={**body, "folder": "checkpoints", "filename": name})
    time.sleep(WORK)


def upload(server, _):
    """An upload over a slow line: no request ends meanwhile."""

    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="slow.bin"\r\n\r\n'
        for _ in range(int(WORK)):
            time.sleep(1)
            yield bytes(1000)
        yield b"\r\n--x--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    server.post("upload-file", data=body(), headers=kind)


def sweep(server, _):
    """A sweep whose display holds it up before its runs and after them."""

    @contextlib.contextmanager
    def display(_progress):
        time.sleep(CULL_AFTER + 4)
        yield
        time.sleep(CULL_AFTER + 4)

    comfy = connect(server.url, server.token)
    done = comfy.sweep(
        graph(0.1), {"1.seconds": [0.1, 0.2]}, save=False, progress=lambda p: display(p)
    )
    assert done.status == "done"


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_a_server_is_not_culled_while_runs_go_on_and_is_culled_afterwards(hub, bare_service):
    works = {
        "runs": run,
        "downloads": download,
        "uploads": upload,
        "sweeps": sweep,
    }

    def work(user):
        server = Server(hub, user)
        works[user](server, bare_service)
        assert server.is_up(), f"the server of {user!r} was ended while it worked"
        until(lambda: not server.is_up())

    with ThreadPoolExecutor(len(works)) as threads:
        list(threads.map(work, works))


@pytest.mark.thorough
def test_requests_for_the_status_do_not_count_as_activity(hub):
    server = Server(hub, "watches")
    began = time.monotonic()
    requests_log = io.StringIO()
    while server.is_up():
        assert time.monotonic() - began < 60, f"it is kept alive by {requests_log.getvalue()}"
        with contextlib.suppress(requests.ConnectionError):
            for route in STATUS_ROUTES:
                print(route, server.get(route).status_code, file=requests_log)
            for method, route in (("GET", "models"), ("POST", "run"), ("POST", "upload-file")):
                url = f"{server.url}comfyui-deploy/{route}"
                unauthenticated = requests.request(method, url, data=b"{}", timeout=30)
                assert unauthenticated.status_code == 403
        time.sleep(0.5)
    assert " 200" in requests_log.getvalue()
