"""The routes that describe, change and register machines, and runs on one of several."""

import asyncio
import json
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from comfydeploy_jupyter import __version__
from tests.helpers.comfyui import TEST_NODES, free_port
from tests.helpers.jupyter import chain
from tests.helpers.processes import alive
from tests.helpers.waiting import until_async
from tests.machines.conftest import GPUS
from tests.runs.conftest import until_connected


@pytest.fixture
def extension_config(config_with_folders):
    return config_with_folders


async def restart_jupyter(extension):
    await extension.stop_extension()
    await extension.open_services()


async def until_ready(api, machine_id, timeout=150):
    async def row():
        return next(one for one in (await api.get("machines"))[1] if one["id"] == machine_id)

    return await until_async(row, lambda found: found["status"] == "ready", timeout=timeout)


def environment(pid):
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(line.split("=", 1) for line in text.split("\0") if line)


async def test_the_local_machine(api, comfyui):
    await until_connected(api)
    code, reply = await api.get("machine")
    assert code == 200
    assert (reply["id"], reply["kind"], reply["status"]) == ("local", "comfyui", "ready")
    software = reply["software"]
    assert software["comfydeploy_jupyter"] == __version__
    assert software["os"]
    assert software["jupyter_server"]
    found = software["comfyui"]
    assert f'"{found["version"]}"' in (comfyui.path / "comfyui_version.py").read_text()
    assert (found["url"], found["path"], found["managed"]) == (
        comfyui.url,
        str(comfyui.path),
        False,
    )
    assert found["pid"] == comfyui.pid
    assert found["process"]["memory"] > 1024 * 1024
    assert found["launch_args"][-1] == "--disable-api-nodes"
    hardware = reply["hardware"]
    assert hardware["memory"]["total"] > 0
    assert hardware["cpu"]["cores"] > 0
    assert str(comfyui.models_dir / "checkpoints") in hardware["disks"][0]["folders"]
    assert isinstance(hardware["gpus"], list)
    assert reply["config"]["comfyui_url"] == comfyui.url
    assert (await api.get("machine", machine_id="local"))[1]["id"] == "local"
    assert (await api.get("machine", machine_id="auto"))[1]["id"] == "local"
    (row,) = (await api.get("machines"))[1]
    assert (row["id"], row["status"], row["work"]) == ("local", "ready", 0)


BAD = [
    ({"comfyui_path": "/"}, 400, "comfyui_path"),
    ({"launch_args": "--listen; reboot"}, 400, "launch_args"),
    ({"launch_args": 7}, 400, "launch_args"),
    ({"comfyui_url": "ftp://x"}, 400, "comfyui_url"),
    ({"comfyui_python": "/no/such/python"}, 400, "comfyui_python"),
    ({"env": {"A B": "x"}}, 400, "env"),
    ({"gpu": "0; ls"}, 400, "gpu"),
    *(({"name": name}, 400, "name") for name in ("", "auto", "a\nb")),
    ({"autostart": "perhaps"}, 400, "autostart"),
    ({"restart": True}, 409, "restart"),
    ({"machine_id": "no-such"}, 404, "machine_id"),
]


async def test_bad_requests_change_nothing(api, comfyui, extension, http_server_port):
    await until_connected(api)
    _, before = await api.get("machine")
    for wrong, status, field in BAD:
        good = {"name": "better", "env": {"GOOD": "1"}}
        code, body = await api.post("machine/update", {**good, **wrong})
        assert (code, body["details"]["field"]) == (status, field), (wrong, body)
        assert body["success"] is False
    ours = f"http://127.0.0.1:{http_server_port[-1]}"  # this Jupyter server, which redirects
    for route, body in (("update", {}), ("create", {"name": "x"})):
        wrong = await api.refusal(f"machine/{route}", {**body, "comfyui_url": ours})
        assert wrong == (400, "comfyui_url")
    graph = {"workflow_api": {"1": {"class_type": "X", "inputs": {}}}}
    posts = [("run", graph), ("run/streaming", graph), ("interrupt", {})]
    posts += [("workflow/convert", graph), ("workflow/validate", graph)]
    gets = ["models", "filename_list_cache", "get-file-hash?filename=a", "fs/stat", "object_info"]
    gets += ["view?filename=a.png", "comfyui-version", "comfyui/log", "check-status"]
    unknown = {"machine": "no-such"}
    answers = {route: await api.post(route, {**body, **unknown}) for route, body in posts}
    for route in [*gets, "check-ws-status"]:
        path, _, query = route.partition("?")
        answers[route] = await api.get(path, **unknown, **dict(parse_qsl(query)))
    for route, (code, answer) in answers.items():
        assert (code, answer["code"]) == (404, "not_found"), route
        assert answer["details"] == {"field": "machine", "known": ["local"]}, route
    assert [row["id"] for row in (await api.get("machines"))[1]] == ["local"]
    _, after = await api.get("machine")
    assert (after["name"], after["config"]) == (before["name"], before["config"])
    assert extension.services.machines.get().connected
    await api.run(chain())


