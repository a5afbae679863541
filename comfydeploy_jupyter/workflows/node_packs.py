"""The node packs that a workflow needs and ComfyUI lacks: find them, and let Manager install them.

ComfyUI-Manager in ComfyUI decides what may be installed, and does it. This package knows what it
has asked Manager for; what is installed, Manager knows, so nothing is stored here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..comfyui.find import git_commit
from ..comfyui.manager import Manager, Pack, pack_of
from ..errors import ComfyDeployError, ConflictError, InvalidRequestError, NotFoundError
from ..graphs.models import CORE_PACK
from ..util.child import plain_environment
from ..util.tasks import BackgroundTasks, wait_for
from ..util.times import utc_now
from .validate import validate_workflow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from ..machines.machine import Machine
    from .convert import Graphs

log = logging.getLogger(__name__)

INSTALL_TIMEOUT = 3600.0  # seconds; packages such as torch take long
NOT_LOADED = "It is installed, but ComfyUI could not load it"
GIT_TIMEOUT = 60.0  # seconds
WANTS = ("requirements.txt", "install.py")  # the files of a pack that Manager installs and runs
OTHER_NEEDS = (
    "ComfyUI-Manager installs what the newest commit needs; requirements.txt or install.py of this"
    " one is another, and has to be installed by hand"
)
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass
class Wanted:
    """A pack that a workflow needs."""

    pack: Pack
    classes: list[str]
    # missing: Manager can install it. waiting, installing: it was asked to. installed: ComfyUI
    # loads it when it is restarted. failed: it was not installed, or ComfyUI cannot load it.
    # no_manager: nothing here can install it.
    state: str = "missing"
    problem: str | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "pack": self.pack.id,
            "title": self.pack.title,
            "url": self.pack.url,
            "classes": self.classes,
            "state": self.state,
            "problem": self.problem,
        }


@dataclass
class Plan:
    manager: str | None  # the version of ComfyUI-Manager
    packs: list[Wanted] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)  # classes whose pack is not known


@dataclass
class Installation:
    pack: Pack
    asked_at: str
    version: str | None  # or a commit; None: the newest one
    state: str = "waiting"
    problem: str | None = None
    progress: str | None = None  # the last line of ComfyUI's log while it is being installed
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def describe(self) -> dict[str, Any]:
        return {
            "pack": self.pack.id,
            "title": self.pack.title,
            "state": self.state,
            "problem": self.problem,
            "progress": self.progress,
            "asked_at": self.asked_at,
        }


class NodePacks:
    """Finds missing node packs, and has them installed: one after the other on each machine."""

    def __init__(self) -> None:
        self._asked: dict[str, dict[str, Installation]] = {}  # by machine and pack
        self._working: set[str] = set()  # machines
        self._tasks = BackgroundTasks(log)

    @property
    def at_work(self) -> bool:
        return bool(self._working)

    async def close(self) -> None:
        await self._tasks.close()

    def on(self, machine: Machine) -> list[Installation]:
        """Return the installations on a machine, in the order in which they were asked for."""
        return list(self._asked.get(machine.id, {}).values())

    async def plan(self, machine: Machine, graphs: Graphs) -> Plan:
        """Find out in which packs the missing node classes of a workflow are."""
        found = await validate_workflow(machine, graphs)
        missing = list(found["missing_nodes"])
        client = await machine.ready() if missing else None
        manager = None if client is None else await Manager.find(client)
        plan = Plan(manager.version if manager is not None else None)
        if not missing:
            return plan
        unknown = []
        for entry in missing:
            named = _named(entry)
            if entry.get("pack") != CORE_PACK and (named is None or not named.in_registry):
                unknown.append(str(entry["class_type"]))
        known = await manager.packs_with(unknown) if manager is not None and unknown else {}
        packs: dict[str, Wanted] = {}
        for entry in missing:
            pack = _choose(entry, known.get(entry["class_type"], []))
            if pack is None:
                plan.others.append(entry)
            else:
                wanted = packs.setdefault(pack.id, Wanted(pack, []))
                wanted.classes.append(entry["class_type"])
        plan.packs = list(packs.values())
        if manager is None:
            for wanted in plan.packs:
                wanted.state = "no_manager"
        elif plan.packs:
            await self._look(machine, manager, plan.packs)
        return plan

    async def _look(self, machine: Machine, manager: Manager, packs: list[Wanted]) -> None:
        """Find out what has been done about packs."""
        there = await manager.installed()
        at_start = await manager.installed(at_start=True)
        for wanted in packs:
            asked = self._asked.get(machine.id, {}).get(wanted.pack.id)
            known = wanted.pack.is_in(there)
            if asked is not None and asked.state in ("waiting", "installing"):
                wanted.state = asked.state
            elif known is not None and known == wanted.pack.is_in(at_start):
                why = await manager.why_not_loaded(wanted.pack)
                wanted.state = "failed"
                wanted.problem = f"{NOT_LOADED}{f': {why}' if why else ', or lacks this class'}"
            elif known is not None:
                wanted.state = "installed"
                wanted.problem = asked.problem if asked is not None else None
            elif asked is not None and asked.state == "failed":
                wanted.state, wanted.problem = "failed", asked.problem

    def install(
        self,
        machine: Machine,
        plan: Plan,
        only: Collection[str] | None,
        versions: Mapping[str, str],
    ) -> None:
        """Have the missing packs of a plan installed, in these versions if they are to be had."""
        if plan.manager is None and plan.packs:
            raise ConflictError(
                "This ComfyUI has no ComfyUI-Manager of version 3 or 4, which installs node packs",
                extra={"hint": "Install the packs by hand: clone them into custom_nodes."},
            )
        ids = [wanted.pack.id for wanted in plan.packs]
        for field_, names in (("packs", only or ()), ("versions", versions)):
            if unknown := [name for name in names if name not in ids]:
                text = f"the workflow lacks no pack {unknown[0]!r}"
                raise InvalidRequestError.of_field(field_, text, candidates=ids)
        asked = self._asked.setdefault(machine.id, {})
        for wanted in plan.packs:
            can = wanted.state in ("missing", "failed")
            if can and (only is None or wanted.pack.id in only):
                asked.pop(wanted.pack.id, None)  # the order is that of the requests
                version = versions.get(wanted.pack.id)
                asked[wanted.pack.id] = Installation(wanted.pack, utc_now(), version)
                wanted.state, wanted.problem = "waiting", None
        waits = any(one.state == "waiting" for one in asked.values())
        if waits and machine.id not in self._working:
            self._working.add(machine.id)
            self._tasks.start(
                self._work(machine),
                "Installing node packs",
                when_done=lambda: self._stopped(machine.id),
            )

    def cancel(self, machine: Machine, pack: str) -> Installation:
        """Give up an installation that waits; Manager cannot end one that it has begun."""
        asked = self._asked.get(machine.id, {}).get(pack)
        if asked is None:
            raise NotFoundError(f"pack: no installation of {pack!r} was asked for")
        if asked.state != "waiting":
            raise ConflictError(
                "ComfyUI-Manager cannot end an installation that it has begun"
                if asked.state == "installing"
                else f"The installation is {asked.state}"
            )
        asked.state = "cancelled"
        return asked

    async def _work(self, machine: Machine) -> None:
        while waiting := [one for one in self.on(machine) if one.state == "waiting"]:
            one = waiting[0]
            one.state = "installing"
            try:
                await wait_for(self._install(machine, one), INSTALL_TIMEOUT)
                one.state = "installed"
            except ComfyDeployError as error:
                one.state, one.problem = "failed", error.message
            except asyncio.TimeoutError:
                one.state, one.problem = "failed", "It takes more than an hour"
            one.progress = None

    async def _install(self, machine: Machine, one: Installation) -> None:
        manager = await Manager.find(await machine.ready())
        if manager is None:
            raise ConflictError("This ComfyUI has no ComfyUI-Manager any more")

        def tell(line: str) -> None:
            one.progress = line

        version, why = one.version or "latest", ""
        is_commit = _COMMIT.fullmatch(version) is not None
        try:
            wanted = "nightly" if is_commit else version
            await manager.install(one.pack, one.id, tell, wanted)
        except ConflictError as error:
            if one.version is None or not one.pack.in_registry:
                raise
            why = f" ({error.message})"
            await manager.install(one.pack, uuid.uuid4().hex, tell)
        if one.version is None:
            return
        found, clone = await self._installed(machine, manager, one.pack)
        if is_commit and clone is not None:
            newest = await asyncio.to_thread(git_commit, clone / ".git")
            found = await asyncio.to_thread(_check_out, clone, version)
            if found == version and not await asyncio.to_thread(_needs_the_same, clone, newest):
                one.problem = OTHER_NEEDS
        if found != version:
            one.problem = f"{found} is installed instead of {version}, which cannot be had{why}"

    async def _installed(
        self, machine: Machine, manager: Manager, pack: Pack
    ) -> tuple[str, Path | None]:
        """Return the version or commit of a pack, and its clone if that is on this computer."""
        there, folders = await manager.installed(), await machine.folders()
        name = pack.folder_in(there)
        known = there.get(name) or {}
        paths = folders.model_folder("custom_nodes").paths if folders.base is not None else ()
        clones = (path / name for path in paths if name and (path / name / ".git").is_dir())
        return str(known.get("ver") or "an unknown one").strip(), next(clones, None)

    def _stopped(self, machine_id: str) -> None:
        """End what an unexpected error has left unfinished."""
        self._working.discard(machine_id)
        for one in self._asked.get(machine_id, {}).values():
            if one.state in ("waiting", "installing"):
                one.state, one.problem = "failed", "An internal error; see Jupyter's log"


def _named(entry: dict[str, Any]) -> Pack | None:
    """Return the pack that the workflow names for a missing class, unless it is ComfyUI itself."""
    name = entry.get("pack")
    return pack_of(name) if isinstance(name, str) and name != CORE_PACK else None


def _choose(entry: dict[str, Any], known: list[Pack]) -> Pack | None:
    """Return the pack of a missing class: as the workflow says, else as Manager's list does."""
    named = _named(entry)
    if entry.get("pack") == CORE_PACK or (named is not None and named.in_registry):
        return named
    # Manager knows a repository by the id that it has in the registry, if it has one
    same = [pack for pack in known if named is not None and pack.id == named.id]
    return next(iter([*same, *known]), named)


def _check_out(folder: Path, commit: str) -> str:
    """Check out a commit of a clone, if it has it; return the one that is checked out then.

    Only what the clone has is checked out: a server may also give commits of forks, which
    ComfyUI-Manager has not allowed.
    """
    _git(folder, "checkout", "-q", "--detach", "--recurse-submodules", commit)
    return git_commit(folder / ".git") or "another one"


def _needs_the_same(folder: Path, newest: str | None) -> bool:
    """Return whether what Manager has installed for a commit is what the present one wants."""
    known = _COMMIT.fullmatch(newest or "")
    return known is not None and _git(folder, "diff", "--quiet", known[0], "--", *WANTS) == 0


def _git(folder: Path, *arguments: str) -> int | None:
    """Call git in a clone, without its hooks; return its exit code, None if it does not end."""
    settings = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "advice.detachedHead=false")
    options = [word for each in settings for word in ("-c", each)]
    command = ["git", *options, *arguments]
    env = {**plain_environment(), "GIT_TERMINAL_PROMPT": "0"}
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT,
        ).returncode
    return None
