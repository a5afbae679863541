"""The tools for agents, served by the real jupyter-server-mcp and used by a real MCP client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from comfydeploy_jupyter.client import connect
from comfydeploy_jupyter.mcp_tools import MAX_ITEMS, MAX_TEXT, READING, WRITING
from tests.helpers.jupyter import LAB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastmcp import Client

    from tests.helpers.jupyter import JupyterProcess

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


def start(start_jupyter: Any, comfyui: Any, data_dir: Any, **settings: Any) -> JupyterProcess:
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
def writable(start_jupyter, comfyui, tmp_path_factory) -> JupyterProcess:
    """A Jupyter server that gives agents all permissions."""
    return start(start_jupyter, comfyui, tmp_path_factory.mktemp("data"), mcp_write=True)


@asynccontextmanager
async def agent(jupyter: JupyterProcess) -> AsyncIterator[Client]:
    deadline = time.monotonic() + 60
    while not (files := list(jupyter.runtime_dir.glob("jpserver-mcp-*.json"))):
        assert time.monotonic() < deadline, "jupyter-server-mcp did not start"
        await asyncio.sleep(0.1)
    from fastmcp import Client  # takes seconds, which every process of the tests would pay

    async with Client(json.loads(files[0].read_text())["url"]) as client:
        yield client


def tool_error(match: str | None = None) -> Any:
    """Expect an error of a tool."""
    from fastmcp.exceptions import ToolError

    return pytest.raises(ToolError, match=match)


async def use(client: Client, tool: str, **arguments: Any) -> Any:
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


async def test_each_tool_says_what_it_is_for(writable):
    async with agent(writable) as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
    assert set(tools) == {*READING, *WRITING}
    for tool in tools.values():
        assert len(tool.description) > 40
        assert "ComfyUI" in tool.description or "stored workflow" in tool.description


async def test_an_agent_finds_runs_and_looks_at_a_workflow(writable, kept):
    async with agent(writable) as client:
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


async def test_a_long_run_can_be_waited_for_again_and_cancelled(writable):
    kept = connect(writable.url, writable.token).workflows.save(SLEEP, "Sleep").id
    async with agent(writable) as client:
        run = await use(client, "comfyui_run_workflow", workflow_id=kept)
        reply = await use(client, "comfyui_wait_for_run", run_id=run["run_id"], seconds=0.5)
        assert reply["status"] in ("queued", "running")
        ended = await use(client, "comfyui_cancel_run", run_id=run["run_id"])
        assert ended["cancelled"] is True
        reply = await use(client, "comfyui_wait_for_run", run_id=run["run_id"])
        assert reply["status"] == "cancelled"


async def test_calls_that_wait_delay_no_others(writable, kept):
    comfy = connect(writable.url, writable.token)
    sleep = comfy.workflows.save(SLEEP, "Sleep").id
    async with agent(writable) as client:
        run = await use(client, "comfyui_run_workflow", workflow_id=sleep)
        run_id = run["run_id"]
        waits = [
            asyncio.ensure_future(use(client, "comfyui_wait_for_run", run_id=run_id, seconds=60))
            for _ in range(16)  # asyncio has fewer threads on a small machine
        ]
        await asyncio.sleep(0.5)
        describing = use(client, "comfyui_describe_workflow", workflow_id=kept)
        assert (await asyncio.wait_for(describing, 20))["name"] == "Red canvas"
        await use(client, "comfyui_cancel_run", run_id=run_id)
        assert {reply["status"] for reply in await asyncio.gather(*waits)} == {"cancelled"}


async def test_machine_models_and_memory(writable):
    async with agent(writable) as client:
        [machine] = await use(client, "comfyui_machine_status")
        assert (machine["machine"], machine["status"]) == ("local", "ready")
        assert machine["comfyui_version"] == connect(writable.url, writable.token).version()
        models = await use(client, "comfyui_list_models", folder="checkpoints", search="nothing")
        assert models["count"] == 0
        assert "checkpoints" in models["folders"]
        freed = await use(client, "comfyui_free_memory")
        assert freed["pending"] is False


async def test_the_error_of_a_node_with_several_lines_has_details(writable):
    inputs = {"message": "first line\nsecond line"}
    graph = {"1": {"class_type": "TestFail", "inputs": inputs}}
    graph["2"] = {"class_type": "TestText", "inputs": {"text": "x", "anything": ["1", 0]}}
    kept = connect(writable.url, writable.token).workflows.save(graph, "Failing").id
    async with agent(writable) as client:
        run = await use(client, "comfyui_run_workflow", workflow_id=kept)
        told = await use(client, "comfyui_wait_for_run", run_id=run["run_id"], seconds=60)
        listed = await use(client, "comfyui_list_runs", status="failed", limit=1)
    for reply in (told, listed[0]):
        assert reply["error"].endswith("first line")
        assert reply["details"] == "second line"


async def test_long_texts_are_cut(writable):
    graph = {"1": {"class_type": "TestText", "inputs": {"text": "é" * 5000, "token": ""}}}
    kept = connect(writable.url, writable.token).workflows.save(graph, "Long").id
    async with agent(writable) as client:
        described = await use(client, "comfyui_describe_workflow", workflow_id=kept)
        run = await use(client, "comfyui_run_workflow", workflow_id=kept)
        reply = await use(client, "comfyui_wait_for_run", run_id=run["run_id"])
    texts = [*reply["texts"], *(row["value"] for row in described["inputs"])]
    assert any("5000 characters" in str(text) for text in texts)
    assert all(len(str(text)) < MAX_TEXT + 50 for text in texts)


async def test_the_number_of_files_is_told_if_not_all_are_listed(writable):
    size = {"width": 8, "height": 8, "batch_size": MAX_ITEMS + 1, "color": 0}
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    run = connect(writable.url, writable.token).submit(graph)
    async with agent(writable) as client:
        reply = await use(client, "comfyui_wait_for_run", run_id=run.prompt_id)
    assert (len(reply["files"]), reply["files_in_all"]) == (MAX_ITEMS, MAX_ITEMS + 1)
    assert "texts_in_all" not in reply


async def test_an_agent_is_told_which_nodes_are_not_executed(writable):
    wide = {**PICTURE["1"], "inputs": {**PICTURE["1"]["inputs"], "width": 0}}
    other = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    run = connect(writable.url, writable.token).submit({**PICTURE, "3": wide, "4": other})
    async with agent(writable) as client:
        reply = await use(client, "comfyui_wait_for_run", run_id=run.prompt_id)
    assert reply["status"] == "success"
    assert "width" in reply["not_executed"][0]


async def test_an_agent_is_told_that_texts_are_missing(writable):
    length = 40 * 1024 * 1024  # more than the server reads
    graph = {"1": {"class_type": "TestLongText", "inputs": {"length": length, "token": "agent"}}}
    run = connect(writable.url, writable.token).submit(graph)
    async with agent(writable) as client:
        reply = await use(client, "comfyui_wait_for_run", run_id=run.prompt_id)
    assert (reply["status"], reply["texts"]) == ("success", [])
    assert "texts are missing" in reply["warnings"][0]


async def test_half_an_emoji_in_a_text_is_replaced(writable):
    graph = {"1": {"class_type": "TestText", "inputs": {"text": "half \ud83d", "token": ""}}}
    run = connect(writable.url, writable.token).submit(graph)
    async with agent(writable) as client:
        reply = await use(client, "comfyui_wait_for_run", run_id=run.prompt_id)
    assert (reply["status"], reply["texts"]) == ("success", ["half ?"])


async def test_the_error_of_a_run_is_cut(writable):
    graph = {
        "1": {"class_type": "TestFail", "inputs": {"message": "é" * 5000, "token": "cut"}},
        "2": {"class_type": "TestText", "inputs": {"text": "x", "anything": ["1", 0]}},
    }
    run = connect(writable.url, writable.token).submit(graph)
    async with agent(writable) as client:
        reply = await use(client, "comfyui_wait_for_run", run_id=run.prompt_id)
    assert reply["status"] == "failed"
    assert "ValueError" in reply["error"]
    assert len(reply["error"]) < MAX_TEXT + 50


@pytest.mark.parametrize(
    ("tool", "arguments", "part"),
    [
        ("comfyui_describe_workflow", {"workflow_id": "none"}, "none"),
        ("comfyui_wait_for_run", {"run_id": "none"}, "none"),
        ("comfyui_wait_for_run", {"run_id": "none", "seconds": 1e9}, "seconds"),
        ("comfyui_wait_for_run", {"run_id": ""}, "must not be empty"),
        ("comfyui_list_runs", {"status": "sleeping"}, "status"),
        ("comfyui_list_runs", {"limit": 0}, "limit"),
        ("comfyui_run_workflow", {"workflow_id": "none"}, "none"),
        ("comfyui_free_memory", {"machine": "none"}, "machine"),
    ],
)
async def test_wrong_arguments_are_named(writable, tool, arguments, part):
    async with agent(writable) as client:
        with tool_error(part):
            await use(client, tool, **arguments)


async def test_values_that_break_the_contract_are_named_and_nothing_runs(writable, kept):
    async with agent(writable) as client:
        before = await use(client, "comfyui_list_runs")
        with tool_error(r"Canvas\.width: must be at least 1, not 0; .*Canvas\.height: must"):
            await use(
                client,
                "comfyui_run_workflow",
                workflow_id=kept,
                inputs={"1.width": 0, "1.height": "tall"},
            )
        assert await use(client, "comfyui_list_runs") == before


async def test_inputs_that_a_workflow_does_not_have_are_named(writable, kept):
    async with agent(writable) as client:
        with tool_error(r"1\.widht"):
            await use(client, "comfyui_run_workflow", workflow_id=kept, inputs={"1.widht": 9})
