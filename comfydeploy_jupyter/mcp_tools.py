"""Tools with which agents use ComfyUI through MCP (the Model Context Protocol).

jupyter-server-mcp (extra ``mcp``) finds them by the entry point group ``jupyter_server_mcp.tools``
and serves them at a separate port on loopback, without Jupyter's token. Therefore tools that start
runs, write or download exist only if the setting ``mcp_write`` allows them.

The name of a function is the name of its tool, and its docstring is the description for the agent.
Results are short, because an agent pays for each word.
"""

from __future__ import annotations

import asyncio
import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from pydantic import Field

from .client import connect
from .errors import ComfyDeployError, InvalidRequestError, NotFoundError, RunTimeoutError
from .graphs.inputs import InputNames
from .graphs.outputs import files_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .client import Comfy, Run, Sweep

P = ParamSpec("P")
T = TypeVar("T")

READING: list[str] = []  # the names of the tools
WRITING: list[str] = []  # of those that start runs, write or download

MAX_ITEMS = 50  # of a list
MAX_CHOICES = 20  # of one input
MAX_POINT_ITEMS = 8  # files, texts or values of one point of a batch
MAX_ERRORS = 5  # of the points of a batch
MAX_CALLS = 32  # that are answered at once; others wait
MAX_TEXT = 500  # characters of a text that a run has put out
MAX_WAIT = 300.0  # s
SIDE = 512  # pixels, the longest side of a picture

Inputs = Annotated[
    dict[str, Any] | None,
    Field(
        description='New values by the keys of comfyui_describe_workflow: {"Sky.seed": 1}. A value'
        " may be an output of another run, also of one that has not ended:"
        ' {"$output": {"run": run_id, "file": "images[0]"}}; "texts[0]" for a text'
    ),
]
Seconds = Annotated[float, Field(ge=0, le=MAX_WAIT, description="Wait at most this long")]
Machine = Annotated[
    str | None, Field(description="Id or name of a machine; leave out for the default one")
]


_threads = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="comfydeploy-mcp")


@cache
def _comfy() -> Comfy:
    return connect(start=False)


