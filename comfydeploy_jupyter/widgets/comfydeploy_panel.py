"""The state of the machine at the top, and all other panels in tabs."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets as t

from .panel import Panel, in_turn
from .run_panel import RunPanel
from .tunnel_panel import TunnelPanel
from .upload_panel import UploadPanel
from .workflow_panel import WorkflowPanel

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from ..client import Comfy
    from .run_panel import GivenWorkflow

TABS = ("Run", "Workflows", "Gallery", "Files", "Tunnel", "Account")


class AccountPanel(Panel):
    """Signs in to the Comfy account of partner nodes, or stores its key.

    In Python, `Comfy.comfy_account` does this.
    """


class GalleryPanel(Panel):
    """Shows the results of all runs of all workflows."""

    # the id of the panel in which their workflows are opened; empty for none
    runner = t.Unicode().tag(sync=True)
    # increases when one was opened there
    run_requests = t.Int().tag(sync=True)


class _Copied:
    """The comm of a panel in a tab, whose messages the page of the panel around it gets, too."""

    def __init__(self, comm: Any, send: Callable[[dict[str, Any], Any], object]) -> None:
        self._comm = comm
        self._send = send

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def send(self, data: Any = None, metadata: Any = None, buffers: Any = None) -> None:
        self._comm.send(data, metadata, buffers)
        if data["method"] != "echo_update":
            self._send({"kind": "inner", "id": self._comm.comm_id, "data": data}, buffers or [])


class ComfyDeployPanel(Panel):
    """A panel with the state of the machine, and the other panels in tabs.

    Where there are several machines, one of them is chosen on top: runs and files go to it.

    Parameters
    ----------
    workflow : path, dict, str, bytes, Workflow, StoredWorkflow or WorkflowVersion, optional
        The workflow that the tab Run shows first, as `RunPanel` takes it.
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    machine : str, optional
        The machine that is chosen first, by its id or name; default the local one.
    directory : path
        The folder that is searched for workflow files, and that exported files are written to;
        default the folder of the notebook.
    **kwargs
        Traits of `ipywidgets.DOMWidget`, such as ``layout``.

    Examples
    --------
    >>> ComfyDeployPanel()                                           # doctest: +SKIP
    >>> ComfyDeployPanel("portrait.json")                            # doctest: +SKIP
    """

    OWN_ARGUMENTS = ("workflow", "comfy", "machine", "directory")

    tab = t.Enum(TABS, "Run").tag(sync=True)
    """The name of the tab that is shown."""
    machine = t.Unicode(None, allow_none=True).tag(sync=True)
    """The machine that runs and files go to, None for the local one; can be set to an id."""
    # the id of the widget in each tab
    panels = t.Dict().tag(sync=True)
    # the state of the machine in a few words, without numbers that change all the time
    summary = t.Unicode().tag(sync=True)

    def __init__(
        self,
        workflow: GivenWorkflow | None = None,
        comfy: Comfy | Panel | None = None,
        *,
        machine: str | None = None,
        directory: str | os.PathLike[str] = ".",
        **kwargs: Any,
    ) -> None:
        self._inner: dict[str, Any] = {}
        folder = Path(directory)
        self._make: dict[str, Callable[[], Panel]] = {
            "Run": lambda: RunPanel(workflow, self, machine=self.machine, directory=folder),
            "Workflows": lambda: WorkflowPanel(comfy=self, run=self.run_panel, directory=folder),
            "Gallery": lambda: GalleryPanel(self, runner=self.run_panel.model_id),
            # the machine is chosen on top
            "Files": lambda: UploadPanel(self, machine=self.machine, choose_machine=False),
            "Tunnel": lambda: TunnelPanel(comfy=self),
            "Account": lambda: AccountPanel(self),
        }
        super().__init__(comfy, **kwargs)
        with self.hold_trait_notifications():
            self.machine = machine
        self.run_panel.observe(lambda _: self._remember(), "kept")
        for name in TABS[1:]:  # they are light, and then need no kernel
            self._in_tab(name)
        self.workflow_panel.observe(lambda _: self.set_trait("tab", "Run"), "run_requests")
        self.observe(lambda change: self.attempt(self._in_tab, change["new"]), "tab")
        self.observe(lambda change: self._direct(change["new"]), "machine")
        self.observe(lambda _: self._remember(), "summary")
        self._remember()

    @t.validate("machine")
    def _check_machine(self, proposal: dict[str, Any]) -> str | None:
        machine: str | None = proposal["value"]
        # the page offers only what exists, and the constructor asks nobody
        if machine is None or "machine" in self._property_lock or "Run" not in self._inner:
            return machine
        if machine not in self.machines:
            known = ", ".join(self.machines)
            raise ValueError(f"there is no machine {machine!r}; machines are {known}")
        return machine

    @property
    def ready(self) -> bool:
        """Whether the panel has found its server, and the form of the workflow is there."""
        return super().ready and self.run_panel.ready

    @property
    def machines(self) -> list[str]:
        """The ids of the machines that can be chosen."""
        # those of ComfyDeploy run workflows that are deployed there, not those of a panel
        return [one.id for one in self.comfy.machines.list() if one.kind != "cloud"]

    @property
    def report(self) -> str:
        """The state of the machine as text."""
        machine = self.comfy.machines.get(self.machine or "local")
        return f"{machine.name}: {machine.status}"

    def free_memory(self) -> None:
        """Make ComfyUI free its memory, like the button *Free memory*; do not wait for it."""
        self.start(lambda: self.comfy.free(machine=self.machine))

    @property
    def run_panel(self) -> RunPanel:
        """The panel in the tab Run."""
        panel: RunPanel = self._in_tab("Run")
        return panel

    @property
    def workflow_panel(self) -> WorkflowPanel:
        """The panel in the tab Workflows."""
        panel: WorkflowPanel = self._in_tab("Workflows")
        return panel

    @property
    def upload_panel(self) -> UploadPanel:
        """The panel in the tab Files."""
        panel: UploadPanel = self._in_tab("Files")
        return panel

    @property
    def tunnel_panel(self) -> TunnelPanel:
        """The panel in the tab Tunnel."""
        panel: TunnelPanel = self._in_tab("Tunnel")
        return panel

    @property
    def account_panel(self) -> AccountPanel:
        """The panel in the tab Account."""
        panel: AccountPanel = self._in_tab("Account")
        return panel

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the panel is connected, and the panels in the tabs have done their work."""
        in_turn(timeout, super().wait, *(panel.wait for panel in list(self._inner.values())))

    def show(self, workflow: GivenWorkflow) -> RunPanel:
        """Show a workflow in the tab Run, and that tab; does not wait for it.

        Parameters
        ----------
        workflow : path, dict, str, bytes, Workflow, StoredWorkflow or WorkflowVersion
            As `RunPanel` takes it.
        """
        self.run_panel.show(workflow)
        self.tab = "Run"
        return self.run_panel

    def close(self) -> None:
        """Close the panels in the tabs, then this one; runs, transfers and tunnels continue."""
        for panel in self._inner.values():
            panel.close()
        super().close()

    def _in_tab(self, name: str) -> Any:
        """Return the panel in a tab; make it if needed."""
        if name not in self._inner:
            self._inner[name] = panel = self._make[name]()
            self.panels = {**self.panels, name: panel.model_id}
        return self._inner[name]

    def _receive(self, widget: object, content: object, buffers: Sequence[memoryview]) -> None:
        """Take a message of the page; some pages reach the panels in the tabs by this one only."""
        if not isinstance(content, dict) or content.get("kind") != "inner":
            super()._receive(widget, content, buffers)
            return
        for panel in self._inner.values():
            if panel.model_id == content["id"]:
                if not isinstance(panel.comm, _Copied):
                    panel.comm = _Copied(panel.comm, self.send)
                data = {"buffer_paths": [], **content["data"]}
                panel.comm.handle_msg({"content": {"data": data}, "buffers": [*buffers]})

    def _direct(self, machine: str | None) -> None:
        """Send runs and files to another machine from now on."""
        for name in ("Run", "Files"):
            if name in self._inner:
                self._inner[name].machine = machine

    def _remember(self) -> None:
        """Set the output that the saved notebook shows."""
        if self.closing:
            return
        shown, text = self.run_panel.kept
        said = self.summary
        self.keep(
            f"<p>{html.escape(said)}</p>{shown}" if said else shown,
            f"<ComfyDeployPanel{': ' if said else ''}{said}>\n{text}".rstrip(),
        )
