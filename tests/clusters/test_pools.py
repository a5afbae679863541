"""Pools on a Dask cluster, through the routes of a real Jupyter server."""

import os
import signal

import psutil
import pytest
import requests
from distributed import LocalCluster
from distributed.security import Security

from comfydeploy_jupyter import connect
from comfydeploy_jupyter.errors import InvalidRequestError
from tests.helpers.clusters import make_certificates
from tests.helpers.jupyter import RestartableJupyter
from tests.helpers.processes import alive
from tests.helpers.selection import few
from tests.helpers.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


def picture(token, seconds=0.0):
    """Return a graph that waits and then saves a picture."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255},
        },
        "2": {
            "class_type": "TestSleep",
            "inputs": {"seconds": seconds, "anything": ["1", 0], "token": token},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "a"}},
    }


def comfyui_of(worker):
    """Return the process id of the ComfyUI of a worker."""

    def commands():
        children = psutil.Process(worker.pid).children(recursive=True)
        return {process.pid: process.cmdline() for process in children}

    found = until(
        lambda: [pid for pid, command in commands().items() if "main.py" in command[1:3]],
        what=commands,
    )
    return found[0]


@pytest.fixture
def jupyter(shared_scheduler, tmp_path):
    """A server whose cluster ``lab`` has no workers."""
    lab = {"scheduler": shared_scheduler.address, **shared_scheduler.security}
    settings = {"autostart": False, "comfyui_lost_after": 20.0, "clusters": {"lab": lab}}
    server = RestartableJupyter(tmp_path / "jupyter", settings)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def create(jupyter, lease_settings):
    """A function that creates a pool on a cluster."""

    def create(at, **fields):
        body = {
            "name": "hpc",
            "kind": "dask",
            "scheduler": at.address,
            "security": at.security,
            "workers": [0, 1],
            **lease_settings,
            **fields,
        }
        return jupyter.post("machine/create", body)

    return create


def run(jupyter, token, seconds=0.0, **fields):
    """Submit a run of the pool, and return its id."""
    body = {"workflow_api": picture(token, seconds), "machine": "hpc", "wait": False, **fields}
    status, reply = jupyter.post("run", body)
    assert status == 200, reply
    return str(reply["prompt_id"])


def view(jupyter, record):
    """Return the picture of a run."""
    [image] = record["outputs"]["3"]["images"]
    reply = requests.get(
        jupyter.url.rstrip("/").removesuffix("/a%40b") + image["url"],
        headers={"Authorization": f"token {jupyter.token}"},
        timeout=60,
    )
    assert reply.status_code == 200, reply.text
    return reply.content


@pytest.mark.thorough
@pytest.mark.parametrize("shared", few([False, True]))
def test_runs_and_their_pictures_outlive_members(start_cluster, jupyter, create, tmp_path, shared):
    cluster = start_cluster(1)
    (tmp_path / "shared").mkdir()
    fields = {"shared_dir": str(tmp_path / "shared")} if shared else {}
    status, reply = create(cluster, **fields)
    assert status == 200, reply
    assert reply["machine"]["kind"] == "dask"
    assert "PRIVATE KEY" not in str(reply)
    assert "PRIVATE KEY" not in str(jupyter.get("machine", machine_id="hpc"))

    first = run(jupyter, "first")
    record = jupyter.until(first, "success", timeout=200)
    copies = [*(tmp_path / "jupyter" / "comfydeploy" / "outputs").rglob("*.png")]
    assert len(copies) == (0 if shared else 1)

    # equal runs have the same output, which is copied for each of them
    picture_of_first = view(jupyter, record)
    for equal in [run(jupyter, "first") for _ in range(5)]:
        again = jupyter.until(equal, "success", "failed", timeout=60)
        assert (again["status"], again["outputs"]) == ("success", record["outputs"]), again
        assert view(jupyter, again) == picture_of_first

    # the worker dies: the executing run fails, the waiting one moves on
    executing = run(jupyter, "executing", 300)
    jupyter.until(executing, "running", timeout=100)
    waiting = run(jupyter, "waiting")
    cluster.workers[0].kill()
    assert jupyter.until(executing, "failed", timeout=60)["error"]["type"]
    cluster.add_worker()
    moved = jupyter.until(waiting, "success", timeout=200)
    assert moved["machine"] != record["machine"]
    for one in (record, moved):
        assert view(jupyter, one).startswith(b"\x89PNG")

    # Jupyter dies while a run executes, which is found again
    last = run(jupyter, "last", 20)
    jupyter.until(last, "running", timeout=100)
    jupyter.kill()
    jupyter.start()
    again = jupyter.until(last, "success", timeout=200)
    assert again["machine"] == moved["machine"]
    assert view(jupyter, again).startswith(b"\x89PNG")


@pytest.mark.thorough
def test_outputs_of_jobs_outlive_members(start_cluster, jupyter, create):
    """The Comfy API: ``metadata.machine`` names the pool; the picture is an asset."""
    cluster = start_cluster(1)
    assert create(cluster)[0] == 200
    headers = {"Authorization": f"Bearer {jupyter.token}"}
    api = f"{jupyter.url}comfyui-deploy/api/v2"
    body = {"workflow": picture("job"), "metadata": {"machine": "hpc"}}
    job = requests.post(f"{api}/jobs", json=body, headers=headers, timeout=60).json()
    record = jupyter.until(job["id"], "success", timeout=200)
    cluster.workers[0].kill()
    until(lambda: record["machine"] not in str(jupyter.get("machines", members="true")[1]))
    for _ in range(2):
        found = requests.get(f"{api}/jobs/{job['id']}", headers=headers, timeout=60).json()
        assert (found["status"], found["metadata"]) == ("succeeded", {"machine": "hpc"})
        [output] = found["outputs"]
        content = requests.get(output["url"], headers=headers, timeout=60)
        assert content.content.startswith(b"\x89PNG")
        assert output["size_bytes"] == len(content.content)
        jupyter.kill()  # it is the same after a restart
        jupyter.start()


@pytest.mark.thorough
def test_a_run_is_executed_again_if_that_is_wanted(start_cluster, jupyter, create):
    cluster = start_cluster(1)
    assert create(cluster, retry=1)[0] == 200
    prompt_id = run(jupyter, "again", 5)
    jupyter.until(prompt_id, "running", timeout=200)
    os.kill(comfyui_of(cluster.workers[0]), signal.SIGKILL)
    assert jupyter.until(prompt_id, "success", "failed", timeout=200)["status"] == "success"


@pytest.mark.thorough
def test_changes_of_a_pool_are_in_effect_at_once(start_cluster, jupyter, create, tmp_path):
    cluster = start_cluster(1)
    assert create(cluster, shared_dir=str(tmp_path / "old"))[0] == 200
    first = jupyter.until(run(jupyter, "first"), "success", timeout=200)

    # a ComfyUI that has a run keeps its folder
    executing = run(jupyter, "executing", 300)
    jupyter.until(executing, "running", timeout=100)
    change = {"machine_id": "hpc", "retry": 1, "shared_dir": str(tmp_path / "new")}
    code, reply = jupyter.post("machine/update", change)
    assert (code, reply["details"]) == (409, {"field": "shared_dir", "runs": 1})
    assert jupyter.get("machine", machine_id="hpc")[1]["config"]["retry"] == 0
    jupyter.post("interrupt", {"prompt_id": executing})
    jupyter.until(executing, "cancelled", timeout=60)

    assert jupyter.post("machine/update", change)[0] == 200
    again = run(jupyter, "again", 5)
    jupyter.until(again, "running", timeout=200)
    os.kill(comfyui_of(cluster.workers[0]), signal.SIGKILL)
    last = jupyter.until(again, "success", "failed", timeout=200)
    assert last["status"] == "success"
    assert [*(tmp_path / "new").rglob("*.png")]
    assert not [*(tmp_path / "jupyter" / "comfydeploy" / "outputs").rglob("*.png")]
    for record in (first, last):
        assert view(jupyter, record).startswith(b"\x89PNG")


@pytest.mark.thorough
def test_runs_wait_for_a_scheduler_that_has_ended(start_cluster, jupyter, create):
    cluster = start_cluster(1)
    assert create(cluster)[0] == 200
    executing = run(jupyter, "executing", 300)
    jupyter.until(executing, "running", timeout=200)
    waiting = run(jupyter, "waiting")
    pid = comfyui_of(cluster.workers[0])
    cluster.scheduler.kill()
    until(lambda: not alive(pid), timeout=60)
    jupyter.until(executing, "failed", timeout=100)
    until(lambda: jupyter.get("machine", machine_id="hpc")[1]["error"], timeout=60)
    change = {"machine_id": "hpc", "retry": 1}  # does not need the scheduler
    assert jupyter.post("machine/update", change)[0] == 200
    code, reply = jupyter.post("machine/update", {**change, "scheduler": "tls://127.0.0.1:9"})
    assert (code, reply["details"]["field"]) == (400, "scheduler")
    cluster.start(1)
    jupyter.until(waiting, "success", timeout=200)


OTHER_VERSIONS = """
import sys

