"""Batches take a workflow in every form that a run takes, with a real ComfyUI."""

from __future__ import annotations

import io
import json
import uuid
from typing import Any

import pytest
from PIL import Image

from comfydeploy_jupyter.request_models import GRAPH, UI_GRAPH
from tests.helpers.waiting import until_async

FORMS: dict[str, dict[str, Any]] = {
    "api": {"workflow_api": GRAPH},
    "text": {"workflow_api": json.dumps(GRAPH)},
    "editor": {"workflow": UI_GRAPH},
    "editor as text": {"workflow": json.dumps(UI_GRAPH)},
    "node": {"workflow_api_raw": GRAPH},
    "stored": {"workflow_id": ""},
    "version": {"workflow_id": "", "version": 1},
}


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_of_a_workflow(api, form):
    fields = dict(FORMS[form])
    if "workflow_id" in fields:
        saved = {"name": uuid.uuid4().hex, "workflow": UI_GRAPH, "workflow_api": GRAPH}
        fields["workflow_id"] = (await api.post("workflow", saved))[1]["workflow_id"]
    inputs = {"width": {"$vary": [16, 24]}, "1.height": {"$vary": [8, 12], "$with": "width"}}
    body = {**fields, "inputs": {**inputs, "2.filename_prefix": "forms"}, "order": "given"}
    code, reply = await api.post("batch", body)
    assert (code, reply["total"]) == (200, 2), reply
    path = f"batch/{reply['batch_id']}"
    _, batch = await until_async(lambda: api.get(path), lambda found: found[1]["finished_at"])
    assert batch["counts"] == {"success": 2}
    assert batch["workflow_id"] == fields.get("workflow_id")
    sizes = []
    for point in (await api.get(f"{path}/points"))[1]["points"]:
        (image,) = point["run"]["outputs"]["2"]["images"]
        assert image["filename"].startswith("forms")
        content = (await api.raw("GET", "view", params={"filename": image["filename"]})).body
        sizes.append(Image.open(io.BytesIO(content)).size)
    assert sizes == [(16, 8), (24, 12)]
