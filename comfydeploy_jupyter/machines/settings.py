"""The settings of machines, from their records and from requests; each error names its field."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from yarl import URL

from ..comfyui.client import NONE, PLAIN, Access, Credentials, check_headers, split_address
from ..comfyui.find import (
    INSTALL_COMMAND,
    has_gpu,
    is_comfyui_tree,
    unknown_option,
    what_answers,
)
from ..comfyui.folders import Folders
from ..comfyui.process import option_value, port_number
from ..errors import ComfyUIUnavailableError, ConflictError, InvalidRequestError
from ..util.secrets import MASK, unmasked_arguments
from ..util.sockets import Peers
from .hardware import gpus_of_driver
from .registry import LOCAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..request_models import MachineConfig, MachineCreate
    from .machine import Machine
    from .records import MachineRecord
    from .registry import MachineRegistry
CREDENTIAL_FILES = ("client_cert", "client_key", "ca")
CREDENTIAL_FIELDS = (
    "comfyui_headers",
    "comfyui_authorization",
    *(f"comfyui_{name}" for name in CREDENTIAL_FILES),
)
_SHELL = re.compile(r"[;|&$`<>\x00-\x1f\x7f]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GPU = re.compile(r"\d{1,3}(,\d{1,3})*|(GPU|MIG)-[0-9A-Za-z/-]+(,(GPU|MIG)-[0-9A-Za-z/-]+)*")
MAX_ARGUMENTS = 200
MAX_LENGTH = 4096  # characters of one argument
OF_CLUSTERS = ("cluster", "scheduler", "security", "workers", "shared_dir")
# Settings in `machine/update` that determine how a ComfyUI is found and started.
_SETTINGS = ("comfyui_url", "comfyui_path", "comfyui_python", "launch_args", "env", "gpu")
# Settings that are only stored, for snapshots and for ComfyDeploy.
_KEPT = ("autostart", "docker_steps", "comfyui_version")
# Options that a second ComfyUI in the same folder must not share.
_OWN = ("--output-directory", "--temp-directory", "--database-url", "--port", "--listen")


@dataclass(frozen=True)
class MachineSettings:
    comfyui_url: str = ""  # of a ComfyUI that this server does not start
    comfyui_path: str = ""  # without a URL, ComfyUI is started from there
    comfyui_python: str = ""  # if empty, it is searched for
    launch_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)  # in addition to that of this server
    gpu: str = ""  # the GPUs that it sees: "0", "0,1" or a UUID; empty: all
    by_chance: bool = True  # whether a ComfyUI at the default port or in a usual folder is used
    request_timeout: float = 30.0  # seconds that ComfyUI has to answer one request
    start_timeout: float = 300.0  # seconds within which one that this server starts must answer
    stuck_after: float = 0.0  # seconds without activity, with prompts, before a restart; 0: never
    jupyter_root: Path | None = None
    extra_roots: tuple[Path, ...] = ()  # further folders that may be read
    trusted_users: tuple[str, ...] = ()  # beside this one and root, whose ComfyUI may be used
    credentials: Credentials = NONE  # that the ComfyUI at `comfyui_url` asks for
    access: Access = PLAIN  # the same for a member of a pool, from its provider

    @property
    def place(self) -> tuple[str, str]:
        return self.comfyui_url, self.comfyui_path

    def reaches(self, other: MachineSettings) -> bool:
        """Return whether other settings reach the same ComfyUI with the same credentials."""
        return (self.place, self.credentials) == (other.place, other.credentials)

    def of_another(self, **given: Any) -> MachineSettings:
        """Return the same settings for another ComfyUI: only what is given says where it is."""
        nowhere: dict[str, Any] = {"comfyui_url": "", "comfyui_path": "", "comfyui_python": ""}
        nowhere |= {"launch_args": (), "env": {}, "gpu": "", "by_chance": False}
        return replace(self, **{**nowhere, "credentials": NONE, **given})

    @property
    def launch(self) -> tuple[Any, ...]:
        """The settings that take effect only when a ComfyUI is started."""
        return (*self.place, self.comfyui_python, self.launch_args, self.environment())

    def environment(self) -> dict[str, str]:
        """Return the environment variables for ComfyUI; those that select its GPUs come first."""
        if not self.gpu:
            return dict(self.env)
        # By default CUDA numbers the fastest GPU first, and nvidia-smi by the position on the bus.
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        visible = {"CUDA_VISIBLE_DEVICES": self.gpu, "HIP_VISIBLE_DEVICES": self.gpu}
        return {**order, **visible, **self.env}


def credentials_of(config: Mapping[str, Any], configured: Credentials = NONE) -> Credentials:
    """Return the credentials in a machine's record.

    Those that the record does not have are the configured ones, unless the record has an address of
    its own: credentials are for one server only.
    """
    base = NONE if config.get("comfyui_url") else configured
    return Credentials(
        headers=config.get("comfyui_headers", base.headers),
        authorization=config.get("comfyui_authorization", base.authorization),
        **{name: config.get(f"comfyui_{name}", getattr(base, name)) for name in CREDENTIAL_FILES},
    )


def checked_credentials(request: MachineConfig, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the record for the credentials in a request. This reads certificates.

    A new address without credentials removes the stored ones, since these are for another server.
    """
    given: dict[str, Any] = {}
    moved = False
    if request.comfyui_url:
        url, authorization = split_address(request.comfyui_url)
        moved = url.rstrip("/") != known.get("comfyui_url")
        if moved:
            given = {"comfyui_headers": {}, **{f"comfyui_{name}": "" for name in CREDENTIAL_FILES}}
        if moved or authorization:
            given["comfyui_authorization"] = authorization
    if request.comfyui_headers is not None:
        stored = {} if moved else known.get("comfyui_headers", {})
        headers = {**stored, **request.comfyui_headers}
        for name, value in headers.items():
            if value == MASK and name not in stored:
                raise InvalidRequestError.of_field(
                    "comfyui_headers", f"{name}: the value is not known here; give it"
                )
            if value == MASK:
                headers[name] = stored[name]
        given["comfyui_headers"] = check_headers(
            {name: value for name, value in headers.items() if value is not None}
        )
    for name in CREDENTIAL_FILES:
        value = getattr(request, f"comfyui_{name}")
        if value is not None:
            given[f"comfyui_{name}"] = value
    if given:
        credentials_of({**known, **given}).read()
    return given