if "distributed.cli.dask_worker" in sys.orig_argv[:3]:  # not the process that ends it
    import distributed.versions as versions

    system, packages = versions.get_system_info, versions.get_package_info
    old = {"python": "3.9.1.final.0", "cloudpickle": "1.0.0"}
    versions.get_system_info = lambda: {**system(), "python": old["python"]}
    versions.get_package_info = lambda names: {**packages(names), **old}
    sys.modules["comfydeploy_jupyter"] = None  # it is not installed for this Python
"""


@pytest.mark.thorough
def test_runs_wait_while_workers_have_other_versions(start_cluster, jupyter, create, tmp_path):
    """A worker reports an old Python and an old cloudpickle, and does not have the package."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sitecustomize.py").write_text(OTHER_VERSIONS)
    cluster = start_cluster()
    assert create(cluster)[0] == 200
    prompt_id = run(jupyter, "waiting")
    old = cluster.add_worker(env={"PYTHONPATH": str(tmp_path / "old")})
    error = until(
        lambda: jupyter.get("machine", machine_id="hpc")[1]["error"], timeout=30, what=cluster.log
    )
    assert "The workers need comfydeploy-jupyter[dask]" in error
    assert "python 3.9.1 instead of" in error
    assert "cloudpickle 1.0.0 instead of" in error
    assert jupyter.get("check-status", prompt_id=prompt_id)[1]["status"] == "queued"
    cluster.add_worker()
    old.kill()
    jupyter.until(prompt_id, "success", "failed", timeout=100)
    assert jupyter.get("check-status", prompt_id=prompt_id)[1]["status"] == "success"
    assert jupyter.get("machine", machine_id="hpc")[1]["error"] is None


