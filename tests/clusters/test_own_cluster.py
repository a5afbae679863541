"""A cluster that belongs to Jupyter: the setting `clusters` has a function that starts it."""

import time
import uuid
from collections import Counter

import psutil
import pytest

from comfydeploy_jupyter.runs.records import FINAL
from tests.clusters.test_pools import picture
from tests.helpers.jupyter import RestartableJupyter
from tests.helpers.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

MEMBERS = 2
CONFIG = """
from distributed import LocalCluster
from distributed.security import Security


def own():
    return LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        protocol="tls://",
        security=Security.temporary(),
        dashboard_address=":0",
        local_directory={folder!r},
    )


c.ComfyDeploy.clusters = {{"own": own}}
"""


@pytest.fixture
def jupyter(tmp_path):
    server = RestartableJupyter(tmp_path / "jupyter", {"autostart": False})
    config = server.folder / "config" / "jupyter_config.py"
    config.parent.mkdir()
    config.write_text(CONFIG.format(folder=str(tmp_path / "dask")))
    server.start()
    yield server
    server.kill()


def submit(jupyter):
    """Submit a run of a second that saves one picture, whose name begins with the run's id."""
    prompt_id = str(uuid.uuid4())
    graph = picture(prompt_id, 1.0)
    graph["3"]["inputs"]["filename_prefix"] = prompt_id
    body = {"workflow_api": graph, "prompt_id": prompt_id, "machine": "hpc", "wait": False}
    code, reply = jupyter.post("run", body)
    assert code == 200, reply
    return prompt_id


def started_by(jupyter):
    """Return all processes that a server has started: workers, ComfyUIs and their proxies."""
    [server] = [
        process
        for process in psutil.Process().children()
        if any(str(jupyter.folder) in argument for argument in process.cmdline())
    ]
    return server.children(recursive=True)


@pytest.mark.thorough
def test_a_killed_jupyter_loses_no_run_of_its_own_cluster(jupyter, lease_settings, tmp_path):
    """The workers and their ComfyUIs end with it; the next server starts a new cluster."""
    shared = tmp_path / "shared"
    shared.mkdir()
    body = {"name": "hpc", "cluster": "own", "workers": [0, MEMBERS], "shared_dir": str(shared)}
    code, reply = jupyter.post("machine/create", {**body, **lease_settings})
    assert code == 200, reply

    def executing():
        members = jupyter.get("machine", machine_id="hpc")[1]["members"]
        return sum(member["run"] is not None for member in members)

    for pause in (0.0, 0.5):
        runs = [submit(jupyter) for _ in range(8)]
        until(executing, lambda count: count == MEMBERS, timeout=200, what=jupyter.log)
        time.sleep(pause)
        started = started_by(jupyter)
        assert any("main.py" in process.cmdline()[1:3] for process in started)
        jupyter.kill()
        assert psutil.wait_procs(started, timeout=30)[1] == []

        jupyter.start()
        ended = [jupyter.until(prompt_id, *FINAL, timeout=200) for prompt_id in runs]
        pictures = Counter(path.name[: len(runs[0])] for path in shared.glob("*/output/*.png"))
        for record in ended:
            made = pictures[record["prompt_id"]]
            assert made <= 1, "it was executed twice"
            assert made or record["status"] != "success"
        statuses = Counter(record["status"] for record in ended)
        assert statuses["failed"] <= MEMBERS
        assert statuses["success"] == len(runs) - statuses["failed"]