def check_without_cluster(request: MachineConfig, kind: str) -> None:
    """Raise if a request for a machine of another kind has fields of a pool on a cluster."""
    for name in OF_CLUSTERS:
        if getattr(request, name) is not None:
            raise InvalidRequestError.of_field(
                name, f"is for a pool on a Dask cluster (kind dask), not for the kind {kind}"
            )


def split_arguments(given: Sequence[str] | str) -> tuple[str, ...]:
    """Return launch arguments as a tuple; a text is split like shell words, without expansions."""
    refusal = partial(InvalidRequestError.of_field, "launch_args")
    try:
        arguments = shlex.split(given) if isinstance(given, str) else list(given)
    except ValueError as error:
        raise refusal(f"cannot be split: {error}") from None
    if len(arguments) > MAX_ARGUMENTS:
        raise refusal(f"are more than {MAX_ARGUMENTS}")
    for argument in arguments:
        if found := _SHELL.search(argument):
            text = f"{argument[:80]!r} has {found[0]!r} in it; no shell reads the arguments, so"
            raise refusal(f"{text} this has no effect")
        if not argument or len(argument) > MAX_LENGTH:
            raise refusal("an argument is empty or too long")
    if arguments and not arguments[0].startswith("-"):
        raise refusal(f"{arguments[0][:80]!r} is not an option; options begin with --")
    return tuple(arguments)


def check_options(arguments: Sequence[str], place: str | Path) -> None:
    """Raise if ComfyUI cannot parse its options; without a list of its options, do not raise."""
    port = option_value(arguments, "--port")
    if port is not None and port_number(port) is None:
        raise InvalidRequestError.of_field("launch_args", f"--port {port[:80]!r} is not a port")
    path = Path(place).expanduser()
    Folders(path, argv=arguments)  # validates the options of folders, as ComfyUI does
    refused = unknown_option(arguments, path)
    if refused is not None:
        raise InvalidRequestError.of_field("launch_args", refused)


def check_tree(given: str) -> Path:
    if "\0" in given:
        raise InvalidRequestError.of_field("comfyui_path", "contains a NUL")
    path = Path(given).expanduser()
    if not path.is_absolute():
        raise InvalidRequestError.of_field("comfyui_path", "must be absolute, or begin with ~")
    if not is_comfyui_tree(path):
        raise InvalidRequestError.of_field(
            "comfyui_path",
            f"there is no ComfyUI in {path}; `{INSTALL_COMMAND} --path {path}` installs one",
        )
    return path


def check_python(given: str) -> None:
    path = Path(given).expanduser() if "\0" not in given else Path()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise InvalidRequestError.of_field("comfyui_python", f"there is no program at {given!r}")


