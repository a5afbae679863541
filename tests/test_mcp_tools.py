"""The tools for agents, served by the real jupyter-server-mcp and used by a real MCP client."""

import ast
import asyncio
import base64
import io
import json
import time
from contextlib import asynccontextmanager

import pytest
from PIL import Image

from comfydeploy_jupyter.client import connect
from comfydeploy_jupyter.mcp_tools import MAX_ITEMS, MAX_TEXT, READING, WRITING
from tests.helpers.jupyter import LAB
from tests.helpers.processes import REPOSITORY
from tests.test_docs import DOCS, blocks

PICTURE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 800, "height": 400, "batch_size": 1, "color": 0xFF0000},
        "_meta": {"title": "Canvas"},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "mcp"}},
}
SLEEP = {
    "1": {"class_type": "TestSleep", "inputs": {"seconds": 60, "token": "mcp"}},
    "2": {"class_type": "TestText", "inputs": {"text": "x", "token": "", "anything": ["1", 0]}},
}


def start(start_jupyter, comfyui, data_dir, **settings):
    return start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.path),
            "data_dir": str(data_dir),
            **settings,
        },
        ServerApp={
            "jpserver_extensions": {
                **dict.fromkeys(LAB, False),
                "comfydeploy_jupyter": True,
                "jupyter_server_mcp": True,
            }
        },
        MCPExtensionApp={"mcp_port": 0},
    )


@pytest.fixture(scope="module")
def writable(start_jupyter, comfyui, tmp_path_factory):
    """A Jupyter server that gives agents all permissions."""
    return start(start_jupyter, comfyui, tmp_path_factory.mktemp("data"), mcp_write=True)


@asynccontextmanager
async def agent(jupyter):
    deadline = time.monotonic() + 60
    while not (files := list(jupyter.runtime_dir.glob("jpserver-mcp-*.json"))):
        assert time.monotonic() < deadline, "jupyter-server-mcp did not start"
        await asyncio.sleep(0.1)
    from fastmcp import Client  # takes seconds, which every process of the tests would pay

    async with Client(json.loads(files[0].read_text())["url"]) as client:
        yield client


def tool_error(match=None):
    """Expect an error of a tool."""
    from fastmcp.exceptions import ToolError

    return pytest.raises(ToolError, match=match)


async def use(client, tool, **arguments):
    return (await client.call_tool(tool, arguments)).data


@pytest.fixture
def kept(writable):
    """The id of a stored workflow."""
    comfy = connect(writable.url, writable.token)
    return comfy.workflows.save(PICTURE, "Red canvas").id


async def test_without_the_setting_agents_have_reading_tools_only(start_jupyter, comfyui, tmp_path):
    async with agent(start(start_jupyter, comfyui, tmp_path)) as client:
        assert {tool.name for tool in await client.list_tools()} == set(READING)
        with tool_error():
            await use(client, "comfyui_run_workflow", workflow_id="x")


async def test_an_agent_finds_runs_and_looks_at_a_workflow(writable, kept):
    async with agent(writable) as client:
        assert {tool.name for tool in await client.list_tools()} == {*READING, *WRITING}
        [listed] = [
            row
            for row in await use(client, "comfyui_list_workflows", search="red")
            if row["workflow_id"] == kept
        ]
        assert listed == {"workflow_id": kept, "name": "Red canvas", "latest_version": 1}
        described = await use(client, "comfyui_describe_workflow", workflow_id=kept)
        width = next(row for row in described["inputs"] if row["key"] == "Canvas.width")
        assert (width["value"], width["kind"], width["min"]) == (800, "int", 1)

        wrong = await use(
            client, "comfyui_validate_workflow", workflow_id=kept, inputs={"Canvas.width": -5}
        )
        assert wrong["valid"] is False
        assert "width" in str(wrong["problems"])
        inputs = {"Canvas.width": 900}
        checked = await use(client, "comfyui_validate_workflow", workflow_id=kept, inputs=inputs)
        assert checked == {"valid": True, "problems": []}

        run = await use(client, "comfyui_run_workflow", workflow_id=kept, inputs=inputs)
        reply = await use(client, "comfyui_wait_for_run", run_id=run["run_id"], seconds=60)
        assert reply["status"] == "success"
        assert reply["files"][0]["filename"].startswith("mcp")
        [seen] = (await client.call_tool("comfyui_view_picture", {"run_id": run["run_id"]})).content
        picture = Image.open(io.BytesIO(base64.b64decode(seen.data)))
        assert (picture.format, picture.size) == ("PNG", (512, 228))
        assert picture.convert("RGB").getpixel((9, 9)) == pytest.approx((255, 0, 0), abs=3)
        with tool_error("number: the run has 1 picture"):
            await use(client, "comfyui_view_picture", run_id=run["run_id"], number=1)
        rows = await use(client, "comfyui_list_runs", limit=1)
        assert rows[0]["run_id"] == run["run_id"]


