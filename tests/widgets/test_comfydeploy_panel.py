"""ComfyDeployPanel without a page, with a real server."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING

import pytest
from ipywidgets.widgets.widget import _instances
from traitlets import TraitError

from comfydeploy_jupyter import ComfyDeployPanel
from comfydeploy_jupyter.client import Comfy
from tests.helpers.graphs import SUNSET, SUNSET_PATH
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def test_tabs_and_machines(panel_of: Callable[..., ComfyDeployPanel]) -> None:
    panel = panel_of(SUNSET_PATH)
    assert panel.report == "local: ready"
    assert "local" in panel.machines
    with pytest.raises(
        TraitError, match="'Run', 'Workflows', 'Gallery', 'Files', 'Tunnel', 'Account'"
    ):
        panel.tab = "Models"
    with pytest.raises(ValueError, match="no machine 'nowhere'; machines are local"):
        panel.machine = "nowhere"
    panel.free_memory()
    panel.wait(30)
    assert panel.error == ""
    assert [*panel.panels] == ["Run", "Workflows", "Gallery", "Files", "Tunnel", "Account"]
    kept = panel.tunnel_panel
    panel.tab = "Tunnel"
    assert panel.tunnel_panel is kept
    panel.tab = "Workflows"
    assert panel.panels["Workflows"] == panel.workflow_panel.model_id
    assert panel.error == ""


def test_waiting_ends_when_all_tabs_are_done_and_the_result_is_remembered(comfy: Comfy) -> None:
    before, threads = set(_instances), set(threading.enumerate())
    panel = ComfyDeployPanel(SUNSET_PATH, comfy)
    try:
        panel.wait(60)
        assert panel.ready
        panel.run_panel.set_input("1.value", 240)
        panel.run_panel.run()
        for tab in ("Workflows", "Gallery", "Files", "Tunnel", "Account"):
            panel.tab = tab
        panel.wait(60)
        assert panel.run_panel.result is not None
        assert panel.tunnel_panel.ready
        panel.summary = "ComfyUI <1> is ready"  # as the page says
        assert "<img" in panel.kept[0]
        assert "ComfyUI &lt;1&gt; is ready" in panel.kept[0]
        assert "is ready" in panel._repr_mimebundle_()[0]["text/plain"]
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
    assert panel.upload_panel.machine == unreachable
    assert "unreachable" in panel.report
    panel.run_panel.run()
    until(lambda: panel.run_panel.error and not panel.run_panel.running)
    assert panel.run_panel.result is None
    panel.machine = "local"
    assert panel.run_panel.inputs == {"1.value": 200}, "what was typed stays"
    panel.run_panel.run()
    until(lambda: panel.run_panel.result is not None)
    assert panel.run_panel.result.images[0].size == (200, 640)


def test_all_panels_have_one_client_whose_server_is_searched_once() -> None:
    panel = ComfyDeployPanel(SUNSET_PATH, Comfy("http://127.0.0.1:9"))
    until(lambda: "does not answer" in panel.error)
    assert panel.tunnel_panel.comfy is panel.run_panel.comfy is panel.comfy
    panel.close()