def check_environment(given: Mapping[str, str | int | float | None]) -> dict[str, str | None]:
    """Return environment variables as text; None for those that are to be removed."""
    found: dict[str, str | None] = {}
    for name, value in given.items():
        if not _VARIABLE.fullmatch(name):
            raise InvalidRequestError.of_field(
                "env", f"{name[:80]!r} is not the name of a variable"
            )
        text = None if value is None else str(value)
        if text is not None and ("\0" in text or len(text) > 128 * 1024):
            raise InvalidRequestError.of_field("env", f"{name} contains a NUL or is too long")
        found[name] = text
    return found


def with_secrets(given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return launch arguments in which masked secrets are replaced by the stored ones."""
    try:
        return tuple(unmasked_arguments(given, known))
    except KeyError as error:
        raise InvalidRequestError.of_field(
            "launch_args",
            f"{error.args[0]!r} is the mask of a secret that this server does not have:"
            " send its value",
        ) from None


def check_gpu(given: str | int) -> str:
    """Return the selected GPUs as a value for ``CUDA_VISIBLE_DEVICES``; empty: all of them."""
    text = str(given).replace(" ", "")
    if not text:
        return ""
    if not _GPU.fullmatch(text):
        raise InvalidRequestError.of_field(
            "gpu", "must be the number of a GPU, several as 0,1, or a UUID that begins with GPU-"
        )
    there = gpus_of_driver()
    if not there and not has_gpu():
        raise InvalidRequestError.of_field("gpu", "no GPU was found on this machine")
    known = {str(gpu["index"]) for gpu in there} | {gpu["uuid"] for gpu in there}
    for name in text.split(","):
        if there and name not in known and not name.startswith("MIG-"):
            names = ", ".join(f"{gpu['index']} ({gpu['name']})" for gpu in there)
            raise InvalidRequestError.of_field("gpu", f"there is no GPU {name}; there are {names}")
    return text


async def check_address(url: str, peers: Peers | None = None, access: Access = PLAIN) -> str:
    """Return the validated address of a ComfyUI, which need not answer now."""
    url = url.rstrip("/")
    if "?" in url or "#" in url:
        raise InvalidRequestError.of_field("comfyui_url", "must not contain ? or #")
    if "@" in urlsplit(url).netloc:
        raise InvalidRequestError.of_field("comfyui_url", "must not contain a user or a password")
    try:
        answer = await what_answers(url, peers=peers, access=access)
    except ComfyUIUnavailableError as error:
        if error.details.get("foreign"):
            reason = f"{url} is not used: {error.details['reason']}"
            raise InvalidRequestError.of_field("comfyui_url", reason) from None
        return url
    if answer is not None:
        raise InvalidRequestError.of_field(
            "comfyui_url", f"the server at {url} is not ComfyUI: {answer}"
        )
    return url


class Configuration:
    def __init__(self, registry: MachineRegistry, configured: MachineSettings) -> None:
        self._registry = registry
        self._configured = configured

    def settings_of(self, record: MachineRecord) -> MachineSettings:
        """Return the settings of a machine: those in its record, else the configured ones."""
        base = self._configured
        if record.kind != "local":
            base = base.of_another()
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
            arguments = split_arguments(request.launch_args)
            shown = known.get("launch_args", default_args)
            given["launch_args"] = list(with_secrets(arguments, shown))
        if request.env is not None:
            # An unchanged masked value stands for the stored value.
            env = {k: v for k, v in request.env.items() if v != MASK}
            merged = {**known.get("env", {}), **check_environment(env)}
            given["env"] = {name: value for name, value in merged.items() if value is not None}
        if request.gpu is not None:
            given["gpu"] = await asyncio.to_thread(check_gpu, request.gpu)
        if request.comfyui_python:
            await asyncio.to_thread(check_python, request.comfyui_python)
        if request.comfyui_path:
            given["comfyui_path"] = str(await asyncio.to_thread(check_tree, request.comfyui_path))
        found = await asyncio.to_thread(checked_credentials, request, known)
        if request.comfyui_url:
            peers = Peers(self._configured.trusted_users)
            url, _ = split_address(request.comfyui_url)
            access = await asyncio.to_thread(credentials_of(found).read)
            given["comfyui_url"] = await check_address(url, peers, access)
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
            await asyncio.to_thread(check_options, settings.launch_args, place)

    def _check_single(self, url: str, but: Machine | None) -> None:
        """Raise if another machine has this ComfyUI, which sends its events to one socket only."""
        for machine in self._registry:
            if machine is not but and _same_address(
                url, machine.url or machine.settings.comfyui_url
            ):
                text = f"machine {machine.id!r} is at {url} already"
                raise ConflictError.of_field("comfyui_url", text, machine=machine.id)

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


def _without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
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