@pytest.mark.thorough
def test_errors_of_a_cluster_are_told_while_runs_wait(start_cluster, jupyter, create):
    cluster = start_cluster()
    assert create(cluster, comfyui_path="/nowhere/<ComfyUI>")[0] == 200
    prompt_id = run(jupyter, "waiting")

    def error():
        return jupyter.get("machine", machine_id="hpc")[1]["error"] or ""

    cluster.add_worker()
    until(lambda: "there is no ComfyUI in /nowhere/<ComfyUI>" in error(), timeout=60)
    cluster.scheduler.kill()
    until(lambda: "connect to tls://" in error(), what=error)
    assert jupyter.get("check-status", prompt_id=prompt_id)[1]["status"] == "queued"


def test_python_makes_a_pool_of_a_cluster_object(jupyter, lease_settings, tmp_path):
    comfy = connect(jupyter.url, token=jupyter.token)
    with LocalCluster(
        n_workers=0,
        processes=True,
        threads_per_worker=1,
        protocol="tls://",
        security=Security.temporary(),
        dashboard_address=":0",
        local_directory=str(tmp_path),
    ) as cluster:
        made = comfy.machines.create("hpc", cluster=cluster, workers=(0, 1), **lease_settings)
        assert made.kind == "dask"
        result = comfy.run(picture("python"), machine="hpc", timeout=300)
        assert result.status == "success"
        assert len(cluster.workers) == 1
        comfy.machines.delete("hpc")
        until(lambda: not cluster.workers, timeout=60)


