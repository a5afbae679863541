"""The settings of machines, from their records and from requests, with their checks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yarl import URL

from ..comfyui.client import NONE, split_address
from ..comfyui.find import launch_options
from ..errors import ConflictError, InvalidRequestError
from ..util.peers import Peers
from ..util.secrets import MASK
from . import checks
from .credentials import CREDENTIAL_FIELDS, checked_credentials, credentials_of
from .registry import LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..schemas import MachineConfig, MachineCreate
    from .machine import Machine
    from .registry import MachineRegistry
    from .settings import MachineSettings
    from .stored import MachineRecord

# Settings in `machine/update` that determine how a ComfyUI is found and started.
_SETTINGS = ("comfyui_url", "comfyui_path", "comfyui_python", "launch_args", "env", "gpu")
# Settings that are only stored, for snapshots and for ComfyDeploy.
_KEPT = ("autostart", "docker_steps", "comfyui_version")
# Options that a second ComfyUI in the same folder must not share: with one output folder, they
# would overwrite each other's pictures, and each one empties the temporary folder at its start.
_OWN = ("--output-directory", "--temp-directory", "--database-url", "--port", "--listen")


class Configuration:
    """Reads and checks the settings of machines."""

    def __init__(self, registry: MachineRegistry, configured: MachineSettings) -> None:
        self._registry = registry
        self._configured = configured

    def settings_of(self, record: MachineRecord) -> MachineSettings:
        """Return the settings of a machine: those in its record, else the configured ones."""
        base = self._configured
        if record.kind != "local":
            base = replace(
                base,
                comfyui_url="",
                comfyui_path="",
                comfyui_python="",
                launch_args=(),
                env={},
                gpu="",
                by_chance=False,
                credentials=NONE,
            )
        if record.config.keys() & {"comfyui_url", *CREDENTIAL_FIELDS}:
            base = replace(base, credentials=credentials_of(record.config, base.credentials))
        known = {name: record.config[name] for name in _SETTINGS if name in record.config}
        if "launch_args" in known:
            known["launch_args"] = tuple(known["launch_args"])
        return replace(base, **known)

    async def checked(
        self,
        request: MachineConfig,
        known: dict[str, Any],
        default_args: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Return the settings in a request, each validated separately.

        An address without a path removes the stored path, since that would be the folder of another
        ComfyUI.
        """
        given: dict[str, Any] = {
            name: getattr(request, name)
            for name in (*_SETTINGS, *_KEPT)
            if getattr(request, name) is not None
        }
        if request.docker_command_steps is not None:
            given.setdefault("docker_steps", request.docker_command_steps)
        if request.launch_args is not None:
            arguments = checks.split_arguments(request.launch_args)
            shown = known.get("launch_args", default_args)
            given["launch_args"] = list(checks.with_secrets(arguments, shown))
        if request.env is not None:
            # An unchanged masked value stands for the stored value.
            env = {k: v for k, v in request.env.items() if v != MASK}
            merged = {**known.get("env", {}), **checks.check_environment(env)}
            given["env"] = {name: value for name, value in merged.items() if value is not None}
        if request.gpu is not None:
            given["gpu"] = await asyncio.to_thread(checks.check_gpu, request.gpu)
        if request.comfyui_python:
            await asyncio.to_thread(checks.check_python, request.comfyui_python)
        if request.comfyui_path:
            given["comfyui_path"] = str(
                await asyncio.to_thread(checks.check_tree, request.comfyui_path)
            )
        found = await asyncio.to_thread(checked_credentials, request, known)
        if request.comfyui_url:
            peers = Peers(self._configured.trusted_users)
            url, _ = split_address(request.comfyui_url)
            access = await asyncio.to_thread(credentials_of(found).read)
            given["comfyui_url"] = await checks.check_address(url, peers, access)
            given.setdefault("comfyui_path", "")
        return {**given, **found}

    async def check_whole(self, settings: MachineSettings, machine: Machine | None = None) -> None:
        """Validate the settings together: options according to the ComfyUI that receives them."""
        if not (settings.by_chance or settings.comfyui_url or settings.comfyui_path):
            raise InvalidRequestError.of_field(
                "comfyui_path", "is needed, unless comfyui_url is given"
            )
        if settings.comfyui_url:
            if settings.gpu:
                raise InvalidRequestError.of_field(
                    "gpu", "can be chosen only for a ComfyUI that this server starts"
                )
            self._check_single(settings.comfyui_url, machine)
            return
        place: str | Path | None = settings.comfyui_path or None
        if place is None and machine is not None and machine.managed:
            place = machine.path
        if place is not None and settings.launch_args:
            await asyncio.to_thread(checks.check_options, settings.launch_args, place)

    def _check_single(self, url: str, but: Machine | None) -> None:
        """Raise if another machine has this ComfyUI, which sends its events to one socket only."""
        for machine in self._registry:
            if machine is not but and _same_address(
                url, machine.url or machine.settings.comfyui_url
            ):
                raise ConflictError(
                    f"comfyui_url: machine {machine.id!r} is at {url} already",
                    details={"field": "comfyui_url", "machine": machine.id},
                )

    def copied(self, request: MachineCreate, given: dict[str, Any]) -> Machine | None:
        """Copy missing settings from `local`; return the machine whose folder is shared."""
        local = self._registry.get(LOCAL)
        if "comfyui_path" not in given:
            if local.path is None:
                raise InvalidRequestError.of_field(
                    "comfyui_path", "is needed: the folder of the ComfyUI of 'local' is not known"
                )
            given["comfyui_path"] = str(local.path)
            if local.python is not None:
                given.setdefault("comfyui_python", str(local.python))
            if request.launch_args is None:
                given["launch_args"] = _without(local.settings.launch_args, _OWN)
            given["env"] = {**local.settings.env, **given.get("env", {})}
        path = Path(given["comfyui_path"])
        same = (m for m in self._registry if m.path is not None and m.path == path)
        return next(same, None)

    async def own_folders(
        self, machine_id: str, shared: Machine, settings: MachineSettings, folder: Path
    ) -> list[str]:
        """Return the arguments that separate the files of two ComfyUIs in the same folder."""
        outputs = (await shared.folders()).directory("output")
        known = await asyncio.to_thread(launch_options, Path(settings.comfyui_path))
        own = {
            "--output-directory": str(outputs / machine_id),
            "--temp-directory": str(folder),
            "--database-url": f"sqlite:///{folder / 'comfyui.db'}",
        }
        given = {argument.partition("=")[0] for argument in settings.launch_args}
        return [
            part
            for option, value in own.items()
            if option in known and option not in given
            for part in (option, value)
        ]


def _without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return arguments without some options and their values."""
    kept: list[str] = []
    dropping = False
    for argument in arguments:
        if argument.startswith("-"):
            dropping = argument.partition("=")[0] in options
        if not dropping:
            kept.append(argument)
    return kept


def _same_address(one: str, other: str) -> bool:
    if not one or not other:
        return False
    first, second = (URL(url.replace("://localhost", "://127.0.0.1")) for url in (one, other))
    same_host = (first.scheme, first.host, first.port) == (second.scheme, second.host, second.port)
    return same_host and first.path.rstrip("/") == second.path.rstrip("/")
