"""ComfyDeployPanel without a page: the state of its widgets, with a real server."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ipywidgets.widgets.widget import _instances

from comfydeploy_jupyter import ComfyDeployPanel
from comfydeploy_jupyter.client import Comfy, Machine
from comfydeploy_jupyter.widgets import Panel
from comfydeploy_jupyter.widgets.machine_strip import MachineStrip, facts_html
from comfydeploy_jupyter.widgets.panel import PagePanel
from tests.helpers.graphs import SUNSET, SUNSET_PATH
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GIB = 1024**3


def every(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child)


def text_of(widget: Any) -> str:
    return str([getattr(one, "value", "") for one in every(widget)])


@pytest.fixture
def panel_of(
    comfy: Comfy, opened: Callable[[ComfyDeployPanel], ComfyDeployPanel]
) -> Callable[..., ComfyDeployPanel]:
    """A function that makes a panel and waits until it is ready."""
    return lambda *args, **kwargs: opened(ComfyDeployPanel(*args, comfy=comfy, **kwargs))


@pytest.fixture
def unreachable(comfy: Comfy) -> Iterator[str]:
    """The id of a second machine, whose ComfyUI does not answer."""
    machine = comfy.machines.create(
        f"away-{uuid.uuid4().hex[:6]}", comfyui_url="http://127.0.0.1:9"
    )
    yield machine.id
    if machine.id in [one.id for one in comfy.machines.list()]:
        machine.delete()


def test_the_machine_is_on_top_and_tabs_are_made_when_they_are_opened(
    panel_of: Callable[..., ComfyDeployPanel], comfy: Comfy
) -> None:
    panel = panel_of(SUNSET_PATH)
    until(lambda: f"ComfyUI {comfy.version()} is ready" in panel.report)
    for name in ("Queue", "CPU", "Memory", "Transfers", "Tunnel"):
        assert f">{name}</dt>" in panel.report
    assert "local" in panel.machines
    with pytest.raises(ValueError, match="Run, Workflows, Files, Tunnel, Account, not 'Models'"):
        panel.tab = "Models"
    with pytest.raises(ValueError, match="no machine 'nowhere'; machines are local"):
        panel.machine = "nowhere"
    panel.free_memory()
    until(lambda: "of RAM freed" in panel.report)

    def made() -> list[str]:
        nested = [one for one in every(panel) if isinstance(one, (Panel, PagePanel))]
        return [type(one).__name__ for one in nested if one is not panel]

    assert made() == ["RunPanel"]
    panel.tab = "Tunnel"
    panel.tab = "Files"
    assert made() == ["RunPanel", "UploadPanel", "TunnelPanel"]
    kept = panel.tunnel_panel
    panel.tab = "Tunnel"
    assert panel.tunnel_panel is kept
    assert panel.error == ""


def test_waiting_ends_when_all_tabs_are_done_and_the_result_is_remembered(comfy: Comfy) -> None:
    before, threads = set(_instances), set(threading.enumerate())
    panel = ComfyDeployPanel(SUNSET_PATH, comfy)
    try:
        panel.wait(60)
        assert panel.ready
        panel.run_panel.set_input("1.value", 240)
        panel.run_panel.run()
        for tab in ("Workflows", "Files", "Tunnel", "Account"):
            panel.tab = tab
        panel.wait(60)
        assert panel.run_panel.result is not None
        assert panel.tunnel_panel.ready
        assert "<img" in panel.kept[0]
        assert "is ready" in panel.kept[0]
        assert "is ready" in panel._repr_mimebundle_()["text/plain"]
        assert "Memory" not in panel.kept[0], "what changes all the time would change the file"
    finally:
        panel.close()
    assert [_instances[key] for key in set(_instances) - before] == []
    assert set(threading.enumerate()) - threads == set()


def test_a_kept_workflow_is_run_and_its_changed_values_are_saved(
    panel_of: Callable[..., ComfyDeployPanel], comfy: Comfy
) -> None:
    name = f"Sunset {uuid.uuid4().hex[:6]}"
    stored = comfy.workflows.save(SUNSET, name)
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
    until(lambda: workflows.version == 2)
    assert stored.version("latest").graph["1"]["inputs"]["value"] == 288
    # what is typed into another workflow has nothing to do with it
    panel.show({"1": {"class_type": "TestText", "inputs": {"text": "x"}}})
    until(lambda: panel.run_panel.ready)
    panel.run_panel.set_input("1.text", "y")
    workflows.save("again")
    workflows.wait(60)
    assert (workflows.version, workflows.error) == (2, "")


def test_runs_and_files_go_to_the_chosen_machine(
    panel_of: Callable[..., ComfyDeployPanel], unreachable: str, comfy: Comfy
) -> None:
    panel = panel_of(SUNSET_PATH)
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
    panel.machine = unreachable
    comfy.machines.delete(unreachable)
    until(lambda: panel.machine != unreachable and panel.run_panel.machine != unreachable)
    until(lambda: "is ready" in panel.report)


def test_an_unreachable_server_is_reported_in_every_tab_after_one_search() -> None:
    panel = ComfyDeployPanel(SUNSET_PATH, Comfy("http://127.0.0.1:9"))
    until(lambda: panel.ready)
    assert "The Jupyter server does not answer" in panel.report
    panel.tab = "Tunnel"
    until(lambda: panel.tunnel_panel.ready)
    assert panel.tunnel_panel.comfy is panel.run_panel.comfy is panel.comfy
    panel.close()


STATUS: dict[str, Any] = {
    "queue": {"running": 1, "pending": 12},
    "uploads": {"pending_uploads": 2},
    "tunnel": {"running": True, "protected": False, "error": None, "state": "running"},
    "store": {"warnings": ["A damaged store was renamed to a<b."]},
}
NO_HARDWARE: dict[str, Any] = {"cpu": None, "memory": None, "gpus": [], "disks": []}


def test_facts_of_large_and_remote_machines_and_of_unusual_names() -> None:
    memory = {"total": 24 * GIB, "used": 23 * GIB, "free": GIB}
    half = {"total": 100 * GIB, "used": 50 * GIB, "free": 50 * GIB}
    hardware = {
        **NO_HARDWARE,
        "memory": {"total": 64 * GIB, "used": None, "available": None},
        "gpus": [
            {"name": "A <b>GPU</b>", "memory": memory, "percent": 40.0},
            {"name": "Other", "memory": None, "percent": None},
        ],
        "disks": [
            {"path": "/models", **half},
            {"path": "/data", "total": 0, "used": 0, "free": 0},
        ],
    }
    html = facts_html(STATUS, hardware)
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
    failed = {"running": False, "protected": False, "error": "x", "state": "stopped"}
    assert ">failed</dd>" in facts_html({**STATUS, "tunnel": failed}, NO_HARDWARE)


def test_machines_of_a_pool_are_shown_with_their_state() -> None:
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
    gone |= {"error": "it answered <502>"}
    gone |= {"queue": 0, "run": None, "models": []}
    html = facts_html(STATUS, NO_HARDWARE, [busy, gone])
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


def test_notes_and_errors_of_a_machine_are_shown(comfy: Comfy) -> None:
    strip = MachineStrip(Panel(comfy), None, lambda _: None, lambda: None)
    record: dict[str, Any] = {"id": "hpc", "status": "ready", "kind": "dask"}

    def show(comfyui: dict[str, Any], *members: dict[str, Any]) -> str:
        strip._show_state(Machine(comfy.machines, record), comfyui, members)
        return strip.report

    note = {"version": "0.99.1", "version_note": "ComfyUI 0.99.1 is <newer>"}
    assert "ComfyUI 0.99.1 is &lt;newer&gt;" in show(note)
    assert "newer" not in show({"version": "0.33.0", "version_note": None})
    strip.go_back()
    until(lambda: "was not started by this server" in strip.report)
    show({"kept": {"version": "0.32.0", "commit": None, "size": 1, "since": None}})
    assert strip._back.description == "Back to ComfyUI 0.32.0"
    assert strip._back.layout.display == ""
    show({"kept": None})
    assert strip._back.layout.display == "none"
    record["error"] = "no <worker> has room"
    report = show({"error": None}, {"status": "ready"})
    assert "1 of 1 machine ready" in report
    assert 'role="alert">no &lt;worker&gt; has room</div>' in report
    record["error"] = "the same"
    assert show({"error": "the same"}).count("the same") == 1
    record["error"] = None
    assert "alert" not in show({"error": None})