@pytest.mark.thorough
def test_python_changes_the_limits_of_a_cluster_object(jupyter, shared_scheduler):
    limits = []
    scheduler = shared_scheduler

    class Cluster:
        scheduler_address = scheduler.address
        security = Security(**scheduler.security, require_encryption=True)

        def adapt(self, *, minimum, maximum, **_):
            limits.append((minimum, maximum))

    cluster = Cluster()
    comfy = connect(jupyter.url, token=jupyter.token)
    made = comfy.machines.create("hpc", cluster=cluster, comfyui_path="/opt/ComfyUI")
    made.update(workers=[0, 4])
    made.update(retry=1)
    assert limits == [(0, 1), (0, 4)]
    other = connect(jupyter.url, token=jupyter.token)
    other.machines.update("hpc", workers=[0, 8])
    assert limits[2:] == [(0, 8)], "all clients of a kernel know the object"
    assert made.refresh().config["workers"] == [0, 8]
    other.machines.create("more", cluster=cluster, comfyui_path="/opt/ComfyUI", workers=[2, 2])
    assert limits[3:] == [(2, 10)]
    other.machines.delete("more")
    assert limits[4:] == [(0, 8)], "no worker is kept for a deleted pool"

    class Closed(Cluster):
        def adapt(self, *, minimum, maximum, **_):
            if not minimum:
                raise RuntimeError("is closed")

    closed = Closed()
    other.machines.create("old", cluster=closed, comfyui_path="/opt/ComfyUI", workers=[1, 3])
    with pytest.warns(UserWarning, match="workers of 'old' were not ended: is closed"):
        comfy.machines.delete("old")

    class Fixed(Cluster):
        def adapt(self, **_):
            raise NotImplementedError

    with pytest.raises(NotImplementedError):
        comfy.machines.create("fixed", cluster=Fixed(), comfyui_path="/opt/ComfyUI")
    assert [machine.id for machine in comfy.machines.list()] == ["local", "hpc"]

    # the address of its scheduler, and its security
    given = {"cluster": scheduler.address, "security": Cluster.security}
    made = comfy.machines.create("by-address", **given, comfyui_path="/opt/ComfyUI")
    assert made.update(security=Cluster.security, retry=1).config["retry"] == 1


BAD_INPUT = [
    ({"workers": [8, 0]}, 400, "workers", "not a valid range"),
    ({"workers": [1]}, 400, "workers", "two numbers"),
    ({"cluster": "none", "scheduler": None}, 404, "cluster", "has no 'none'"),
    ({"cluster": "none"}, 400, "cluster", "but not both"),
    ({"scheduler": "tcp://192.0.2.1:8786"}, 400, "scheduler", "tls://"),
    ({"scheduler": "tcp://127.0.0.1:9"}, 400, "scheduler", "cluster_allow_plain_tcp"),
    ({"scheduler": "http://127.0.0.1:8786"}, 400, "scheduler", "not the address"),
    ({"comfyui_path": "ComfyUI"}, 400, "comfyui_path", "absolute"),
    ({"security": {"tls_ca_file": "/nowhere"}}, 400, "security", "needed"),
    (
        {"security": {"tls_ca_file": "/nowhere", "tls_client_cert": "/nowhere"}},
        400,
        "security",
        "No such file",
    ),
    ({"security": None}, 400, "security", "needed"),
    ({"scheduler": "tls://127.0.0.1:9"}, 400, "scheduler", "cannot be used"),
    ({"env": {"CUDA_VISIBLE_DEVICES": "1"}}, 400, "env", "no setting of a pool on a cluster"),
    ({"members": ["local"]}, 400, "members", "no setting of a pool on a cluster"),
    ({"launch_args": ["--cpu", "--listen=0.0.0.0"]}, 400, "launch_args", "only at the loopback"),
    ({"launch_args": ["--lis", "0.0.0.0"]}, 400, "launch_args", "only at the loopback"),
    ({"launch_args": "--port 8188"}, 400, "launch_args", "only at the loopback"),
    ({"kind": "pool", "members": ["local"]}, 400, "scheduler", "not for the kind pool"),
    ({"kind": "managed"}, 400, "scheduler", "not for the kind managed"),
]