async def test_changes_are_kept_until_they_are_reset(api, extension, comfyui):
    await until_connected(api)
    secrets = {"HF_TOKEN": "secret", "DB_URL": "postgresql://ada:hunter2@db.example/x"}
    arguments = ["--comfy-api-key=s3cret", "--database-url", "sqlite:///a", "--cpu"]
    changes = {"name": "Workbench", "env": {"A": "1", **secrets}, "launch_args": arguments}
    code, body = await api.post("machine/update", changes)
    assert (code, body["success"], body["restart_required"]) == (200, True, False)
    assert not any(secret in json.dumps(body) for secret in ("s3cret", "hunter2"))
    config = body["machine"]["config"]
    masked = dict.fromkeys(secrets, "***")
    assert config["env"] == {"A": "1", **masked}
    assert config["launch_args"] == ["--comfy-api-key=***", *arguments[1:]]
    # Masked values may be sent back; null removes a variable.
    back = {"launch_args": [*config["launch_args"], "--lowvram"]}
    back["env"] = {**config["env"], "A": None, "B": 2}
    assert (await api.post("machine/update", back))[0] == 200
    wrong = await api.refusal("machine/update", {"launch_args": ["--other-key=***"]})
    assert wrong == (400, "launch_args")
    assert (await api.get("check-status"))[1]["status"] == "ok", "the connection was interrupted"

    await restart_jupyter(extension)
    _, reply = await api.get("machine", machine_id="workbench")
    assert (reply["id"], reply["name"]) == ("local", "Workbench")
    assert reply["config"]["env"] == {"B": "2", **masked}
    assert reply["config"]["changed"] == ["env", "launch_args"]
    settings = extension.services.machines.get().settings
    assert settings.env == {"B": "2", **secrets}
    assert settings.launch_args == (*arguments, "--lowvram")

    code, body = await api.post("machine/update", {"reset": True})
    assert (code, body["machine"]["config"]["env"]) == (200, {})
    await restart_jupyter(extension)
    _, reply = await api.get("machine")
    assert (reply["config"]["launch_args"], reply["config"]["comfyui_url"]) == ([], comfyui.url)


async def test_two_conflicting_machines_created_at_once(api):
    """Two machines whose names give the same id, or which have the same address."""
    url = f"http://127.0.0.1:{free_port()}"
    same = [{"name": name, "comfyui_url": url} for name in ("one", "two")]
    answers = await asyncio.gather(*(api.post("machine/create", body) for body in same))
    assert sorted(code for code, _ in answers) == [200, 409]
    names = ("my studio", "my+studio")
    alike = [{"name": n, "comfyui_url": f"http://127.0.0.1:{free_port()}"} for n in names]
    answers = await asyncio.gather(*(api.post("machine/create", body) for body in alike))
    ids = sorted(body["machine_id"] for _, body in answers)
    assert ids == ["my-studio", "my-studio-2"]
    rows = {row["id"]: row["name"] for row in (await api.get("machines"))[1]}
    assert {rows[found] for found in ids} == set(names)
    # a name may have spaces, and says which machine is meant
    for name in names:
        code, reply = await api.get("machine", machine_id=name.upper())
        assert (code, reply["name"]) == (200, name)
        code, body = await api.post("run", {"workflow_api": chain(), "machine": name})
        assert (code, body["code"]) == (503, "comfyui_unavailable")
        assert (await api.post("machine/delete", {"machine_id": name}))[0] == 200


