"""Data folders of every earlier schema: no data is lost, and all of it can be used.

Each file of ``tests/store/old_schemas`` holds one step of the schema as it was released, and rows
as the code of that time wrote them. The first one was made by the first version. They are never
changed.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from comfydeploy_jupyter.files.hashes import FileKey, Hashes, keys_of_blake3, stored_hashes
from comfydeploy_jupyter.runs.records import RunRepository
from comfydeploy_jupyter.store.migrations import MIGRATIONS, migrate
from comfydeploy_jupyter.transfers.callbacks import recover_messages
from comfydeploy_jupyter.workflows.editing import EditedFile, EditedFiles
from tests.helpers.selection import few

pytestmark = pytest.mark.slow

STEPS = sorted(
    (Path(__file__).parents[1] / "store" / "old_schemas").glob("*.sql"),
    key=lambda path: int(path.stem.partition("_")[0]),
)
SESSION = "5e551011"
ASSET = "9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b"
WORKFLOW = "c30aa5ab-e236-4440-a0f2-fbd74bb9962a"


def test_each_step_of_the_schema_has_a_file():
    assert [path.stem for path in STEPS] == [
        f"{n}_{name}" for n, (name, _) in enumerate(MIGRATIONS, 1)
    ]


NUMBERS = [len(STEPS), *range(1, len(STEPS))]  # the last one has the data of all steps


@pytest.fixture(params=few(NUMBERS, 2), ids=lambda number: STEPS[number - 1].stem)
def step(request):
    return request.param


def lay_down(path, step):
    """Make the database after a step."""
    with closing(sqlite3.connect(path)) as connection:
        for path in STEPS[:step]:
            connection.executescript(path.read_text(encoding="utf-8"))


def schema(path):
    """Return every table and index, whatever the white space in its definition."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    return [(name, "".join((sql or "").split())) for name, sql in found]


def test_an_old_schema_is_upgraded_to_the_present_one(tmp_path, step):
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    lay_down(old, step)
    for path in (old, new):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            migrate(connection)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert schema(old) == schema(new)


@pytest.fixture
def extension_config(comfyui, tmp_path, step):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    lay_down(data_dir / "comfydeploy.db", step)
    return {"comfyui_url": comfyui.url, "data_dir": str(data_dir)}


async def test_data_of_an_old_version_can_be_used(api, extension, step):
    for first, check in CHECKS:
        if step >= first:
            await check(api, extension, step)


CHECKS = []


def since(step):
    """Check what the schema has since a step."""

    def note(check):
        CHECKS.append((step, check))
        return check

    return note


READ = [
    (6, "machines", {}, {"id": "era-6", "name": "Far away"}),
    (
        7,
        "check-status",
        {"prompt_id": "era-7-done"},
        {"inputs": {"Width.value": 128}, "version": 2},
    ),
    (8, "runs", {"story": "era-8-done"}, {"cause": "received", "detail": None}),
    (
        *(8, "runs", {"story": "era-8-done"}),
        {"cause": "accepted by ComfyUI", "detail": "as number 11"},
    ),
    (
        *(9, "runs", {"metadata[größe]": '"2"', "metadata[client]": "acme"}),
        {"prompt_id": "era-9-done", "metadata": {"client": "acme", "größe": '"2"'}},
    ),
    (
        *(12, "workflow/presets", {"workflow_id": WORKFLOW}),
        {"name": "Softer light", "inputs": {"3.width": 96}},
    ),
    (
        *(22, "check-status", {"prompt_id": "era-9-done"}),
        {"starred": True, "note": "the best"},
    ),
    (14, f"api/v2/assets/{ASSET}", {}, {"file_path": "photo.png", "size_bytes": 5}),
]


@since(1)
async def what_is_read(api, extension, step):
    for first, route, query, expected in READ:
        if step >= first:
            code, found = await api.get(route, **query)
            rows = found if isinstance(found, list) else [found]
            shown = [{key: row[key] for key in expected} for row in rows]
            assert (code, expected in shown) == (200, True), (route, shown)


@since(1)
async def runs(api, extension, step):
    _, listed = await api.get("runs", limit="1000")
    by_id = {run["prompt_id"]: run for run in listed}
    done = by_id["era-1-done"]
    assert (done["status"], done["created_at"]) == ("success", "2026-01-02T03:04:05.678Z")
    code, done = await api.get("check-status", prompt_id="era-1-done")
    assert (code, done["execution_time"], done["seeds"]) == (200, 1.25, {"1.seed": 7})
    assert done["outputs"]["2"]["images"][0]["filename"] == "ComfyUI_00001_.png"
    _, failed = await api.get("check-status", prompt_id="era-1-failed")
    assert (failed["status"], failed["error"]["type"]) == ("failed", "MemoryError")
    assert by_id["era-1-queued"]["status"] == "queued"
    # the graph that a run of then and a run of now have in common
    prompt, workflow = await RunRepository(extension.services.database).prompt("era-1-done")
    assert json.loads(workflow)["nodes"][0]["type"] == "EmptyImage"
    await api.run(json.loads(prompt))