def test_a_pool_without_tls_pauses_unless_the_setting_allows_it(
    start_cluster, lease_settings, tmp_path
):
    """Its runs wait, and it can be changed.

    Another user could have taken the port of its scheduler, and would answer with a pickle.
    """
    plain = start_cluster(plain=True)
    settings = {"autostart": False, "data_dir": str(tmp_path / "data")}
    server = RestartableJupyter(tmp_path / "one", {**settings, "cluster_allow_plain_tcp": True})
    server.start()
    body = {"name": "hpc", "kind": "dask", "scheduler": plain.address, **lease_settings}
    assert server.post("machine/create", body)[0] == 200
    waiting = run(server, "waiting")
    server.kill()

    server = RestartableJupyter(tmp_path / "two", settings)
    server.start()
    try:
        error = until(lambda: server.get("machine", machine_id="hpc")[1]["error"])
        assert "cluster_allow_plain_tcp" in error
        assert "Security.temporary()" in error
        assert server.get("machine", machine_id="hpc")[1]["provider"] is None
        assert server.post("machine/update", {"machine_id": "hpc", "retry": 1})[0] == 200
        assert server.get("check-status", prompt_id=waiting)[1]["status"] == "queued"
        code, reply = server.post("machine/create", {**body, "name": "other"})
        assert (code, reply["details"]["field"]) == (400, "scheduler")
    finally:
        server.kill()


@pytest.mark.thorough
def test_wrong_fields_and_a_named_cluster_instead_of_an_address(
    shared_scheduler, jupyter, create, tmp_path
):
    port = jupyter.url.split(":")[2].split("/")[0]
    unreachable = [
        ({"security": make_certificates(tmp_path)}, 400, "scheduler", "certificate"),
        # Jupyter's own port
        ({"scheduler": f"tls://127.0.0.1:{port}"}, 400, "scheduler", "cannot"),
    ]
    for fields, status, field, text in [*BAD_INPUT, *unreachable]:
        code, reply = create(shared_scheduler, **fields)
        assert code == status, (fields, reply)
        assert reply["details"]["field"] == field, (fields, reply)
        assert text in reply["error"], (fields, reply)
    comfy = connect(jupyter.url, token=jupyter.token)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        pytest.raises(InvalidRequestError, match=r"Security\.temporary.*cluster_allow_plain_tcp"),
    ):
        comfy.machines.create("hpc", cluster=cluster, comfyui_path="/opt/ComfyUI")
    assert [one["id"] for one in jupyter.get("machines")[1]] == ["local"]

    assert create(shared_scheduler)[0] == 200
    named = {"cluster": "lab"}
    address = {"scheduler": shared_scheduler.address, "security": shared_scheduler.security}
    for fields in (named, address, named):
        code, reply = jupyter.post("machine/update", {"machine_id": "hpc", **fields})
        assert code == 200, reply
        config = reply["machine"]["config"]
        present = {name for name in ("cluster", "scheduler") if name in config}
        assert present == fields.keys() - {"security"}
        assert reply["machine"]["provider"]["connected"]
    waiting = run(jupyter, "waiting")
    for fields, status, field in [
        (address, 409, "scheduler"),
        ({**named, **address}, 400, "cluster"),
        ({"cluster": "none"}, 404, "cluster"),
    ]:
        code, reply = jupyter.post("machine/update", {"machine_id": "hpc", **fields})
        assert (code, reply["details"]["field"]) == (status, field)
    assert jupyter.get("check-status", prompt_id=waiting)[1]["status"] == "queued"
