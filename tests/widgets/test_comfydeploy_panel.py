"""ComfyDeployPanel without a page: the state of its widgets, with a real server."""

from __future__ import annotations

import json
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ipywidgets.widgets.widget import _instances

from comfydeploy_jupyter import ComfyDeployPanel
from comfydeploy_jupyter.client import Comfy, Machine
from comfydeploy_jupyter.widgets import Panel
from comfydeploy_jupyter.widgets.machine_strip import MachineStrip, facts_html
from tests.helpers.processes import REPOSITORY
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUNSET = REPOSITORY / "notebooks" / "sunset.json"
GIB = 1024**3


def every(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child)


def text_of(widget: Any) -> str:
    return str([getattr(one, "value", "") for one in every(widget)])


@pytest.fixture
def panel_of(comfy: Comfy) -> Iterator[Callable[..., ComfyDeployPanel]]:
    """A function that makes a panel and waits until it is ready."""
    panels: list[ComfyDeployPanel] = []

    def make(*args: Any, **kwargs: Any) -> ComfyDeployPanel:
        panels.append(ComfyDeployPanel(*args, comfy=comfy, **kwargs))
        until(lambda: panels[-1].ready)
        return panels[-1]

    yield make
    for panel in panels:
        panel.close()


@pytest.fixture
def unreachable(comfy: Comfy) -> Iterator[str]:
    """The id of a second machine, whose ComfyUI does not answer."""
    machine = comfy.machines.create(
        f"away-{uuid.uuid4().hex[:6]}", comfyui_url="http://127.0.0.1:9"
    )
    yield machine.id
    if machine.id in [one.id for one in comfy.machines.list()]:
        machine.delete()


def test_unknown_arguments_and_tabs_are_refused(
    panel_of: Callable[..., ComfyDeployPanel],
) -> None:
    with pytest.raises(TypeError, match="no argument 'machin'; did you mean machine"):
        ComfyDeployPanel(machin="a")
    panel = panel_of(SUNSET)
    with pytest.raises(ValueError, match="Run, Workflows, Files, Tunnel, Account, not 'Models'"):
        panel.tab = "Models"
    with pytest.raises(ValueError, match="no machine 'nowhere'; machines are local"):
        panel.machine = "nowhere"


def test_the_machine_is_on_top(panel_of: Callable[..., ComfyDeployPanel], comfy: Comfy) -> None:
    panel = panel_of(SUNSET)
    assert f"ComfyUI {comfy.version()} is ready" in panel.report
    for name in ("Queue", "CPU", "Memory", "Transfers", "Tunnel"):
        assert f">{name}</dt>" in panel.report
    assert panel.machines == ["local"] or "local" in panel.machines


def test_tabs_are_made_when_they_are_opened(
    panel_of: Callable[..., ComfyDeployPanel],
) -> None:
    panel = panel_of(SUNSET)

    def made() -> list[str]:
        nested = [one for one in every(panel) if isinstance(one, Panel) and one is not panel]
        return [type(one).__name__ for one in nested]

    assert made() == ["RunPanel"]
    panel.tab = "Tunnel"
    panel.tab = "Files"
    assert made() == ["RunPanel", "UploadPanel", "TunnelPanel"]
    kept = panel.tunnel_panel
    panel.tab = "Tunnel"
    assert panel.tunnel_panel is kept
    assert panel.error == ""


def test_waiting_ends_when_all_tabs_are_done(comfy: Comfy) -> None:
    panel = ComfyDeployPanel(SUNSET, comfy)
    try:
        panel.wait(60)
        assert panel.ready
        panel.run_panel.set_input("1.value", 240)
        panel.run_panel.run()
        panel.tab = "Tunnel"
        panel.wait(60)
        assert panel.run_panel.result is not None
        assert panel.tunnel_panel.ready
    finally:
        panel.close()


def test_closing_leaves_no_objects_in_the_kernel(comfy: Comfy) -> None:
    before, threads = set(_instances), set(threading.enumerate())
    panel = ComfyDeployPanel(SUNSET, comfy)
    for tab in ("Workflows", "Files", "Tunnel", "Account"):
        panel.tab = tab
    panel.wait(60)
    panel.close()
    left = [_instances[key] for key in set(_instances) - before]
    assert left == []
    assert set(threading.enumerate()) - threads == set()


