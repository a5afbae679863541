"""comfydeploy, the published SDK of the ComfyDeploy service, with a real Jupyter and ComfyUI."""

import json
import time
import uuid

import httpx
import pytest
import requests
from comfydeploy import ComfyDeploy
from comfydeploy.models.components import DeploymentRunRequest, WorkflowRunWebhookBody
from comfydeploy.models.errors import HTTPValidationError, SDKError

from comfydeploy_jupyter import connect
from tests.client.test_real import slow, stepping
from tests.helpers import bodies
from tests.helpers.waiting import until


class Webhook:
    """Where a service gets messages without a key."""

    def __init__(self, service):
        self.url = f"{service.url}/status"
        self.replacements = service.replacements["status"]
        self._callbacks = service.callbacks

    @property
    def messages(self):
        assert {token for token, _ in self._callbacks} <= {None}
        return [body for _, body in self._callbacks]


@pytest.fixture
def receiver(bare_service):
    return Webhook(bare_service)


def sdk_of(server):
    # Closing an asynchronous client of its own, it may block the thread in which it is collected.
    return ComfyDeploy(
        bearer=server.token,
        server_url=f"{server.url}comfyui-deploy",
        async_client=httpx.AsyncClient(),
    )


@pytest.fixture
def sdk(jupyter):
    return sdk_of(jupyter)


def picture():
    text = {"class_type": "TestText", "inputs": {"text": "a text", "token": uuid.uuid4().hex}}
    return {**bodies.picture(f"sdk_{uuid.uuid4().hex}"), "3": text}


def start(sdk, stored, **fields):
    """Run a deployment; return the id of its run."""
    queued = sdk.run.deployment.queue(request={"deployment_id": stored.id, **fields})
    return str(queued.create_run_response.run_id)


def keep(server, graph):
    return connect(server.url, server.token).workflows.save(graph, f"Deployed {uuid.uuid4().hex}")


def classes(outputs):
    return {output["node_id"]: output["node_meta"]["node_class"] for output in outputs}


def ended(sdk, run_id):
    def read():
        return sdk.run.get(run_id=run_id).workflow_run_model

    return until(read, lambda run: run.status in ("success", "failed", "cancelled"))


def test_a_deployment_is_run(sdk, jupyter):
    stored = keep(jupyter, picture())
    queued = sdk.run.deployment.queue(
        request=DeploymentRunRequest(
            deployment_id=stored.id, inputs={"1.width": 48, "text": "another"}, gpu="A10G"
        )
    )
    run_id = queued.create_run_response.run_id
    run = ended(sdk, run_id)
    assert (run.status, run.workflow_id, run.progress) == ("success", stored.id, 1.0)
    assert run.workflow_inputs == {"1.width": 48, "text": "another"}
    assert run.created_at <= run.started_at <= run.ended_at
    by_node = {output.node_id: output.data for output in run.outputs}
    assert by_node["3"]["text"] == ["another"]
    (image,) = by_node["2"]["images"]
    headers = {"Authorization": f"Bearer {jupyter.token}"}
    content = requests.get(image.url, headers=headers, timeout=30)
    assert (content.status_code, content.content[:4]) == (200, b"\x89PNG")
    comfy = connect(jupyter.url, jupyter.token)
    known = next(found for found in comfy.runs() if found.prompt_id == run_id)
    assert known.known["workflow_id"] == stored.id


def test_one_version_of_a_workflow_is_a_deployment(sdk, jupyter):
    graph = picture()
    stored = keep(jupyter, graph)
    graph["3"]["inputs"]["text"] = "second"
    connect(jupyter.url, jupyter.token).workflows.save(graph, workflow_id=stored.id)
    ids = {version.number: version.record["id"] for version in stored.versions()}
    for deployment_id, version_id, text in (
        (ids[1], ids[1], "a text"),
        (ids[2], ids[2], "second"),
        (stored.id, ids[2], "second"),
    ):
        queued = sdk.run.deployment.queue(request={"deployment_id": deployment_id})
        run = ended(sdk, queued.create_run_response.run_id)
        assert [o.data["text"] for o in run.outputs if o.node_id == "3"] == [[text]]
        assert run.workflow_version_id == version_id


def test_a_run_is_cancelled(sdk, jupyter):
    run_id = start(sdk, keep(jupyter, slow(60)))
    until(lambda: sdk.run.get(run_id=run_id).workflow_run_model.status == "running")
    running = sdk.run.get(run_id=run_id).workflow_run_model
    assert running.live_status
    assert running.ended_at is None
    for _ in range(2):  # once more changes nothing
        sdk.run.cancel(run_id=run_id)
        assert ended(sdk, run_id).status == "cancelled"


