"""The log of a real run: each line has the run's id, in its text and as a field."""

import asyncio
import json
import logging

import pytest
from traitlets.config import Config

from tests.helpers.selection import few
from tests.test_docs import DOCS, blocks

from .test_transfers import KEY, image, messages_of, ordered


@pytest.fixture
def logged(caplog):
    """Return a function that gives our lines about a run, once there is one with a text."""
    caplog.set_level(logging.DEBUG, "comfydeploy_jupyter")

    async def read(prompt_id, text):
        while True:
            # pytest sees a record at our logger, and a copy of it at Jupyter's
            records = {(r.created, r.getMessage()): r for r in caplog.records}.values()
            ours = [r for r in records if r.name.startswith("comfydeploy_jupyter")]
            about = [
                r
                for r in ours
                if prompt_id in r.getMessage() or getattr(r, "prompt_id", "") == prompt_id
            ]
            if any(text in record.getMessage() for record in about):
                return about
            await asyncio.sleep(0.02)

    return read


def check(records, prompt_id):
    """Each line of a run has its id in its text and as a field, and the machine."""
    for record in records:
        assert prompt_id in record.getMessage()
        assert record.prompt_id == prompt_id
        assert record.machine == "local"


async def test_run_from_its_start_to_its_end(api, chain, logged):
    _, body = await api.post("run", {"workflow_api": chain(("TestSleep", {"seconds": 0.1}))})
    prompt_id = body["prompt_id"]
    records = await logged(prompt_id, "ended")
    check(records, prompt_id)
    assert [(r.levelname, r.getMessage()) for r in records if r.levelno >= logging.INFO] == [
        ("INFO", f"Run {prompt_id} is queued on machine local as number {body['number']}"),
        ("INFO", f"Run {prompt_id} ended: success after {body['execution_time']:.2f} s"),
    ]
    details = {r.getMessage().removeprefix(f"Run {prompt_id} ") for r in records[1:-1]}
    assert details == {"is executing"}
    assert (records[-1].status, records[-1].execution_time) == ("success", body["execution_time"])


async def test_run_that_fails(api, chain, logged):
    secret = "hf_" + "s" * 40
    _, body = await api.post("run", {"workflow_api": chain(("TestFail", {"message": secret}))})
    records = await logged(body["prompt_id"], "ended")
    check(records, body["prompt_id"])
    end = records[-1]
    assert (end.status, end.error_type) == ("failed", body["error"]["type"])
    assert (end.node_id, end.node_type) == ("1", "TestFail")
    assert end.getMessage().endswith(f"{body['error']['type']} in node 1 (TestFail)")
    assert secret in body["error"]["message"]
    assert not [r for r in records if secret in str(vars(r))], "nodes may send any text"


async def test_uploads_of_a_run_are_logged_and_counted(api, service, s3, logged, caplog, scrape):
    await api.get("check-status")
    before = await scrape()
    _, body = await api.post("run", ordered(service, image(2)))
    prompt_id = body["prompt_id"]
    assert body["status"] == "success"
    await messages_of(service, prompt_id)
    records = await logged(prompt_id, "ended")
    check(records, prompt_id)
    uploads = [r for r in records if "Upload of" in r.getMessage()]
    assert [(r.levelname, r.state, r.direction, r.kind) for r in uploads] == [
        ("DEBUG", "done", "up", "output")
    ] * 2
    after = await scrape()
    done = {"direction": "up", "kind": "output", "state": "done"}
    assert after.of("transfers_total", **done) - before.of("transfers_total", **done) == 2
    moved = after.of("transfer_bytes_total", direction="up") - before.of(
        "transfer_bytes_total", direction="up"
    )
    assert moved == sum(r.size for r in uploads)
    for text in (*map(str, map(vars, caplog.records)), *after.lines):
        assert KEY not in text
        assert "X-Amz-Signature" not in text
    assert not [line for line in after.lines if "transfers_0" in line or service.url in line]


def run_in(jupyter):
    graph = {"1": {"class_type": "TestText", "inputs": {"text": "a"}}}
    _, answer = jupyter.post("run", {"workflow_api": graph})
    assert answer["status"] == "success"
    return answer


@pytest.mark.parametrize("number", few([1, 0]))
def test_json_records_have_the_documented_form(start_jupyter, comfyui, tmp_path, number):
    config = Config()
    exec(blocks(DOCS / "monitoring.md", "py")[number], {"c": config})
    jupyter = start_jupyter(
        **dict(config), ComfyDeploy={"comfyui_url": comfyui.url, "data_dir": str(tmp_path)}
    )
    answer = run_in(jupyter)
    jupyter.stop()
    console = jupyter.log()
    file = jupyter.root / "comfydeploy.jsonl"
    text = file.read_text() if number else console
    lines = [json.loads(line) for line in text.splitlines() if number or line.startswith("{")]
    ours = [line for line in lines if line.get("prompt_id") == answer["prompt_id"]]
    assert [line["level"] for line in ours if line["level"] != "DEBUG"] == ["INFO", "INFO"]
    assert ours[0]["logger"] == "comfydeploy_jupyter.runs.engine"
    assert ours[-1]["message"].startswith(f"Run {answer['prompt_id']} ended: success")
    assert ours[-1]["execution_time"] == answer["execution_time"]
    connected = [line for line in lines if "is connected to the ComfyUI" in line["message"]]
    assert connected[0]["machine"] == "local"
    if number:
        assert {line["logger"].partition(".")[0] for line in lines} == {"comfydeploy_jupyter"}
        assert "DEBUG" in {line["level"] for line in ours}
        assert f"comfydeploy_jupyter.runs.engine] Run {answer['prompt_id']} ended" in console
    else:
        assert "ServerApp" in {line["logger"] for line in lines}
        assert not [line for line in console.splitlines() if line.startswith("[")]
