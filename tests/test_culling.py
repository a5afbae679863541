"""Jupyter's own culling of idle kernels and terminals goes on while this package works."""

import time

import pytest
import requests

from tests.helpers.jupyter import chain
from tests.helpers.waiting import until

CULL_AFTER = 2  # s without activity of the kernel or the terminal
WORK = 60.0  # s; the run is cancelled sooner


@pytest.fixture
def server(start_jupyter, comfyui, tmp_path):
    """A Jupyter server that culls soon."""
    return start_jupyter(
        ServerApp={
            "jpserver_extensions": {"comfydeploy_jupyter": True, "jupyter_server_terminals": True}
        },
        MappingKernelManager={"cull_idle_timeout": CULL_AFTER, "cull_interval": 1},
        TerminalManager={"cull_inactive_timeout": CULL_AFTER, "cull_interval": 1},
        ComfyDeploy={"comfyui_url": comfyui.url, "data_dir": str(tmp_path)},
    )


def test_a_run_keeps_the_server_active_and_no_kernel_or_terminal(server):
    session = requests.Session()
    session.headers["Authorization"] = f"token {server.token}"

    def get(route):
        answer = session.get(f"{server.url}{route}", params={"no_track_activity": 1}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(route, body):
        answer = session.post(f"{server.url}{route}", json=body, timeout=30)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    body = {"workflow_api": chain(("TestSleep", {"seconds": WORK})), "wait": False}
    run = post("comfyui-deploy/run", body)["prompt_id"]
    state = f"comfyui-deploy/check-status?prompt_id={run}"
    until(lambda: get(state)["status"] == "running")
    kernel = post("api/kernels", {"name": "python3"})
    terminal = post("api/terminals", {})
    assert [one["id"] for one in get("api/kernels")] == [kernel["id"]]
    assert [one["name"] for one in get("api/terminals")] == [terminal["name"]]
    before = time.monotonic()
    until(lambda: not get("api/terminals") and not get("api/kernels"))
    assert time.monotonic() - before >= CULL_AFTER / 2
    assert get(state)["status"] == "running"
    # Nothing but the run is left: it alone keeps the server active.
    seen = get("api/status")["last_activity"]
    until(lambda: get("api/status")["last_activity"] > seen)
    assert get(state)["status"] == "running"
    post("comfyui-deploy/interrupt", {"prompt_id": run})
    until(lambda: get(state)["status"] == "cancelled")
