"""Batches take a workflow in every form that a run takes, with a real ComfyUI."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image

from comfydeploy_jupyter.request_models import GRAPH, UI_GRAPH
from tests.batches.test_batches import ended, points

FORMS: dict[str, dict[str, Any]] = {
    "api": {"workflow_api": GRAPH},
    "text": {"workflow_api": json.dumps(GRAPH)},
    "editor": {"workflow": UI_GRAPH},
    "editor as text": {"workflow": json.dumps(UI_GRAPH)},
    "node": {"workflow_api_raw": GRAPH},
    "stored": {"workflow_id": ""},
    "version": {"workflow_id": "", "version": 1},
}


async def test_each_form_of_a_workflow(api):
    for number, (form, fields) in enumerate(FORMS.items()):
        asked = dict(fields)
        if "workflow_id" in fields:
            saved = {"name": form, "workflow": UI_GRAPH, "workflow_api": GRAPH}
            asked["workflow_id"] = (await api.post("workflow", saved))[1]["workflow_id"]
        widths, heights = (16 + number, 24 + number), (8, 12)
        inputs = {
            "width": {"$vary": widths},
            "1.height": {"$vary": heights, "$with": "width"},
            "2.filename_prefix": "forms",
        }
        code, reply = await api.post("batch", {**asked, "inputs": inputs, "order": "given"})
        assert (code, reply["total"]) == (200, 2), (form, reply)
        batch = await ended(api, reply["batch_id"])
        assert batch["counts"] == {"success": 2}, form
        assert batch["workflow_id"] == asked.get("workflow_id")
        sizes = []
        for point in await points(api, reply["batch_id"]):
            (image,) = point["run"]["outputs"]["2"]["images"]
            assert image["filename"].startswith("forms")
            content = (await api.raw("GET", "view", params={"filename": image["filename"]})).body
            sizes.append(Image.open(io.BytesIO(content)).size)
        assert sizes == [*zip(widths, heights, strict=True)], form