async def test_an_agent_chains_workflows(writable, kept):
    graph = {"1": {"class_type": "TestText", "inputs": {"text": "", "token": "chain"}}}
    sleep = {"inputs": {**SLEEP["1"]["inputs"], "seconds": 1.5, "token": "chain"}}
    workflows = connect(writable.url, writable.token).workflows
    first = workflows.save({**SLEEP, "1": {**SLEEP["1"], **sleep}}, "Nap").id
    second = workflows.save(graph, "Say").id
    async with agent(writable) as client:
        one = (await use(client, "comfyui_run_workflow", workflow_id=first))["run_id"]
        inputs = {"text": {"$output": {"run": one}}}
        run = await use(client, "comfyui_run_workflow", workflow_id=second, inputs=inputs)
        assert (run["status"], run["waiting_for"]) == ("not-started", [one])
        [row] = await use(client, "comfyui_list_runs", status="not-started")
        assert row["live_status"] == f"Waiting for the run {one}, whose output it needs"
        reply = await use(client, "comfyui_wait_for_run", run_id=run["run_id"], seconds=60)
        assert (reply["status"], reply["texts"]) == ("success", ["x"])


async def test_an_agent_runs_a_batch(writable, kept):
    async with agent(writable) as client:
        sizes = {"Canvas.width": {"$vary": [32, 48, 64]}, "Canvas.height": {"$vary": [16, 24]}}
        batch = await use(
            client,
            "comfyui_submit_batch",
            workflow_id=kept,
            inputs={**sizes, "filename_prefix": "agent"},
            title="Sizes",
            labels={"by": "agent"},
        )
        assert batch["total"] == 6
        batch_id = batch["batch_id"]
        ended = await use(client, "comfyui_wait_for_batch", batch_id=batch_id)
        assert (ended["state"], ended["counts"]) == ("done", {"success": 6})
        assert (ended["title"], ended["labels"]) == ("Sizes", {"by": "agent"})
        assert await use(client, "comfyui_get_batch_status", batch_id=batch_id) == ended
        listed = await use(client, "comfyui_list_batches", state="done", limit=1)
        assert listed == [ended]
        output = {"batch_id": batch_id, "status": "success"}
        first = await use(client, "comfyui_get_batch_output", **output, limit=4)
        assert (first["total"], first["next_offset"]) == (6, 4)
        rest = await use(client, "comfyui_get_batch_output", **output, offset=4)
        assert "next_offset" not in rest
        points = [*first["points"], *rest["points"]]
        assert [each["values"]["Canvas.width"] for each in points] == [32, 32, 48, 48, 64, 64]
        assert all(each["files"][0].startswith("agent") for each in points)
        view = {"run_id": points[-1]["run_id"]}
        [seen] = (await client.call_tool("comfyui_view_picture", view)).content
        assert Image.open(io.BytesIO(base64.b64decode(seen.data))).size == (64, 24)


async def test_the_example_of_the_documents(writable):
    (code,) = blocks(DOCS / "agents.md", "python")
    sunset = REPOSITORY / "notebooks" / "sunset.json"
    connect(writable.url, writable.token).workflows.save(sunset, "Sunset")
    async with agent(writable) as client:
        url = client.transport.url
    compiled = compile(
        code.replace("http://localhost:3001/mcp", url),
        "agents.md",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )
    names = {}
    await eval(compiled, names)
    assert names["ended"].data["counts"] == {"success": 4}
    assert all(point["files"] for point in names["output"].data["points"])