def _tool(listed: list[str]) -> Callable[[Callable[P, T]], Callable[P, Awaitable[T]]]:
    """Make a tool of a function that sends requests to this Jupyter server, and list its name.

    It runs in a thread, as the event loop must be free to reply, and in none of asyncio's own: the
    server needs those to reply, and several calls may wait for minutes.
    """

    def made(ask: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        @wraps(ask)
        async def tool(*args: P.args, **kwargs: P.kwargs) -> T:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(_threads, partial(ask, *args, **kwargs))

        listed.append(ask.__name__)
        return tool

    return made


def tools() -> list[str]:
    """Return the tools to serve, as ``module:function``; the entry point."""
    return [f"{__name__}:{name}" for name in (*READING, *(WRITING if _may_write() else ()))]


@_tool(READING)
def comfyui_list_workflows(
    search: Annotated[str, Field(description="Words that must be in the name")] = "",
) -> list[dict[str, Any]]:
    """List the ComfyUI workflows that are stored on this server, the last changed one first.

    Their ids are the workflow_id of the other tools. At most 50 are listed; search finds the rest.
    """
    found = _comfy().workflows.list(search, limit=MAX_ITEMS)
    return [
        {"workflow_id": it.id, "name": it.name, "latest_version": it.latest_version} for it in found
    ]


@_tool(READING)
def comfyui_describe_workflow(workflow_id: str, version: int | None = None) -> dict[str, Any]:
    """Describe the inputs of a stored ComfyUI workflow: keys, kinds, values, ranges, choices.

    comfyui_run_workflow takes new values by these keys; inputs that are left out keep their values.
    """
    kept = _comfy().workflows.get(workflow_id)
    inputs = kept.schema(version or "latest")["inputs"]
    names = InputNames(kept.version(version or "latest").load().to_api())
    required = frozenset(inputs["required"])
    described = [
        _input_properties(names.spoken(key), wanted, required=key in required)
        for key, wanted in inputs["properties"].items()
    ]
    return {"name": kept.name, "inputs": described}


@_tool(READING)
def comfyui_validate_workflow(
    workflow_id: str, inputs: Inputs = None, version: int | None = None
) -> dict[str, Any]:
    """Check whether ComfyUI would accept a stored workflow with these inputs, without running it.

    The result names all errors: values out of range, missing models, missing nodes.
    """
    stored = _comfy().workflows.get(workflow_id).version(version or "latest")
    checked = stored.load().set(inputs or {}).validate()
    return {"valid": checked.valid, **_first("problems", checked.problems)}


@_tool(WRITING)
def comfyui_run_workflow(
    workflow_id: str,
    inputs: Inputs = None,
    version: int | None = None,
    machine: Machine = None,
) -> dict[str, Any]:
    """Start a stored ComfyUI workflow with new values for its inputs; return at once.

    New seeds are drawn for inputs that are not given, if the workflow says so. comfyui_wait_for_run
    returns the result of the run.
    """
    run = _comfy().submit(
        None, inputs or None, machine=machine, workflow_id=workflow_id, version=version
    )
    waiting = run.known.get("waiting_for")
    waits = {"waiting_for": waiting} if waiting else {}
    return {"run_id": run.prompt_id, "status": run.known["status"], **waits}


@_tool(READING)
def comfyui_wait_for_run(
    run_id: str,
    seconds: Seconds = 60.0,
) -> dict[str, Any]:
    """Wait for a ComfyUI run; return its status, its output files and texts, or its error.

    A run that has not ended in time continues: call this again. comfyui_view_picture shows its
    pictures.
    """
    run = _comfy().get(run_id)
    if seconds and not run.done:
        try:
            run.wait(seconds)
        except RunTimeoutError:
            pass
        except ComfyDeployError:
            if not run.done:
                raise
    return _run_properties(run)


@_tool(WRITING)
def comfyui_cancel_run(run_id: str) -> dict[str, Any]:
    """Cancel a ComfyUI run that is waiting or executing."""
    run = _comfy().get(run_id)
    return {"run_id": run.prompt_id, "cancelled": run.cancel()}


@_tool(WRITING)
def comfyui_submit_batch(
    workflow_id: Annotated[
        str | None, Field(description="A stored workflow; leave out with prompts")
    ] = None,
    inputs: Annotated[
        dict[str, Any] | None,
        Field(
            description="Values by the keys of comfyui_describe_workflow. Several values of an"
            ' input: {"Sky.seed": {"$vary": [1, 2]}}; every combination runs. All pictures or texts'
            " of other batches and runs, also of those that have not ended:"
            ' {"Picture.image": {"$each": [{"batch": batch_id}, {"run": run_id}]}}. With "$with":'
            " key beside these, an input changes together with another one"
        ),
    ] = None,
    points: Annotated[
        list[dict[str, Any]] | None,
        Field(description="Instead of $vary: the values of each point, besides inputs"),
    ] = None,
    prompts: Annotated[
        list[dict[str, Any]] | None,
        Field(description="Instead of a stored workflow: whole graphs in ComfyUI's API format"),
    ] = None,
    version: int | None = None,
    machine: Machine = None,
    title: str | None = None,
    labels: Annotated[dict[str, str] | None, Field(description="Texts by name")] = None,
    stop_after: Annotated[
        int | None, Field(description="Pause after so many failed points")
    ] = None,
) -> dict[str, Any]:
    """Run a stored ComfyUI workflow at many points: a grid, a list of points, or of prompts.

    All names and values are checked; then it returns at once, and the server runs one point after
    the other, also when nobody waits. comfyui_wait_for_batch waits for the end, and
    comfyui_get_batch_output returns what the points have made.
    """
    reply = _comfy().server.post(
        "batch",
        workflow_id=workflow_id,
        inputs=inputs or None,
        points=points,
        prompts=prompts,
        version=version,
        machine=machine,
        title=title,
        labels=labels,
        stop_after=stop_after,
    )
    notes = _first("notes", reply["notes"]) if reply["notes"] else {}
    return {"batch_id": reply["batch_id"], "total": reply["total"], **notes}


@_tool(READING)
def comfyui_list_batches(
    state: Annotated[
        str | None, Field(description="Only running, paused, cancelled or done ones")
    ] = None,
    limit: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = 10,
) -> list[dict[str, Any]]:
    """List ComfyUI batches, the newest first: ids, titles, states and counts of points."""
    found = _comfy().server.get("batches", limit=limit, state=state)["batches"]
    return [_batch_properties(batch) for batch in found]


@_tool(READING)
def comfyui_get_batch_status(batch_id: str) -> dict[str, Any]:
    """Return the state of a ComfyUI batch: counts of points, time left, the first errors."""
    return _batch_status(_comfy().batches.get(batch_id))


@_tool(READING)
def comfyui_wait_for_batch(
    batch_id: str,
    seconds: Seconds = 60.0,
) -> dict[str, Any]:
    """Wait for the end of a ComfyUI batch; return its state.

    One that has not ended in time continues: call this again. A paused one does not end.
    """
    batch = _comfy().batches.get(batch_id)
    if seconds:
        with suppress(RunTimeoutError):
            batch.wait(seconds)
    return _batch_status(batch)


@_tool(READING)
def comfyui_get_batch_output(
    batch_id: str,
    status: Annotated[
        str | None, Field(description="Only points with this status, such as success or failed")
    ] = None,
    offset: Annotated[int, Field(ge=0, description="The points to skip")] = 0,
    limit: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = 20,
) -> dict[str, Any]:
    """Return points of a ComfyUI batch: their values, files, texts and errors.

    comfyui_view_picture shows the pictures of a point by its run_id. next_offset is there if there
    are more points.
    """
    path = f"batch/{batch_id}/points"
    found = _comfy().server.get(path, status=status, offset=offset, limit=limit)
    end = offset + len(found["points"])
    more = {"next_offset": end} if found["points"] and end < found["total"] else {}
    return {"total": found["total"], "points": [*map(_point_properties, found["points"])], **more}


@_tool(WRITING)
def comfyui_cancel_batch(batch_id: str) -> dict[str, Any]:
    """Cancel the points of a ComfyUI batch that have not ended; the others keep their outputs."""
    return _batch_properties(_comfy().server.post(f"batch/{batch_id}/cancel"))


@_tool(READING)
def comfyui_list_runs(
    status: Annotated[
        str | None,
        Field(
            description="Only not-started, queued, running, uploading, success, failed or cancelled"
            " ones; those that are not-started need outputs of others"
        ),
    ] = None,
    limit: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = 10,
) -> list[dict[str, Any]]:
    """List ComfyUI runs, the newest first: ids, statuses, times, and why some failed."""
    names = ("status", "machine", "created_at", "execution_time")
    rows = []
    for run in _comfy().runs(limit, status=status):
        known = {name: run.known.get(name) for name in names}
        if run.known.get("live_status"):
            known["live_status"] = run.known["live_status"]
        error = (run.known.get("error") or {}).get("message")
        rows.append({"run_id": run.prompt_id, **known, **_why(error or "")})
    return rows


@_tool(READING)
def comfyui_view_picture(
    run_id: str, number: Annotated[int, Field(ge=0, description="Which one, from 0")] = 0
) -> Any:
    """Look at a small copy of a picture that a ComfyUI run has made."""
    from fastmcp.utilities.types import Image

    result = _comfy().get(run_id).result
    if result is None:
        raise InvalidRequestError("run_id: the run has not ended; wait for it first")
    pictures = [file for file in result.files if file.is_image]
    if number >= len(pictures):
        raise NotFoundError(f"number: the run has {len(pictures)} picture(s), counted from 0")
    return Image(data=_as_png(pictures[number].thumbnail(SIDE)), format="png")


@_tool(READING)
def comfyui_list_models(
    folder: Annotated[
        str | None, Field(description="Such as checkpoints or loras; leave out for all")
    ] = None,
    search: Annotated[str, Field(description="Words that must be in the name")] = "",
    machine: Machine = None,
) -> dict[str, Any]:
    """List ComfyUI's model files; if none matches, the folders of models."""
    comfy = _comfy()
    found = comfy.models(folder, search=search or None, machine=machine)
    names = [f"{model.folder}/{model.name}" for model in found]
    summary: dict[str, Any] = {"models": names[:MAX_ITEMS], "count": len(names)}
    if not names:
        summary["folders"] = comfy.model_folders(machine=machine)
    return summary


@_tool(READING)
def comfyui_machine_status() -> list[dict[str, Any]]:
    """List the ComfyUIs: their version, whether they answer, what they execute, and their GPUs."""
    comfy = _comfy()
    rows = []
    for machine in comfy.machines.list():
        row: dict[str, Any] = {"machine": machine.id, "status": machine.status}
        if machine.kind != "cloud":
            whole = machine.refresh()
            status = comfy.status(machine=machine.id)
            row["gpus"] = whole.gpus
            row["comfyui_version"] = status.get("comfyui", {}).get("version")
            row["queue"] = status.get("queue")
        rows.append(row)
    return rows


@_tool(WRITING)
def comfyui_fetch_models(workflow_id: str, version: int | None = None) -> dict[str, Any]:
    """Download the models that a stored workflow needs and ComfyUI lacks, into the right folders.

    Returns their names and states at once; call it again for the progress.
    """
    comfy = _comfy()
    kept = comfy.workflows.get(workflow_id).version(version or "latest")
    fetched = comfy.fetch_models(kept.workflow or kept.graph)
    names = ("name", "folder", "state", "size", "received", "problem")
    models = [{name: getattr(model, name) for name in names} for model in fetched]
    return {**_first("models", models), "warnings": fetched.warnings}


@_tool(WRITING)
def comfyui_free_memory(machine: Machine = None) -> dict[str, Any]:
    """Make ComfyUI unload its models and free memory of the GPU and of the machine."""
    freed = _comfy().free(machine=machine)
    return {"gpu_bytes": freed.gpu, "ram_bytes": freed.ram, "pending": freed.pending}


def _may_write() -> bool:
    """Return whether the setting ``mcp_write`` of this Jupyter server is on."""
    from jupyter_server.serverapp import ServerApp

    if not ServerApp.initialized():
        return False
    apps = ServerApp.instance().extension_manager.extension_apps.get("comfydeploy_jupyter", ())
    return any(app.mcp_write for app in apps)


def _input_properties(key: str, wanted: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """Return the properties of an input that an agent needs, from its JSON Schema."""
    summary: dict[str, Any] = {"key": key, "label": wanted["title"], "kind": wanted["x-kind"]}
    summary |= {"required": True} if required else {"value": _short(wanted.get("default"))}
    for name, keyword in (("min", "minimum"), ("max", "maximum")):
        if keyword in wanted:
            summary[name] = wanted[keyword]
    if wanted.get("type") == "array":  # of rows
        summary |= {"min_rows": wanted["minItems"], "max_rows": wanted["maxItems"]}
        summary["fields"] = [
            _input_properties(name, inner, required=False)
            for name, inner in wanted["items"]["properties"].items()
        ]
    choices = wanted.get("enum", wanted.get("examples"))
    if choices is not None:
        summary["choices"] = choices[:MAX_CHOICES]
        if len(choices) > MAX_CHOICES:
            summary["choices_in_all"] = len(choices)
    return summary


def _run_properties(run: Run) -> dict[str, Any]:
    """Return the properties of a run that an agent needs."""
    record = run.record
    summary: dict[str, Any] = {"run_id": run.prompt_id, "status": record["status"]}
    for name in ("live_status", "waiting_for", "progress", "time_left", "execution_time", "seeds"):
        if record.get(name) not in (None, ""):
            summary[name] = record[name]
    if record.get("warnings"):
        summary |= _first("warnings", [_short(text) for text in record["warnings"]])
    result = run.result
    if result is not None:
        files = [
            {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
            for file in result.files
        ]
        summary |= _first("files", files)
        summary |= _first("texts", [_short(text) for text in result.texts])
        if result.left_out:
            summary |= _first("not_executed", [_short(reason) for reason in result.left_out])
        summary |= _why(result.failure)
    return summary


def _batch_properties(batch: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a batch that an agent needs."""
    names = ("batch_id", "title", "state", "why", "total", "counts", "labels", "created_at")
    found = {name: _short(batch[name]) for name in names if batch[name] not in ("", {})}
    if batch["finished_at"] is None:
        found |= {name: batch[name] for name in ("fraction", "time_left") if name in batch}
    return found


def _batch_status(batch: Sweep) -> dict[str, Any]:
    """Return the properties of a batch, and why the first points have failed."""
    found = _batch_properties(batch.record)
    if "failed" in batch.record["counts"]:
        path = f"batch/{batch.id}/points"
        failed = _comfy().server.get(path, status="failed", limit=MAX_ERRORS)["points"]
        found["errors"] = [{"point": each["point"], **_why(each["error"])} for each in failed]
    return found


def _point_properties(point: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a point of a batch that an agent needs."""
    values = {name: _short(value) for name, value in point["values"].items()}
    found: dict[str, Any] = {
        "point": point["point"],
        "status": point["status"],
        "values": dict([*values.items()][:MAX_POINT_ITEMS]),
    }
    if point["prompt_id"]:
        found["run_id"] = point["prompt_id"]
    outputs = [*((point["run"] or {}).get("outputs") or {}).values()]
    files = [file.filename for output in outputs for file in files_of(output)]
    texts = [_short(text) for output in outputs for text in texts_of(output)]
    for name, items in (("files", files), ("texts", texts)):
        if items:
            found |= _first(name, items, MAX_POINT_ITEMS)
    return {**found, **_why(point["error"])}


def _why(failure: str) -> dict[str, Any]:
    """Return the error of a run in one line, and what a node says in further lines."""
    error, _, details = failure.strip().partition("\n")
    told = {"error": error.strip(), "details": details.strip()}
    return {name: _short(text) for name, text in told.items() if text}


def _first(name: str, items: list[Any], most: int = MAX_ITEMS) -> dict[str, Any]:
    """Return the first items of a list by its name; if there are more, also their number."""
    more = {f"{name}_in_all": len(items)} if len(items) > most else {}
    return {name: items[:most], **more}


def _short(value: Any) -> Any:
    """Return a value; a long text, list or object is shortened, as text."""
    if isinstance(value, (list, dict)):
        text = json.dumps(value, ensure_ascii=False)
        return value if len(text) <= MAX_TEXT else _short(text)
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{value[:MAX_TEXT]}… ({len(value)} characters)"
    return value


def _as_png(picture: bytes) -> bytes:
    """Return a picture as PNG, which all agents can view."""
    from PIL import Image

    target = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as opened:
        opened.save(target, "PNG")
    return target.getvalue()