def test_errors_have_the_form_of_the_service(sdk, jupyter):
    stored = keep(jupyter, {key: node for key, node in picture().items() if key != "3"})
    for inputs, loc, kind in (
        ({"1.width": 0}, ["body", "inputs", "1.width"], "invalid_input"),
        ({"no such": 1}, ["body", "inputs", "no such"], "unknown_input"),
    ):
        with pytest.raises(HTTPValidationError) as wrong:
            sdk.run.deployment.queue(request={"deployment_id": stored.id, "inputs": inputs})
        (detail,) = wrong.value.data.detail
        found = [*detail.loc[:1], *".".join(map(str, detail.loc[1:])).split(".", 1)]
        assert (found, detail.type) == (loc, kind)
    with pytest.raises(HTTPValidationError):
        sdk.run.deployment.queue(request={"deployment_id": stored.id, "webhook": "no address"})
    refused = keep(jupyter, {"1": {"class_type": "NoSuchNode", "inputs": {}}})
    with pytest.raises(HTTPValidationError):
        sdk.run.deployment.queue(request={"deployment_id": refused.id})
    for call in (
        lambda: sdk.run.deployment.queue(request={"deployment_id": "none"}),
        lambda: sdk.run.get(run_id="none"),
        lambda: sdk.run.cancel(run_id="none"),
    ):
        with pytest.raises(SDKError) as missing:
            call()
        assert missing.value.status_code == 404
        assert isinstance(json.loads(missing.value.body)["detail"], str)
    unauthorized = ComfyDeploy(bearer="wrong", server_url=f"{jupyter.url}comfyui-deploy")
    with pytest.raises(SDKError) as unknown:
        unauthorized.run.get(run_id="none")
    assert unknown.value.status_code == 403


def test_a_webhook_receives_the_end_of_a_run(sdk, jupyter, receiver):
    stored = keep(jupyter, picture())
    run_id = start(sdk, stored, webhook=receiver.url)
    until(lambda: receiver.messages)
    body = WorkflowRunWebhookBody.model_validate(receiver.messages[0])
    assert (body.run_id, body.status.value, body.progress) == (run_id, "success", 1.0)
    (image,) = next(o.data["images"] for o in body.outputs if o.node_id == "2")
    assert image.url.startswith(f"{jupyter.url}comfyui-deploy/view?")
    assert classes(receiver.messages[0]["outputs"]) == {"2": "SaveImage", "3": "TestText"}
    assert len(receiver.messages) == 1
    until(lambda: told_of_webhook(sdk, run_id) == "success")
    assert told_of_webhook(sdk, start(sdk, stored)) is None


def told_of_webhook(sdk, run_id):
    return sdk.run.get(run_id=run_id).workflow_run_model.webhook_status


def test_outputs_of_any_form_are_reported(sdk, jupyter, receiver):
    links = [{"url": "https://a.test"}, {"filename": 7, "url": "b"}]
    shown = {"links": links, "number": [1.5], "text": ["half \ud83d"]}
    inputs = {"files": "{}", "output": json.dumps(shown), "anything": None, "token": ""}
    stored = keep(jupyter, {"1": {"class_type": "TestOutput", "inputs": inputs}})
    run_id = start(sdk, stored, webhook=receiver.url)
    until(lambda: receiver.messages)
    body = WorkflowRunWebhookBody.model_validate(receiver.messages[0])
    assert body.status.value == "success"
    run = sdk.run.get(run_id=run_id).workflow_run_model
    assert [output.data["number"] for output in run.outputs] == [["1.5"]]
    assert [json.loads(text) for text in run.outputs[0].data["links"]] == links
    assert run.outputs[0].data["text"] == body.outputs[0].data["text"] == ["half ?"]


def test_a_webhook_receives_each_state_if_requested(sdk, jupyter, receiver):
    stored = keep(jupyter, stepping(4, 0.2))
    start(sdk, stored, webhook=receiver.url, webhook_intermediate_status=True)
    until(lambda: receiver.messages and receiver.messages[-1]["status"] == "success")
    for message in receiver.messages:
        WorkflowRunWebhookBody.model_validate(message)
    statuses = list(dict.fromkeys(message["status"] for message in receiver.messages))
    assert [s for s in statuses if s != "queued"] == ["running", "success"]
    progress = [message["progress"] for message in receiver.messages]
    assert progress == sorted(progress)
    assert any(message["live_status"] for message in receiver.messages)


@pytest.mark.thorough
def test_a_webhook_is_kept_until_it_is_delivered(start_jupyter, comfyui, receiver, tmp_path):
    """A receiver that never replies delays no run, and no end of the server."""
    settings = {"comfyui_url": comfyui.url, "data_dir": str(tmp_path)}
    first = start_jupyter(ComfyDeploy=settings)
    stored, sdk = keep(first, picture()), sdk_of(first)
    receiver.replacements.extend(["never"] * 2)
    run_ids = []
    for left in (1, 0):
        run_ids.append(start(sdk, stored, webhook=receiver.url))
        assert ended(sdk, run_ids[-1]).status == "success"
        until(lambda left=left: len(receiver.replacements) == left)
    receiver.replacements.extend([503] * 100)
    run_ids.append(start(sdk, stored, webhook=receiver.url))
    assert ended(sdk, run_ids[-1]).status == "success"
    until(lambda: len(receiver.replacements) < 100)
    assert told_of_webhook(sdk, run_ids[-1]) == "pending"
    began = time.monotonic()
    first.stop()  # which kills it after 15 s
    assert time.monotonic() - began < 12
    assert receiver.messages == []
    receiver.replacements.clear()
    second = start_jupyter(ComfyDeploy=settings)
    sdk = sdk_of(second)
    until(lambda: len(receiver.messages) == 3)
    assert sorted(message["run_id"] for message in receiver.messages) == sorted(run_ids)
    assert {message["status"] for message in receiver.messages} == {"success"}
    expected = {"2": "SaveImage", "3": "TestText"}
    for run_id, message in zip(run_ids, receiver.messages, strict=True):
        assert classes(message["outputs"]) == expected
        until(lambda run_id=run_id: told_of_webhook(sdk, run_id) == "success")
        run = ended(sdk, run_id)
        assert run.status == "success"
        shown = {output.node_id: output.node_meta["node_class"] for output in run.outputs}
        assert shown == expected
    second.stop()