@since(2)
async def hashes(api, extension, step):
    known = extension.services.database
    small = FileKey("/models/checkpoints/small.safetensors", 4096, 1767322800000000001, 42)
    odd = FileKey("/models/loras/é.safetensors", 7, 1767322800000000002, (1 << 64) - 5)
    assert await known.read(stored_hashes, small) == Hashes("ab" * 32, None)
    assert await known.read(stored_hashes, odd) == Hashes("cd" * 32, None)
    assert await known.read(stored_hashes, replace(small, ctime_ns=1)) == Hashes("ab" * 32, None)


@since(3)
async def workflows(api, extension, step):
    _, found = await api.get("workflows", search="as it came")
    assert [(w["id"], w["name"]) for w in found] == [(WORKFLOW, "Wider")]
    _, first = await api.get("workflow/version", workflow_id=WORKFLOW, version="1")
    assert first["workflow"]["nodes"][0]["type"] == "EmptyImage"
    assert first["workflow_api"]["1"]["inputs"]["width"] == 64
    assert (await api.run(workflow_id=WORKFLOW))["version"] == 2
    first["workflow_api"]["1"]["inputs"]["height"] = 32
    body = {"workflow_id": WORKFLOW, "workflow_api": first["workflow_api"]}
    code, third = await api.post("workflow/version", body)
    assert (code, third["version"]) == (200, 3)


@since(4)
async def transfers(api, extension, step):
    _, reply = await api.get("upload-queue-status", prompt_id="era-1-done")
    (upload,) = reply["uploads"]
    assert (upload["id"], upload["state"]) == ("era-4-failed", "failed")
    assert upload["error"] == "it answered 503"
    origins = await extension.services.transfers.origins()
    model = "small.safetensors"
    assert origins[f"/models/checkpoints/{model}"] == f"https://example.org/{model}"


@since(5)
async def callback_targets(api, extension, step):
    (target,), (message,) = await extension.services.database.write(
        recover_messages, (SESSION,), "another"
    )
    assert (target.status_endpoint, target.token) == ("https://example.org/status", "era-token")
    assert (message.number, message.body) == (1, b'{"status":"queued"}')


@since(11)
async def pinned(api, extension, step):
    code, body = await api.post("runs/delete", {"prompt_ids": ["era-11-pinned"]})
    assert (code, body["runs"], body["kept"][0]["reason"]) == (200, 0, "it is pinned")


@since(15)
async def deleted_workflow(api, extension, step):
    tagged = "0f0e9c52-1f0b-4a55-9a3b-4f8a3a6f6d15"
    code, _ = await api.get("workflow", workflow_id=tagged)
    assert code == 404
    await api.post("workflow/restore", {"workflow_id": tagged})
    _, (found,) = await api.get("workflows", search="GRÖSSE")
    assert (found["id"], found["tags"]) == (tagged, ["People", "Größe"])


@since(13)
async def blake3(api, extension, step):
    known = extension.services.database
    digest = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
    (key,) = await known.read(keys_of_blake3, digest)
    assert (key.path, key.size) == ("/models/checkpoints/both.safetensors", 5)
    hashes = await known.read(stored_hashes, key)
    assert hashes.blake3 == digest


@since(19)
async def ctimes(api, extension, step):
    known = extension.services.database
    (key,) = await known.read(keys_of_blake3, "12" * 32)
    assert key.ctime_ns == 1767322800000000003
    assert await known.read(stored_hashes, key) == Hashes("ef" * 32, "12" * 32)
    assert await known.read(stored_hashes, replace(key, ctime_ns=1767322800000000004)) is None


@since(14)
async def idempotency_keys(api, extension, step):
    body = {"workflow": {"1": {"class_type": "EmptyImage", "inputs": {}}}}
    refusals = [(14, "era-11", "idempotency_key_reuse")]
    # It was deleted so long ago that the key can be used again.
    refusals.append((18, "era-18", "invalid_workflow"))
    for first, key, error in refusals:
        if step >= first:
            _, reply = await api.post("api/v2/jobs", body, headers={"Idempotency-Key": key})
            assert reply["error"]["code"] == error


@since(16)
async def edited_file(api, extension, step):
    edited = await EditedFiles(extension.services.database).find(path="era.json")
    assert edited == EditedFile("era.json", WORKFLOW, "ab")


@since(24)
async def a_batch_that_waits_for_another_one(api, extension, step):
    _, found = await api.get("batch/era-24-waits")
    assert (found["state"], found["waiting_for"], found["total"]) == ("paused", ["era-21-batch"], 0)


@since(21)
async def batches(api, extension, step):
    _, found = await api.get("batches", key="sunsets")
    assert [(batch["batch_id"], batch["state"]) for batch in found["batches"]] == [
        ("era-21-batch", "done")
    ]
    _, found = await api.get("batch/era-21-batch")
    assert found["axes"] == [{"names": ["1.width"], "values": [[64], [128]]}]
    _, found = await api.get("batch/era-21-batch/points", **{"values[1.width]": "64"})
    assert [(point["status"], point["prompt_id"]) for point in found["points"]] == [
        ("success", "era-9-done")
    ]