async def test_an_agent_gets_little_of_a_large_batch_and_cancels_it(writable, kept):
    graphs = [one_node("TestFail", message=f"{number} " + "é" * 5000) for number in range(7)]
    texts = [one_node("TestText", text="x" * 4000, token=str(number)) for number in range(60)]
    nap = {"1": SLEEP["1"], "2": {**SLEEP["2"], "inputs": {**SLEEP["2"]["inputs"], "text": "z"}}}
    async with agent(writable) as client:
        batch = await use(client, "comfyui_submit_batch", prompts=[*graphs, *texts])
        batch_id = batch["batch_id"]
        ended = await use(client, "comfyui_wait_for_batch", batch_id=batch_id)
        assert ended["counts"] == {"success": 60, "failed": 7}
        assert [each["point"] for each in ended["errors"]] == [0, 1, 2, 3, 4]
        assert len(json.dumps(ended, ensure_ascii=False)) < 10_000
        output = await use(client, "comfyui_get_batch_output", batch_id=batch_id, limit=50)
        assert len(output["points"]) == 50
        assert len(json.dumps(output, ensure_ascii=False)) < 100_000
        with tool_error("limit"):
            await use(client, "comfyui_get_batch_output", batch_id=batch_id, limit=1000)
        batch_id = (await use(client, "comfyui_submit_batch", prompts=[SLEEP, nap]))["batch_id"]
        still = await use(client, "comfyui_wait_for_batch", batch_id=batch_id, seconds=0.5)
        assert still["state"] == "running"
        each = {"filename_prefix": {"$each": [{"batch": batch_id, "file": "texts"}]}}
        over = await use(client, "comfyui_submit_batch", workflow_id=kept, inputs=each)
        waits = await use(client, "comfyui_get_batch_status", batch_id=over["batch_id"])
        assert (waits["total"], waits["why"]) == (0, f"Waiting for outputs of {batch_id}")
        cancelled = await use(client, "comfyui_cancel_batch", batch_id=batch_id)
        assert cancelled["state"] == "cancelled"
        ended = await use(client, "comfyui_wait_for_batch", batch_id=batch_id)
        assert ended["counts"] == {"cancelled": 2}
        ended = await use(client, "comfyui_wait_for_batch", batch_id=over["batch_id"])
        assert (ended["state"], ended["total"]) == ("done", 0)


async def test_calls_that_wait_for_a_long_run_delay_no_others_and_it_is_cancelled(writable, kept):
    sleep = connect(writable.url, writable.token).workflows.save(SLEEP, "Sleep").id
    async with agent(writable) as client:
        run_id = (await use(client, "comfyui_run_workflow", workflow_id=sleep))["run_id"]
        reply = await use(client, "comfyui_wait_for_run", run_id=run_id, seconds=0.5)
        assert reply["status"] in ("queued", "running")
        waits = [
            asyncio.ensure_future(use(client, "comfyui_wait_for_run", run_id=run_id, seconds=60))
            for _ in range(16)  # asyncio has fewer threads on a small machine
        ]
        await asyncio.sleep(0.2)
        describing = use(client, "comfyui_describe_workflow", workflow_id=kept)
        assert (await asyncio.wait_for(describing, 20))["name"] == "Red canvas"
        assert (await use(client, "comfyui_cancel_run", run_id=run_id))["cancelled"] is True
        assert {reply["status"] for reply in await asyncio.gather(*waits)} == {"cancelled"}


async def test_machine_models_and_memory(writable, kept):
    async with agent(writable) as client:
        [machine] = await use(client, "comfyui_machine_status")
        assert (machine["machine"], machine["status"]) == ("local", "ready")
        assert machine["comfyui_version"] == connect(writable.url, writable.token).version()
        models = await use(client, "comfyui_list_models", folder="checkpoints", search="nothing")
        assert models["count"] == 0
        assert "checkpoints" in models["folders"]
        fetched = await use(client, "comfyui_fetch_models", workflow_id=kept)
        assert fetched["models"] == []
        freed = await use(client, "comfyui_free_memory")
        assert freed["pending"] is False


def one_node(class_type, **inputs):
    """Return a graph with a node, and one that reads it if it has no outputs of its own."""
    graph = {"1": {"class_type": class_type, "inputs": inputs}}
    if class_type == "TestFail":
        graph["2"] = {"class_type": "TestText", "inputs": {"text": "x", "anything": ["1", 0]}}
    return graph


