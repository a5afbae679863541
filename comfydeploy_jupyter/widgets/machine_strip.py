"""The state of a machine: its ComfyUI, its queue, its hardware; and the choice of machine."""

from __future__ import annotations

import html
import threading
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ..client.files import human_size
from ..client.text import counted
from ..errors import ComfyDeployError, NotFoundError
from .base import GAP, Problem, not_done, unbroken
from .parts import Note, OwnChoices, button, row, state_html, text_box

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..client import Machine
    from .base import Panel

USUAL, SOON = 3.0, 1.0
"""Seconds between two requests: usually, and while ComfyUI is not ready."""

STATES = {
    "ready": ("is ready", "var(--cd-success)"),
    "starting": ("is starting …", "var(--cd-warn)"),
    "paused": ("fails runs: pools give it none for some time", "var(--cd-error)"),
    "backoff": ("has ended and is started again soon", "var(--cd-warn)"),
    "failed": ("does not start", "var(--cd-error)"),
    "stopped": ("is stopped", "var(--cd-faint)"),
    "unreachable": ("cannot be reached", "var(--cd-error)"),
}
"""The text for each state of a machine, and the colour of the dot before it."""

POOLS = ("pool", "dask")
"""The kinds of machines that have members."""

FULL = 0.9
"""The share of memory or disk above which it is shown as nearly full."""

TUNNELS = {"stopped": "off", "starting": "starting …", "restarting": "starting again …"}


