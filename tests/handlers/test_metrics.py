"""The metrics of real runs in Jupyter's ``/metrics``."""

import re

import pytest
from prometheus_client import REGISTRY

from comfydeploy_jupyter import metrics
from comfydeploy_jupyter.extension import ComfyDeploy
from tests.helpers.bodies import form
from tests.helpers.waiting import until_async
from tests.test_docs import DOCS

LOCAL = {"machine": "local"}
PAGE = (DOCS / "monitoring.md").read_text()


def gained(before, after, name, **labels):
    return after.of(name, **labels) - before.of(name, **labels)


async def test_each_run_is_counted_once(api, scrape, chain):
    await api.run(chain())
    before = await scrape()
    prompt_ids = []

    async def run(graph, wait=True):
        _, body = await api.post("run", {"workflow_api": graph, "wait": wait})
        prompt_ids.append(body["prompt_id"])
        return body

    slept = await run(chain(("TestSleep", {"seconds": 0.2})))
    assert slept["status"] == "success"
    assert (await run(chain(("TestFail", {"message": "real"}))))["status"] == "failed"
    endless = await run(chain(("TestSleep", {"seconds": 60})), wait=False)
    await api.until(endless["prompt_id"], "running")
    meanwhile = await scrape()
    assert meanwhile.of("open_runs", status="running", **LOCAL) == 1
    assert meanwhile.of("comfyui_queue_length", **LOCAL) >= 1
    assert gained(before, meanwhile, "run_wait_seconds_count", **LOCAL) == 3
    assert gained(before, meanwhile, "runs_total", status="cancelled", **LOCAL) == 0
    await api.post("interrupt", {"prompt_id": endless["prompt_id"]})
    await api.until(endless["prompt_id"], "cancelled")
    after = await scrape()
    for status in ("success", "failed", "cancelled"):
        assert gained(before, after, "runs_total", status=status, **LOCAL) == 1, status
        name = "run_duration_seconds"
        assert gained(before, after, f"{name}_count", status=status, **LOCAL) == 1, status
    seconds = gained(before, after, "run_duration_seconds_sum", status="success", **LOCAL)
    assert seconds == pytest.approx(slept["execution_time"])
    assert seconds > 0.1, "a node slept 0.2 s, but the event of its start may arrive late"
    assert gained(before, after, "run_wait_seconds_sum", **LOCAL) > 0
    assert after.of("open_runs", status="running", **LOCAL) == 0
    assert not [line for line in after.lines if any(i in line for i in prompt_ids)]


async def test_run_that_is_refused_or_never_begins(api, scrape, chain):
    before = await scrape()
    broken = {"1": {"class_type": "TestText", "inputs": {}}}
    code, body = await api.post("run", {"workflow_api": broken})
    assert (code, body["code"]) == (400, "prompt_invalid")
    sleep = chain(("TestSleep", {"seconds": 60}))
    blocker, waiting = await api.start(sleep), await api.start(chain())
    await api.until(blocker, "running")
    for prompt_id in (waiting, blocker):
        await api.post("interrupt", {"prompt_id": prompt_id})
        await api.until(prompt_id, "cancelled")
    after = await scrape()
    assert gained(before, after, "runs_total", status="failed", **LOCAL) == 1
    assert gained(before, after, "runs_total", status="cancelled", **LOCAL) == 2
    name = "run_duration_seconds_count"
    assert gained(before, after, name, status="failed", **LOCAL) == 0, "it was never executed"
    assert gained(before, after, name, status="cancelled", **LOCAL) == 1
    assert gained(before, after, "run_wait_seconds_count", **LOCAL) == 1


@pytest.mark.thorough
async def test_file_that_a_client_uploads(api, scrape):
    before = await scrape()
    body, headers = form(("file", "counted.txt", b"12345"))
    code, _ = await api.post("upload-file", body, headers=headers)
    assert code == 200
    after = await scrape()
    assert gained(before, after, "received_files_total") == 1
    assert gained(before, after, "received_bytes_total") == 5
    assert not [line for line in after.lines if "counted.txt" in line]