WIDE = {**PICTURE["1"], "inputs": {**PICTURE["1"]["inputs"], "width": 0}}
OTHER = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
SMALL = {"width": 8, "height": 8, "batch_size": MAX_ITEMS + 1, "color": 0}
MANY = {**one_node("EmptyImage", **SMALL), "2": {**OTHER, "inputs": {"images": ["1", 0]}}}
TOLD = [
    (
        one_node("TestFail", message="first line\nsecond line"),
        lambda it: it["error"].endswith("first line") and it["details"] == "second line",
    ),
    (
        one_node("TestFail", message="é" * 5000, token="cut"),
        lambda it: "ValueError" in it["error"] and len(it["error"]) < MAX_TEXT + 50,
    ),
    (
        one_node("TestText", text="é" * 5000, token=""),
        lambda it: "5000 characters" in it["texts"][0] and len(it["texts"][0]) < MAX_TEXT + 50,
    ),
    (
        one_node("TestText", text="half \ud83d", token=""),
        lambda it: (it["status"], it["texts"]) == ("success", ["half ?"]),
    ),
    (
        MANY,
        lambda it: (
            (len(it["files"]), it["files_in_all"]) == (MAX_ITEMS, MAX_ITEMS + 1)
            and "texts_in_all" not in it
        ),
    ),
    (
        {**PICTURE, "3": WIDE, "4": OTHER},
        lambda it: it["status"] == "success" and "width" in it["not_executed"][0],
    ),
    (
        one_node("TestLongText", length=40 * 1024**2, token="agent"),  # more than the server reads
        lambda it: it["texts"] == [] and "texts are missing" in it["warnings"][0],
    ),
]


async def test_an_agent_is_told_briefly_how_a_run_ended(writable):
    comfy = connect(writable.url, writable.token)
    runs = [comfy.submit(graph) for graph, _ in TOLD]
    async with agent(writable) as client:
        for run, (graph, is_told) in zip(runs, TOLD, strict=True):
            reply = await use(client, "comfyui_wait_for_run", run_id=run.prompt_id)
            assert is_told(reply), (graph, reply)
        failed = await use(client, "comfyui_list_runs", status="failed", limit=2)
        assert failed[1]["details"] == "second line"
        kept = comfy.workflows.save(TOLD[2][0], "Long").id
        (row,) = (await use(client, "comfyui_describe_workflow", workflow_id=kept))["inputs"][:1]
        assert "5000 characters" in row["value"]


WRONG = [
    ("comfyui_describe_workflow", {"workflow_id": "none"}, "none"),
    ("comfyui_wait_for_run", {"run_id": "none"}, "none"),
    ("comfyui_wait_for_run", {"run_id": "none", "seconds": 1e9}, "seconds"),
    ("comfyui_wait_for_run", {"run_id": ""}, "must not be empty"),
    ("comfyui_list_runs", {"status": "sleeping"}, "status"),
    ("comfyui_list_runs", {"limit": 0}, "limit"),
    ("comfyui_run_workflow", {"workflow_id": "none"}, "none"),
    ("comfyui_run_workflow", {"inputs": {"1.widht": 9}}, r"1\.widht"),
    (
        "comfyui_run_workflow",
        {"inputs": {"1.width": 0, "1.height": "tall"}},
        r"Canvas\.width: must be at least 1, not 0; .*Canvas\.height: must",
    ),
    ("comfyui_free_memory", {"machine": "none"}, "machine"),
    ("comfyui_submit_batch", {}, "workflow"),
    ("comfyui_submit_batch", {"inputs": {"1.width": 8}}, "no input with several values"),
    (
        "comfyui_submit_batch",
        {"inputs": {"1.width": {"$vary": [8, 0, 9]}}},
        r"point 1: inputs\.Canvas\.width: must be at least 1, not 0",
    ),
    (
        "comfyui_submit_batch",
        {"inputs": {f"1.{name}": {"$vary": [*range(1, 1001)]} for name in ("width", "height")}},
        "inputs: have 1000000 points",
    ),
    ("comfyui_get_batch_status", {"batch_id": "none"}, "none"),
    ("comfyui_get_batch_output", {"batch_id": "none"}, "none"),
    ("comfyui_wait_for_batch", {"batch_id": "none"}, "none"),
    ("comfyui_cancel_batch", {"batch_id": "none"}, "none"),
    ("comfyui_list_batches", {"state": "sleeping"}, "state"),
]


async def test_wrong_arguments_are_named_and_nothing_runs(writable, kept):
    async with agent(writable) as client:
        before = await use(client, "comfyui_list_runs")
        for tool, arguments, part in WRONG:
            given = {"workflow_id": kept, **arguments} if "inputs" in arguments else arguments
            with tool_error(part):
                await use(client, tool, **given)
        assert await use(client, "comfyui_list_runs") == before