def test_runs_and_remembers_the_result(panel_of: Callable[..., ComfyDeployPanel]) -> None:
    panel = panel_of(SUNSET)
    panel.run_panel.set_input("1.value", 200)
    panel.run_panel.run()
    until(lambda: panel.run_panel.result is not None)
    until(lambda: "<img" in panel.kept[0])
    assert "is ready" in panel.kept[0]
    assert "is ready" in panel._repr_mimebundle_()["text/plain"]
    assert "Memory" not in panel.kept[0], "what changes all the time would keep changing the file"


def test_a_kept_workflow_is_run_and_its_changed_values_are_saved(
    panel_of: Callable[..., ComfyDeployPanel], comfy: Comfy
) -> None:
    name = f"Sunset {uuid.uuid4().hex[:6]}"
    stored = comfy.workflows.save(json.loads(SUNSET.read_text()), name)
    panel = panel_of()
    panel.tab = "Workflows"
    workflows = panel.workflow_panel
    workflows.open_workflow(stored.id)
    until(lambda: workflows.workflow is not None)
    workflows.run()
    assert panel.tab == "Run"
    until(lambda: panel.run_panel.ready and panel.run_panel.workflow is not None)
    panel.run_panel.set_input("1.value", 288)
    workflows.save("narrow")
    until(lambda: "Saved as version 2" in text_of(workflows))
    assert stored.version("latest").graph["1"]["inputs"]["value"] == 288
    # what is typed into another workflow has nothing to do with it
    panel.show({"1": {"class_type": "TestText", "inputs": {"text": "x"}}})
    until(lambda: panel.run_panel.ready)
    panel.run_panel.set_input("1.text", "y")
    workflows.save("again")
    until(lambda: "Nothing has changed" in text_of(workflows))


def test_runs_and_files_go_to_the_chosen_machine(
    panel_of: Callable[..., ComfyDeployPanel], unreachable: str
) -> None:
    panel = panel_of(SUNSET)
    until(lambda: unreachable in panel.machines)
    panel.tab = "Files"
    panel.run_panel.set_input("1.value", 200)
    panel.machine = unreachable
    assert panel.run_panel.machine == unreachable
    assert panel.upload_panel.destination["machine"] == unreachable
    until(lambda: "cannot be reached" in panel.report)
    panel.run_panel.run()
    until(lambda: panel.run_panel.error and not panel.run_panel.running)
    assert panel.run_panel.result is None
    panel.machine = "local"
    until(lambda: "is ready" in panel.report)
    assert panel.run_panel.inputs == {"1.value": 200}, "what was typed stays"
    panel.run_panel.run()
    until(lambda: panel.run_panel.result is not None)
    assert panel.run_panel.result.images[0].size == (200, 640)


def test_the_panel_changes_the_machine_if_it_is_deleted(
    panel_of: Callable[..., ComfyDeployPanel], unreachable: str, comfy: Comfy
) -> None:
    panel = panel_of(SUNSET, machine=unreachable)
    assert panel.machine == unreachable
    comfy.machines.delete(unreachable)
    until(lambda: panel.machine != unreachable and panel.run_panel.machine != unreachable)
    until(lambda: "is ready" in panel.report)


def test_an_unreachable_server_is_reported_in_every_tab_after_one_search() -> None:
    panel = ComfyDeployPanel(SUNSET, Comfy("http://127.0.0.1:9"))
    until(lambda: panel.ready)
    assert "The Jupyter server does not answer" in panel.report
    panel.tab = "Tunnel"
    until(lambda: panel.tunnel_panel.ready)
    assert panel.tunnel_panel.comfy is panel.run_panel.comfy is panel.comfy
    panel.close()


def test_close_ends_the_threads_of_all_tabs(panel_of: Callable[..., ComfyDeployPanel]) -> None:
    panel = panel_of(SUNSET)
    for tab in ("Workflows", "Files", "Tunnel", "Account"):
        panel.tab = tab
    panel.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("comfydeploy")]