async def test_series_exist_before_the_first_run(api, scrape, http_server_client, jp_base_url):
    """A counter whose first value is 1 has no rate."""
    await api.get("check-status")
    found = await scrape()
    assert found.of("transfers_total", direction="down", kind="copy", state="failed") is not None
    assert found.of("runs_total", status="cancelled", **LOCAL) is not None
    for target in ("comfyui", "jupyter"):
        assert found.of("tunnel_up", target=target) == 0
    assert found.of("waiting_callbacks") == 0
    answer = await http_server_client.fetch(f"{jp_base_url}metrics", raise_error=False)
    assert (answer.code, b"comfydeploy" in answer.body) == (403, False), "without credentials"


@pytest.mark.thorough
async def test_clients_of_the_websocket(api, scrape, jp_ws_fetch):
    await api.get("check-status")
    assert (await scrape()).of("websocket_clients") == 0
    socket = await jp_ws_fetch("comfyui-deploy", "ws")
    await socket.read_message()
    assert (await scrape()).of("websocket_clients") == 1
    socket.close()
    await until_async(scrape, lambda found: found.of("websocket_clients") == 0)


@pytest.mark.thorough
async def test_two_servers_in_one_process(extension, api, scrape, jp_serverapp, tmp_path):
    """Their values are added; ComfyUI counts as up if it is up for both."""
    code, _ = await api.get("models")  # waits for ComfyUI
    assert code == 200
    other = ComfyDeploy(comfyui_url="http://127.0.0.1:9", data_dir=str(tmp_path / "other"))
    other.serverapp = jp_serverapp
    assert (await scrape()).of("comfyui_up", **LOCAL) == 1
    await other.open_services()
    try:
        both = await scrape()
        assert both.of("comfyui_up", **LOCAL) == 0
        assert both.of("open_runs", status="queued", **LOCAL) == 0
    finally:
        await other.stop_extension()
    assert (await scrape()).of("comfyui_up", **LOCAL) == 1


@pytest.mark.thorough
async def test_extension_that_is_stopped_and_opened_again(extension, api, scrape, chain):
    await api.post("run", {"workflow_api": chain()})
    before = await scrape()
    await extension.stop_extension()
    stopped = await scrape()
    assert stopped.of("comfyui_up", **LOCAL) is None
    assert stopped.of("runs_total", status="success", **LOCAL) is not None
    await api.post("run", {"workflow_api": chain()})
    after = await scrape()
    assert after.of("comfyui_up", **LOCAL) == 1
    assert gained(before, after, "runs_total", status="success", **LOCAL) == 1


async def test_a_reading_that_fails_does_not_affect_the_others(api, scrape, caplog):
    await api.get("check-status")

    def broken():
        yield metrics.Reading("comfydeploy_websocket_clients", (), 40)
        raise RuntimeError("on purpose")

    stop = metrics.watch(broken)
    try:
        found = await scrape()
    finally:
        stop()
    assert found.of("tunnel_up", target="comfyui") == 0
    assert any(name == "python_info" for name, _ in found)
    assert "could not be read for /metrics" in caplog.text


def our_families():
    metrics.add_machine("local")
    metrics.run_began("local", "documented", 0.1)
    metrics.run_ended("local", "documented", "success", 0.1)
    found = [family for family in REGISTRY.collect() if family.name.startswith("comfydeploy")]
    metrics.remove_pool("documented")
    metrics.remove_machine("local")
    return found


def test_a_machine_that_was_removed_gets_no_series_again():
    """What a member of a pool executed may end after it."""
    metrics.add_machine("lease-1")
    metrics.remove_machine("lease-1")
    metrics.run_began("lease-1", None, 0.1)
    metrics.run_ended("lease-1", None, "failed", 0.1)
    metrics.comfyui_lost("lease-1")
    labels = {
        sample.labels.get("machine") for family in our_families() for sample in family.samples
    }
    assert "lease-1" not in labels
    assert "removed" in labels


def test_metric_names_are_valid_and_documented():
    """Names follow Prometheus' rules, and each metric is in the table of the documents."""
    families = our_families()
    assert families
    for family in families:
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        assert re.fullmatch(r"comfydeploy(_[a-z]+)+", name)
        assert family.documentation.endswith(".")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if family.name in metrics.READINGS:
            labels.update(metrics.READINGS[family.name].labels)
        known = ("version", "machine", "pool", "status", "direction", "kind", "state", "target")
        assert labels <= set(known)
        (row,) = [r for r in PAGE.splitlines() if r.startswith(f"| `{name}` | {family.type} |")]
        assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == labels
