"""The state of the machine at the top, and all other panels in tabs."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ipywidgets as w

from .account_panel import AccountPanel
from .base import Panel, in_turn
from .machine_strip import MachineStrip
from .run_panel import RunPanel
from .tunnel_panel import TunnelPanel
from .upload_panel import UploadPanel
from .workflow_panel import WorkflowPanel

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from ..client import Comfy
    from .picker import GivenWorkflow

P = TypeVar("P", bound=Panel)

TABS = {
    "Run": "run_panel",
    "Workflows": "workflow_panel",
    "Files": "upload_panel",
    "Tunnel": "tunnel_panel",
    "Account": "account_panel",
}
"""The tabs, and the properties that make their content."""


class ComfyDeployPanel(Panel):
    """A panel with the state of the machine, and the other panels in tabs.

    Each tab is made when it is first opened. Where there are several machines, one of them is
    chosen on top: runs and files go to it.

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
        Traits of `ipywidgets.VBox`, such as ``layout``.

    Examples
    --------
    >>> ComfyDeployPanel()                                           # doctest: +SKIP
    >>> ComfyDeployPanel("portrait.json")                            # doctest: +SKIP
    """

    OWN_ARGUMENTS = ("workflow", "comfy", "machine", "directory")

    def __init__(
        self,
        workflow: GivenWorkflow | None = None,
        comfy: Comfy | Panel | None = None,
        *,
        machine: str | None = None,
        directory: str | os.PathLike[str] = ".",
        **kwargs: Any,
    ) -> None:
        super().__init__(comfy, **kwargs)
        self._directory = Path(directory)
        self._strip = MachineStrip(self, machine, self._direct, self._remember)
        self._places = {name: w.VBox(layout=w.Layout(width="auto")) for name in TABS}
        self._panels: dict[str, Any] = {}
        self._tabs = w.Tab(
            list(self._places.values()),
            titles=tuple(TABS),
            layout=w.Layout(width="auto", margin="0"),
        )
        run = self._made(
            "Run", lambda: RunPanel(workflow, self, machine=machine, directory=self._directory)
        )
        run.observe(lambda _: self._remember(), "kept")
        self._tabs.observe(lambda _: self.attempt(self._show_tab), "selected_index")
        self.fill(self._strip, self._tabs)
        self._remember()
        self.start(self._strip.watch, lasting=True)

    @property
    def ready(self) -> bool:
        """Whether the state of the machine and the form of the workflow are shown."""
        return self._strip.ready and self.run_panel.ready

    @property
    def tab(self) -> str:
        """The name of the tab that is shown, such as ``Run``; can be set."""
        index: int = self._tabs.selected_index
        return list(TABS)[index]

    @tab.setter
    def tab(self, name: str) -> None:
        if name not in TABS:
            raise ValueError(f"tab must be one of {', '.join(TABS)}, not {name!r}")
        self._tabs.selected_index = list(TABS).index(name)

    @property
    def machine(self) -> str | None:
        """The machine that runs and files go to, None for the local one; can be set to an id."""
        return self._strip.machine

    @machine.setter
    def machine(self, machine: str) -> None:
        self._strip.choose(machine)

    @property
    def machines(self) -> list[str]:
        """The ids of the machines that can be chosen."""
        return self._strip.machines

    @property
    def report(self) -> str:
        """The state of the machine as HTML."""
        return self._strip.report

    def free_memory(self) -> None:
        """Make ComfyUI free its memory, like the button *Free memory*; do not wait for it."""
        self._strip.free_memory()

    @property
    def run_panel(self) -> RunPanel:
        """The panel in the tab Run."""
        panel: RunPanel = self._panels["Run"]
        return panel

    @property
    def workflow_panel(self) -> WorkflowPanel:
        """The panel in the tab Workflows; makes it if needed."""
        return self._made(
            "Workflows",
            lambda: WorkflowPanel(comfy=self, run=self.show, directory=self._directory),
        )

    @property
    def upload_panel(self) -> UploadPanel:
        """The panel in the tab Files; makes it if needed."""
        # the machine is chosen on top
        return self._made(
            "Files", lambda: UploadPanel(self, machine=self.machine, choose_machine=False)
        )

    @property
    def tunnel_panel(self) -> TunnelPanel:
        """The panel in the tab Tunnel; makes it if needed."""
        return self._made("Tunnel", lambda: TunnelPanel(comfy=self))

    @property
    def account_panel(self) -> AccountPanel:
        """The panel in the tab Account; makes it if needed."""
        return self._made("Account", lambda: AccountPanel(self))

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the state of the machine is known and the panels have done their work."""
        panels = [panel.wait for panel in list(self._panels.values())]
        in_turn(timeout, self._strip.wait, *panels, super().wait)

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

    def stop(self) -> None:
        """Stop requesting the state of the machine, and close the panels in the tabs."""
        self._strip.stop()
        for panel in self._panels.values():
            panel.close()

    def _made(self, name: str, make: Callable[[], P]) -> P:
        """Return the panel in a tab; make it if needed."""
        if name not in self._panels:
            self._panels[name] = panel = make()
            self._places[name].children = [panel]
        made: P = self._panels[name]
        return made

    def _show_tab(self) -> None:
        """Make the content of the tab if it is opened for the first time."""
        getattr(self, TABS[self.tab])

    def _direct(self, machine: str | None) -> None:
        """Send runs and files to another machine from now on."""
        self.run_panel.machine = machine
        if "Files" in self._panels:
            self.upload_panel.machine = machine

    def _remember(self) -> None:
        """Set the output that the saved notebook shows."""
        if self.closing:
            return
        shown, text = self.run_panel.kept
        said = self._strip.summary
        self.keep(
            f"<p>{html.escape(said)}</p>{shown}" if said else shown,
            f"<ComfyDeployPanel{': ' if said else ''}{said}>\n{text}".rstrip(),
        )