def test_facts_of_large_and_remote_machines_and_of_unusual_names() -> None:
    status = {
        "queue": {"running": 1, "pending": 12},
        "uploads": {"pending_uploads": 2},
        "tunnel": {"running": True, "protected": False, "error": None, "state": "running"},
        "store": {"warnings": ["A damaged store was renamed to a<b."]},
    }
    memory = {"total": 24 * GIB, "used": 23 * GIB, "free": GIB}
    hardware: dict[str, Any] = {
        "cpu": None,
        "memory": {"total": 64 * GIB, "used": None, "available": None},
        "gpus": [
            {"name": "A <b>GPU</b>", "memory": memory, "percent": 40.0},
            {"name": "Other", "memory": None, "percent": None},
        ],
        "disks": [
            {"path": "/models", "total": 100 * GIB, "used": 50 * GIB, "free": 50 * GIB},
            {"path": "/data", "total": 0, "used": 0, "free": 0},
        ],
    }
    html = facts_html(status, hardware)
    for text in (
        "1 running, 12 waiting",
        "A &lt;b&gt;GPU&lt;/b&gt;",
        "23.0 of 24.0 GiB, 40 % busy",
        "memory unknown",
        "64.0 GiB",
        "Disk of /models",
        "50.0 GiB free",
        "2 in progress",
        "on, open to everybody",
        "renamed to a&lt;b.",
    ):
        assert text in html
    assert "cd-full" in html, "nearly full"
    assert '<div class="cd-wide"><dt title="Other">' in html, "names of GPUs are long"
    assert "CPU" not in html
    status["tunnel"] = {"running": False, "protected": False, "error": "x", "state": "stopped"}
    assert ">failed</dd>" in facts_html(status, {**hardware, "gpus": [], "disks": []})


def test_machines_of_a_pool_are_shown_with_their_state() -> None:
    status = {
        "queue": {"running": 1, "pending": 2},
        "uploads": {"pending_uploads": 0},
        "tunnel": {"running": False, "protected": False, "error": None, "state": "stopped"},
    }
    hardware: dict[str, Any] = {"cpu": None, "memory": None, "gpus": [], "disks": []}
    busy = {
        "name": "<b>Studio</b>",
        "status": "ready",
        "version": "0.33.0",
        "gpu": "NVIDIA GeForce RTX 4090",
        "queue": 3,
        "run": "r1",
        "models": ["checkpoints/a<b>.safetensors"],
    }
    gone = {**busy, "name": "Attic", "status": "unreachable", "version": None, "gpu": "1"}
    gone["error"] = "it answered <502>"
    html = facts_html(status, hardware, [busy, {**gone, "queue": 0, "run": None, "models": []}])
    for text in (
        "&lt;b&gt;Studio&lt;/b&gt;",
        "1 running, 2 waiting",
        "ComfyUI 0.33.0 · NVIDIA GeForce RTX 4090<",
        "a&lt;b&gt;.safetensors",
        "idle",
        "ComfyUI · GPU 1 · cannot be reached",
        "it answered &lt;502&gt;",
    ):
        assert text in html
    assert "<b>Studio" not in html


def test_freed_memory_is_reported(panel_of: Callable[..., ComfyDeployPanel]) -> None:
    panel = panel_of(SUNSET)
    until(lambda: "is ready" in panel.report)
    panel.free_memory()
    until(lambda: "of RAM freed" in panel.report)
    assert "tested with" not in panel.report


def test_untested_versions_are_reported(comfy: Comfy) -> None:
    strip = MachineStrip(Panel(comfy), None, lambda _: None, lambda: None)
    machine = Machine(comfy.machines, {"id": "local", "status": "ready", "kind": "comfyui"})
    note = "ComfyUI 0.99.1 is <newer>"
    strip._show_state(machine, {"version": "0.99.1", "version_note": note})
    assert "ComfyUI 0.99.1 is &lt;newer&gt;" in strip.report
    strip._show_state(machine, {"version": "0.33.0", "version_note": None})
    assert "newer" not in strip.report


def test_the_error_of_a_pool_is_shown_with_its_members(comfy: Comfy) -> None:
    strip = MachineStrip(Panel(comfy), None, lambda _: None, lambda: None)
    record = {"id": "hpc", "status": "ready", "kind": "dask", "error": "no <worker> has room"}
    strip._show_state(Machine(comfy.machines, record), {"error": None}, [{"status": "ready"}])
    assert "1 of 1 machine ready" in strip.report
    assert 'role="alert">no &lt;worker&gt; has room</div>' in strip.report
    record["error"] = "the same"
    strip._show_state(Machine(comfy.machines, record), {"error": "the same"})
    assert strip.report.count("the same") == 1
    record["error"] = None
    strip._show_state(Machine(comfy.machines, record), {"error": None})
    assert "alert" not in strip.report