class MachineStrip(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A strip with the state of a machine, which is requested every few seconds."""

    def __init__(
        self,
        panel: Panel,
        machine: str | None,
        on_choose: Callable[[str | None], object],
        on_change: Callable[[], object],
    ) -> None:
        self.machine = machine  # the chosen machine; None for the default one
        # the state of the machine in a few words, without numbers that change all the
        # time
        self.summary = ""
        self._panel = panel
        self._on_choose = on_choose
        self._on_change = on_change
        self._wake = threading.Event()
        self._responded = threading.Event()
        self._own_choices = OwnChoices()
        self._state = text_box(flex="1 1 200px")
        self._selector = w.Dropdown(
            description="Machine",
            tooltip="The machine that executes the runs",
            style={"description_width": "auto"},
            layout=w.Layout(width="auto", max_width="100%", margin="0", display="none"),
        )
        self._free = button(
            "Free memory",
            self.free_memory,
            icon="eraser",
            hint="Make ComfyUI unload its models and free memory",
        )
        self._free.layout.display = "none"
        self._back = button(
            "",
            self.go_back,
            icon="history",
            hint="Stop ComfyUI, and start the version that its last update has kept; a run that it"
            " executes fails",
        )
        self._back.layout.display = "none"
        self._freed, self._version = Note(), Note()
        self._problem = Problem()
        self._facts = text_box()
        below = [self._freed, self._version, self._problem, self._facts]
        super().__init__(
            [row(self._state, self._free, self._back, self._selector), *below],
            layout=w.Layout(width="auto", grid_gap=GAP),
        )
        self.add_class("comfydeploy-machine")
        self._selector.observe(lambda change: panel.attempt(self._chosen, change["new"]), "value")
        self._state.value = state_html("Connecting …", "var(--cd-faint)", bold=True)

    @property
    def ready(self) -> bool:
        """Whether the state was requested at least once, with or without success."""
        return self._responded.is_set()

    @property
    def report(self) -> str:
        """Its content as HTML."""
        parts = (self._state, self._freed, self._version, self._problem, self._facts)
        return "".join(part.value for part in parts)

    @property
    def machines(self) -> list[str]:
        """The ids of the machines that can be chosen."""
        return [machine_id for _, machine_id in self._selector.options]

    def choose(self, machine: str) -> None:
        """Choose one of `machines`."""
        if machine not in self.machines:
            known = ", ".join(self.machines) or "none is known yet"
            raise ValueError(f"there is no machine {machine!r}; machines are {known}")
        self._selector.value = machine

    def free_memory(self) -> None:
        """Free memory and show how much, like the button *Free memory*; do not wait for it."""
        self._free.disabled = True
        self._panel.start(self._free_memory)

    def go_back(self) -> None:
        """Use the ComfyUI that an update has kept; do not wait for it."""
        self._back.disabled = True
        self._freed.show(f"{self._back.description} …")
        self._panel.start(self._go_back)

    def watch(self) -> None:
        """Request and show the state until the panel is closed; call it in a thread."""
        while not self._panel.closing:
            self._wake.clear()
            wait = SOON
            try:
                if self._refresh() == "ready":
                    wait = USUAL
            except NotFoundError as error:
                self._show_unreachable("There is no such machine", error)
                self.machine = None  # it has been deleted
                self._on_choose(None)
            except ComfyDeployError as error:
                self._show_unreachable("The Jupyter server does not answer", error)
                wait = USUAL
            self._responded.set()
            self._panel.idle(self._wake, wait)

    def wait(self, timeout: float | None) -> None:
        """Wait until the state was requested at least once, with or without success."""
        if not self._responded.wait(timeout):
            raise not_done(timeout)

    def stop(self) -> None:
        """Wake the thread that requests the state, which then ends."""
        self._wake.set()

    def _chosen(self, machine: str | None) -> None:
        if machine is None or not self._own_choices.by_user:
            return
        self.machine = machine
        self._freed.show("")
        self._wake.set()
        self._on_choose(machine)

    def _free_memory(self) -> None:
        machine = self.machine
        try:
            said = str(self._panel.comfy.free(machine=machine))
        except ComfyDeployError as error:
            said = str(error)
        finally:
            self._free.disabled = False
        if machine == self.machine and not self._panel.closing:
            self._freed.show(said)
            self._wake.set()

    def _go_back(self) -> None:
        machine = self.machine
        try:
            said = " ".join(self._panel.comfy.machines.go_back(machine))
        except ComfyDeployError as error:
            said = str(error)
        finally:
            self._back.disabled = False
        if machine == self.machine and not self._panel.closing:
            self._freed.show(said)
            self._wake.set()

    def _refresh(self) -> str:
        """Request and show the state of the machine; return it."""
        comfy, asked = self._panel.comfy, self.machine
        status = comfy.status(machine=asked)
        # Machines of ComfyDeploy run workflows that are deployed there, not those of a panel.
        machines = [one for one in comfy.machines.list() if one.kind != "cloud"]
        found = next((one for one in machines if asked in (one.id, one.name)), machines[0])
        if asked != self.machine or self._panel.closing:
            return ""
        self._offer(machines, found)
        members = found.members if found.kind in POOLS else []
        self._show_state(found, status["comfyui"], members)
        # This request takes longer: the server asks drivers and ComfyUI.
        machine = comfy.machines.get(found.id)
        if asked == self.machine and not self._panel.closing:
            self._facts.value = facts_html(status, machine.hardware, members)
        return found.status

    def _offer(self, machines: list[Machine], chosen: Machine) -> None:
        options = tuple((one.name, one.id) for one in machines)
        with self._own_choices.made():
            if self._selector.options != options:
                self._selector.options = options
            self._selector.value = chosen.id
        self._selector.layout.display = "" if len(machines) > 1 else "none"

    def _show_state(
        self, machine: Machine, comfyui: dict[str, Any], members: Sequence[dict[str, Any]] = ()
    ) -> None:
        text, colour = STATES.get(machine.status, (machine.status, "var(--cd-faint)"))
        if members:
            ready = sum(member["status"] == "ready" for member in members)
            said = f"{ready} of {counted(len(members), 'machine')} ready"
            colour = STATES["ready" if ready == len(members) else "starting"][1]
        else:
            version = f" {comfyui['version']}" if comfyui.get("version") else ""
            said = f"ComfyUI{version} {text}"
        self._state.value = state_html(said, colour, bold=True)
        self._free.layout.display = "" if machine.status == "ready" else "none"
        kept = comfyui.get("kept")
        self._back.description = f"Back to ComfyUI {kept['version']}" if kept else ""
        self._back.layout.display = "" if kept and not members else "none"
        notes = (comfyui.get(key) for key in ("version_note", "database_note"))
        self._version.show("\n".join(str(text) for text in notes if text))
        problems = [
            machine.record.get("error"),  # for a pool, that of its cluster
            *(comfyui.get(key) for key in ("error", "hint", "passed_over")),
        ]
        self._problem.show("\n".join(dict.fromkeys(str(text) for text in problems if text)))
        self._summarize(said)

    def _show_unreachable(self, text: str, error: ComfyDeployError) -> None:
        if self._panel.closing:
            return
        self._state.value = state_html(text, "var(--cd-error)", bold=True)
        self._free.layout.display = self._back.layout.display = "none"
        self._version.show("")
        self._problem.show(str(error))
        self._facts.value = ""
        self._summarize(text)

    def _summarize(self, text: str) -> None:
        if text != self.summary:
            self.summary = text
            self._on_change()


def facts_html(
    status: dict[str, Any], hardware: dict[str, Any], members: Sequence[dict[str, Any]] = ()
) -> str:
    """Return queue, hardware, transfers and tunnel as a list in HTML."""
    queue, moving = status["queue"], status["uploads"]["pending_uploads"]
    counts = {"running": queue["running"], "waiting": queue["pending"]}
    parts = [f"{number} {what}" for what, number in counts.items() if number]
    rows = [_fact("Queue", ", ".join(parts) or "empty")]
    rows += [
        _usage(str(gpu["name"]), gpu.get("memory") or {}, _percent(gpu), wide=True)
        for gpu in hardware["gpus"]
    ]
    if hardware["cpu"]:
        cpu = hardware["cpu"]
        cores = f"{cpu['percent']:.0f} % of {counted(cpu['cores'] or 1, 'core')}"
        rows.append(_fact("CPU", cores, cpu["percent"] / 100))
    if hardware["memory"]:
        rows.append(_usage("Memory", hardware["memory"]))
    for disk in hardware["disks"]:
        share = disk["used"] / disk["total"] if disk["total"] else None
        name = "Disk" if len(hardware["disks"]) == 1 else f"Disk of {disk['path']}"
        rows.append(_fact(name, f"{human_size(disk['free'])} free", share))
    rows.append(_fact("Transfers", f"{moving} in progress" if moving else "none"))
    rows.append(_fact("Tunnel", _tunnel(status["tunnel"])))
    rows += [
        _fact("Store", warning, wide=True)
        for warning in status.get("store", {}).get("warnings", ())
    ]
    facts = f'<dl class="cd-facts" aria-label="State of the machine">{" ".join(rows)}</dl>'
    if not members:
        return facts
    shown = "".join(_member(member) for member in members)
    return f'{facts}<ul class="cd-members" aria-label="Machines of the pool">{shown}</ul>'


def _member(member: dict[str, Any]) -> str:
    """Return the state of a machine of a pool: its ComfyUI, GPU, queue and models."""
    state, colour = STATES.get(member["status"], (member["status"], "var(--cd-faint)"))
    running = 1 if member["run"] else 0
    counts = {"running": running, "waiting": max(0, member["queue"] - running)}
    work = ", ".join(f"{number} {what}" for what, number in counts.items() if number) or "idle"
    gpu = str(member["gpu"] or "")
    about = [
        f"ComfyUI {member['version'] or ''}".strip(),
        f"GPU {gpu}" if gpu.isdecimal() else gpu,
        "" if member["status"] == "ready" else state,
    ]
    models = ", ".join(str(name).rpartition("/")[2] for name in member["models"])
    error = unbroken(str(member.get("error") or ""))
    name, described = html.escape(str(member["name"])), html.escape(" · ".join(filter(None, about)))
    loaded = f'<div class="cd-loaded">{html.escape(models)}</div>' if models else ""
    failed = f'<div class="comfydeploy-error">{error}</div>' if error else ""
    return (
        f'<li><div class="cd-name"><span aria-hidden="true" style="color:{colour}">●</span>'
        f' <b title="{name}">{name}</b> <span class="cd-work-left">{work}</span></div>'
        f"<div>{described}</div>{loaded}{failed}</li>"
    )


def _fact(name: str, text: str, share: float | None = None, *, wide: bool = False) -> str:
    meter = ""
    if share is not None:
        width = 100 * min(max(share, 0.0), 1.0)
        full = " cd-full" if share > FULL and name != "CPU" else ""  # a busy CPU is normal
        bar = f'<div style="width:{width:.0f}%"></div>'
        meter = f'<div class="cd-meter{full}" aria-hidden="true">{bar}</div>'
    named = html.escape(name)
    size = ' class="cd-wide"' if wide else ""
    return f'<div{size}><dt title="{named}">{named}</dt><dd>{html.escape(text)}{meter}</dd></div>'


def _usage(name: str, memory: dict[str, Any], also: str = "", *, wide: bool = False) -> str:
    """Return the memory in use; the total, or the part in use, may be unknown."""
    total, used = memory.get("total"), memory.get("used")
    if not total:
        return _fact(name, also or "memory unknown", wide=wide)
    if used is None:
        return _fact(name, f"{human_size(total)}{', ' if also else ''}{also}", wide=wide)
    number, unit = human_size(used).split(" ")
    whole = human_size(total)
    part = number if whole.endswith(f" {unit}") else f"{number} {unit}"
    text = f"{part} of {whole}{', ' if also else ''}{also}"
    return _fact(name, text, used / total, wide=wide)


def _percent(gpu: dict[str, Any]) -> str:
    return "" if gpu.get("percent") is None else f"{gpu['percent']:.0f} % busy"


def _tunnel(tunnel: dict[str, Any]) -> str:
    if tunnel["running"]:
        return "on" if tunnel["protected"] else "on, open to everybody"
    if tunnel["error"] and tunnel["state"] == "stopped":
        return "failed"
    return TUNNELS.get(tunnel["state"], str(tunnel["state"]))