async def test_a_machine_that_is_down_does_not_affect_others(api, extension, comfyui):
    await until_connected(api)
    port = free_port()
    body = {"name": "far away", "comfyui_url": f"http://127.0.0.1:{port}/"}
    code, made = await api.post("machine/create", body)
    assert (code, made["machine_id"]) == (200, "far-away")
    machine = made["machine"]
    assert (machine["kind"], machine["status"]) == ("comfyui", "unreachable")
    assert machine["config"]["comfyui_url"] == f"http://127.0.0.1:{port}"

    for again in ({"name": "Far Away"}, {"name": "far-away"}, {"name": "LOCAL"}):
        code, refused = await api.post(
            "machine/create", {**again, "comfyui_url": "http://127.0.0.1:9"}
        )
        assert (code, refused["details"]["field"]) == (409, "name")
    code, refused = await api.post("machine/create", {"name": "b", "comfyui_url": comfyui.url})
    assert (code, refused["details"]["machine"]) == (409, "local")
    code, refused = await api.post("machine/create", {"name": "b"})
    assert (code, refused["details"]["field"]) == (400, "kind")
    code, refused = await api.post("machine/create", {"comfyui_url": comfyui.url})
    assert (code, refused["details"]["field"]) == (400, "name")

    for _ in range(2):
        code, run = await api.post("run", {"workflow_api": chain(), "machine": "far-away"})
        assert (code, run["code"]) == (503, "comfyui_unavailable")
        code, run = await api.post("run", {"workflow_api": chain(), "machine": "auto"})
        assert (code, run["machine"]) == (200, "local")
        assert (await api.get("check-status"))[1]["status"] == "ok"
        _, status = await api.get("check-status", machine="far-away")
        assert (status["status"], status["comfyui"]["reachable"]) == ("degraded", False)
        assert (await api.get("check-ws-status", machine="far-away"))[1]["connected"] is False
        await restart_jupyter(extension)
        await until_connected(api)

    code, reply = await api.post("machine/update", {"machine_id": "far-away", "comfyui_url": ""})
    assert (code, reply["details"]["field"]) == (400, "comfyui_path")
    assert (await api.post("machine/delete", {"machine_id": "far off"}))[0] == 404
    code, gone = await api.post("machine/delete", {"machine_id": "far away"})  # its name
    assert (code, gone["machine_id"]) == (200, "far-away")
    assert [row["id"] for row in (await api.get("machines"))[1]] == ["local"]
    code, refused = await api.post("machine/delete", {"machine_id": "local"})
    assert (code, refused["code"]) == (409, "conflict")


@pytest.mark.thorough
@pytest.mark.timeout(600)
async def test_a_second_comfyui(api, extension, comfyui, tmp_path, nvidia_smi):
    """One that this server starts: runs, restarts, failures, its end, the next Jupyter."""
    await until_connected(api)
    nvidia_smi(GPUS)
    python = comfyui.python
    base = tmp_path / "base"
    (base / "custom_nodes").mkdir(parents=True)
    for pack in TEST_NODES.iterdir():
        if pack.is_dir():
            (base / "custom_nodes" / pack.name).symlink_to(pack)
    body = {
        "name": "second",
        "kind": "managed",
        "gpu": 1,
        "comfyui_python": str(python),
        "launch_args": ["--base-directory", str(base), "--disable-api-nodes", "--cpu"],
        "env": {"COMFYDEPLOY_TEST": "one"},
    }
    wrong = {**body, "launch_args": ["--no-such-option"]}
    code, refused = await api.post("machine/create", wrong)
    assert (code, refused["details"]["field"]) == (400, "launch_args")
    code, refused = await api.post("machine/create", {**body, "gpu": 2})
    assert (code, refused["details"]["field"]) == (400, "gpu")
    code, made = await api.post("machine/create", body)
    assert (code, made["machine_id"], made["machine"]["kind"]) == (200, "second", "managed")
    config = made["machine"]["config"]
    folder = tmp_path / "data" / "machines" / "second"
    # It shares its folder with `local`: what both would write to is its own.
    assert config["comfyui_path"] == str(comfyui.path)
    outputs = config["launch_args"][config["launch_args"].index("--output-directory") + 1]
    assert Path(outputs).name == "second"

    # -- runs are sent to the chosen machine, and each machine has its own files
    code, run = await api.post("run", {"workflow_api": chain(), "machine": "second"})
    assert (code, run["status"], run["machine"]) == (200, "success", "second")
    _, reply = await api.get("machine", machine_id="second")
    found = reply["software"]["comfyui"]
    assert (reply["status"], found["managed"], found["state"]) == ("ready", True, "running")
    assert found["url"] != comfyui.url
    variables = environment(found["pid"])
    assert (variables["COMFYDEPLOY_TEST"], variables["CUDA_VISIBLE_DEVICES"]) == ("one", "1")
    gpus = [(gpu["name"], gpu["source"]) for gpu in reply["hardware"]["gpus"]]
    assert gpus == [(gpu["name"], "nvidia-smi") for gpu in GPUS]
    assert Path(found["log"]) == folder / "comfyui.log"
    code, log = await api.get("comfyui/log", machine="second")
    assert (code, log["path"]) == (200, found["log"])
    assert (await api.get("comfyui/log"))[0] == 404
    code, version = await api.get("comfyui-version", machine="second")
    assert (code, version["source"]) == (200, "running")
    assert "TestSleep" in (await api.get("object_info", machine="second"))[1]
    (base / "input").mkdir(exist_ok=True)
    (base / "input" / "of_the_second.txt").write_text("of the second")
    file = {"filename": "of_the_second.txt", "type": "input"}
    assert (await api.raw("GET", "view", params={**file, "machine": "second"})).code == 200
    assert (await api.get("view", **file))[0] == 404

    # -- the one with the least work
    sleep = {"workflow_api": chain(("TestSleep", {"seconds": 300})), "wait": False}
    _, here = await api.post("run", {**sleep, "machine": "local"})
    for _ in range(2):
        _, run = await api.post("run", {"workflow_api": chain(), "machine": "auto"})
        assert (run["status"], run["machine"]) == ("success", "second")
    both = await asyncio.gather(*(api.post("run", {**sleep, "machine": "auto"}) for _ in range(3)))
    # No run waits on a machine that may be a slow one.
    assert sorted(run["machine"] for _, run in both) == ["auto", "auto", "second"]
    code, reply = await api.post("interrupt", {"machine": "local"})
    assert (code, reply["prompt_id"]) == (200, here["prompt_id"])
    for _, run in both:
        assert (await api.post("interrupt", {"prompt_id": run["prompt_id"]}))[0] == 200
    for _, run in both:
        await api.until(run["prompt_id"], "cancelled")

    # -- a change waits for a restart, which fails only what was executing
    change = {"machine_id": "second", "env": {"COMFYDEPLOY_TEST": "two"}}
    code, reply = await api.post("machine/update", change)
    assert (code, reply["restart_required"]) == (200, True)
    first_pid = reply["machine"]["software"]["comfyui"]["pid"]
    assert first_pid == found["pid"]
    _, executing = await api.post("run", {**sleep, "machine": "second"})
    await api.until(executing["prompt_id"], "running")
    waiting = [
        (await api.post("run", {"workflow_api": chain(), "wait": False, "machine": "second"}))[1]
        for _ in range(2)
    ]
    _, elsewhere = await api.post("run", {**sleep, "machine": "local"})
    code, reply = await api.post("machine/update", {"machine_id": "second", "restart": True})
    assert code == 200, reply
    assert (reply["restart_required"], reply["machine"]["status"]) == (False, "ready")
    second_pid = reply["machine"]["software"]["comfyui"]["pid"]
    assert second_pid != first_pid
    assert environment(second_pid)["COMFYDEPLOY_TEST"] == "two"
    lost = await api.until(executing["prompt_id"], "failed")
    assert "restarted on request" in lost["error"]["message"]
    for run in waiting:
        record = await api.until(run["prompt_id"], "success", timeout=60)
        assert record["machine"] == "second"
    _, other = await api.get("check-status", prompt_id=elsewhere["prompt_id"])
    assert other["status"] == "running"

    # -- if it does not start, the old settings are restored; the waiting run continues
    graph = chain(("TestSleep", {"seconds": 300}))
    _, executing = await api.post(
        "run", {"workflow_api": graph, "wait": False, "machine": "second"}
    )
    _, queued = await api.post("run", {"workflow_api": chain(), "wait": False, "machine": "second"})
    await api.until(executing["prompt_id"], "running")
    code, refused = await api.post(
        "machine/update",
        {
            "machine_id": "second",
            "name": "worse",
            "launch_args": ["--preview-size", "huge"],
            "restart": True,
        },
    )
    assert (code, refused["code"]) == (503, "comfyui_unavailable")
    assert any("--preview-size" in line for line in refused["details"]["log"])
    _, reply = await api.get("machine", machine_id="second")
    assert (reply["name"], reply["config"]["launch_args"]) == ("second", config["launch_args"])
    await until_ready(api, "second")
    await api.until(queued["prompt_id"], "success", timeout=60)

    # -- it is started again with the next Jupyter, and removed by a deletion
    _, executing = await api.post("run", {**sleep, "machine": "second"})
    code, refused = await api.post("machine/delete", {"machine_id": "second"})
    assert (code, refused["details"]["runs"]) == (409, 1)
    for run in (elsewhere, executing):
        await api.post("interrupt", {"prompt_id": run["prompt_id"]})
        await api.until(run["prompt_id"], "cancelled")
    await restart_jupyter(extension)

    async def started():
        _, reply = await api.get("machine", machine_id="second")
        assert reply["config"]["launch_args"] == config["launch_args"]
        return reply["software"]["comfyui"]["pid"]

    pid = await until_async(started)
    assert environment(pid)["COMFYDEPLOY_TEST"] == "two"
    assert (await api.post("machine/delete", {"machine_id": "second"}))[0] == 200
    assert not alive(pid)
    assert not folder.exists()
