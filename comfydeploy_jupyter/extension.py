"""The server extension: its settings, start and stop."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.extension.application import ExtensionApp
from traitlets import (
    Bool,
    Dict,
    Enum,
    Float,
    Int,
    List,
    TraitError,
    TraitType,
    Unicode,
    default,
    validate,
)

from ._version import __version__
from .errors import ComfyDeployError, InvalidRequestError, printable
from .handlers import Mount
from .util.secrets import is_key
from .util.system import is_true, require_posix
from .util.tasks import BackgroundTasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import metrics
    from .handlers.base import Handler
    from .handlers.overview import Overview
    from .handlers.ws import EventSocket
    from .services import Services
    from .tunnel.tunnels import Origin

ENV_PREFIX = "COMFYDEPLOY_"
OTHER_VARIABLES = {  # of other programs, which are read, too
    "api_key": "COMFY_DEPLOY_API_KEY",
    "comfy_api_key": "COMFY_API_KEY",
    "huggingface_token": "HF_TOKEN",
    "civitai_token": "CIVITAI_API_KEY",
}
MIB = 1024 * 1024
EVENT_SCHEMAS = Path(__file__).parent / "event_schemas"
EVENTS = {
    name: f"https://comfydeploy-jupyter.github.io/comfydeploy-jupyter/events/{name}/v1"
    for name in ("run", "machine")
}
LOOK_INTERVAL = 1.0  # seconds between checks for unfinished runs or transfers

package_log = logging.getLogger(__package__)  # parent of the loggers of all modules of this package
log = logging.getLogger(__name__)


class JupyterLog(logging.Handler):
    """Passes log records on to the log of the Jupyter server, whose handlers write them."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on, with escapes for control characters in the names and texts in it."""
        shown = copy.copy(record)
        try:
            shown.msg, shown.args = printable(record.getMessage()), None
        except Exception:  # of an argument's own code: never in the code that logs
            self.handleError(record)
            return
        self._log.handle(shown)


def _written_from(log: logging.Logger) -> int:
    """Return the level from which on a log writes records: Jupyter's own takes all levels."""
    handlers, at = [*log.handlers], log
    while at.propagate and at.parent is not None:
        at = at.parent
        handlers += at.handlers
    level = log.getEffectiveLevel()
    return max(level, min((handler.level for handler in handlers), default=level))


class ComfyDeploy(ExtensionApp):
    """ComfyUI workflows at Jupyter's own address.

    Each setting can also be given by an environment variable: ``COMFYDEPLOY_`` and its name in
    capitals. Configuration files and the command line override the environment.
    """

    name = "comfydeploy"
    version = __version__
    load_other_extensions = True
    open_browser = False

    comfyui_url = Unicode(
        "",
        help="Address of a ComfyUI that is already running, e.g. http://127.0.0.1:8188. The"
        " extension never starts or stops it. Empty: the extension uses the ComfyUI on port 8188 if"
        " there is one, and starts one otherwise. A user and a password in it"
        " (https://user:password@host) are sent with each request.",
    ).tag(config=True)
    comfyui_headers = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Headers that are sent with each request to comfyui_url, e.g. {'X-Api-Key': '…'} for a"
        " reverse proxy in front of it. They are never shown.",
    ).tag(config=True)
    comfyui_client_cert = Unicode(
        "",
        help="PEM file with the certificate that the server at comfyui_url asks clients for, and"
        " its key unless comfyui_client_key names another file.",
    ).tag(config=True)
    comfyui_client_key = Unicode("", help="PEM file with the key of comfyui_client_cert.").tag(
        config=True
    )
    comfyui_ca = Unicode(
        "",
        help="PEM file with the authorities that sign the certificate of the server at comfyui_url."
        " Empty: those that the system trusts.",
    ).tag(config=True)
    comfyui_path = Unicode(
        "",
        help="Folder of a ComfyUI on this machine: the one that contains main.py. The extension"
        " starts it and restarts it after a crash. If comfyui_url is set too, nothing is started,"
        " and this folder is only used to find models and outputs.",
    ).tag(config=True)
    comfyui_python = Unicode(
        "",
        help="The Python interpreter that runs ComfyUI. Empty: the interpreter of a virtual"
        " environment in ComfyUI's folder, or else Jupyter's own if torch is installed in it.",
    ).tag(config=True)
    launch_args = List(
        Unicode(),
        help="Additional command line arguments for ComfyUI's main.py, e.g. ['--lowvram'].",
    ).tag(config=True)
    autostart = Bool(
        True,
        help="Whether ComfyUI is found or started when Jupyter starts. If not, this happens at the"
        " first request that needs ComfyUI.",
    ).tag(config=True)
    comfyui_page = Bool(
        True,
        help="Whether ComfyUI's own page is available at comfyui/ below Jupyter's address, for"
        " users who may run workflows.",
    ).tag(config=True)
    comfyui_timeout = Float(
        30.0, min=0.1, help="Longest time in seconds to wait for ComfyUI's answer to one request."
    ).tag(config=True)
    comfyui_start_timeout = Float(
        300.0,
        min=1.0,
        help="Longest time in seconds to wait until a ComfyUI that the extension started answers.",
    ).tag(config=True)
    stuck_after = Float(
        0.0,
        min=0.0,
        help="Seconds after which a ComfyUI that the extension started is restarted if it has"
        " prompts but does nothing at all: no event about a prompt, and no work on the CPU or an"
        " NVIDIA GPU. The run that it was executing fails, waiting runs continue. 0: never. Nodes"
        " that wait for a service or a slow download may seem to do nothing: choose a time that is"
        " longer than they take.",
    ).tag(config=True)
    comfyui_lost_after = Float(
        30.0,
        min=0.1,
        help="Seconds without a connection to ComfyUI after which the run that it was executing"
        " fails. If ComfyUI comes back earlier, the result of the run is requested from it. If the"
        " process of ComfyUI was seen on this machine and it refuses connections, it has ended: its"
        " run fails within 5 seconds.",
    ).tag(config=True)
    comfyui_gone_after = Float(
        600.0,
        min=0.1,
        help="Seconds without a connection to ComfyUI after which the runs that wait in its queue"
        " fail. The same time holds for the run that it was executing if ComfyUI may still be"
        " running but does not answer.",
    ).tag(config=True)
    comfyui_trusted_users = List(
        Unicode(),
        help="Users of this machine, by name or number, whose ComfyUI may be used, in addition to"
        " Jupyter's own user and root. An example is the user of a container. '*': any process that"
        " listens at ComfyUI's port is used.",
    ).tag(config=True)
    mcp_write = Bool(
        False,
        help="Whether agents that reach jupyter-server-mcp, which asks for no token, may start and"
        " cancel runs, download models and free memory; otherwise they may only read.",
    ).tag(config=True)
    keep_runs = Dict(
        key_trait=Enum(["days", "number", "bytes", "files"]),  # a wrong name would keep all runs
        per_key_traits={
            "days": Float(min=0.0),
            "number": Int(min=0),
            "bytes": Int(min=0),
            "files": Bool(),
        },
        help="The limits beyond which the oldest runs are deleted, once an hour; by default all"
        " runs are kept. days: the age of a run; number: how many runs are kept; bytes: the size of"
        " their output files. The output files of these runs are deleted with them, unless files is"
        " False or something else uses them. Runs that are pinned or have a star stay, and do not"
        " count. Example: {'days': 30, 'bytes': 50000000000}.",
    ).tag(config=True)
    editor_runs = Bool(
        True,
        help="Whether the runs that ComfyUI's editor has queued are listed, too. For that,"
        " ComfyUI's history is read.",
    ).tag(config=True)
    data_dir = Unicode(
        help="Folder of the store (comfydeploy.db), ComfyUI's log (comfyui.log) and the snapshots."
        " Default: the folder comfydeploy in Jupyter's data folder."
    ).tag(config=True)
    extra_roots = List(
        Unicode(),
        help="Additional folders from which the routes may read files, such as a shared cache of"
        " models.",
    ).tag(config=True)
    max_json_size = Int(64 * MIB, min=1024, help="Largest JSON body of a request, in bytes.").tag(
        config=True
    )
    max_upload_size = Int(
        0,
        min=0,
        help="Largest body of an upload, in bytes. 0: the only limit is the free space on the"
        " disk.",
    ).tag(config=True)
    fsync_uploads = Bool(
        False,
        help="Whether an upload is answered only after its files are safely on the disk, so that"
        " they survive a power failure. Uploads then wait for the disk.",
    ).tag(config=True)
    api_key = Unicode(
        "",
        help="API key of the ComfyDeploy service. The variable COMFY_DEPLOY_API_KEY is read, too.",
    ).tag(config=True)
    comfy_api_key = Unicode(
        "",
        help="API key of a Comfy account (platform.comfy.org), which partner nodes need. It is sent"
        " to ComfyUI with each run whose request has no key. The variable COMFY_API_KEY is read,"
        " too.",
    ).tag(config=True)
    comfy_account_proxy = Unicode(
        "",
        help="Address of a proxy for the sign-in of a Comfy account. The hosts that the sign-in"
        " needs (identitytoolkit.googleapis.com, securetoken.googleapis.com, api.comfy.org) are"
        " then reached below it, as in <address>/api.comfy.org/customers. Empty: directly.",
    ).tag(config=True)
    cloud_url = Unicode(
        "https://api.comfydeploy.com/api",
        help="Address of the ComfyDeploy API. It must be listed in allowed_api_urls.",
    ).tag(config=True)
    comfydeploy_url = Unicode(
        "https://www.comfydeploy.com",
        help="Address of ComfyDeploy's web site. Users sign in there, and the routes below"
        " comfydeploy/ forward its pages.",
    ).tag(config=True)
    cloud_timeout = Float(
        30.0,
        min=0.1,
        help="Longest time in seconds to wait for ComfyDeploy's answer to one request.",
    ).tag(config=True)
    allowed_api_urls = List(
        Unicode(),
        ["https://api.comfydeploy.com", "https://www.comfydeploy.com"],
        help="Addresses that may receive a ComfyDeploy API key.",
    ).tag(config=True)

    machine_token = Unicode(
        "",
        help="Token with which ComfyDeploy may use this server as a machine: the token that is set"
        " for the machine at ComfyDeploy. ComfyDeploy's calls of `run` are then accepted without"
        " Jupyter's token. Use a long random value. Empty: ComfyDeploy has no access.",
    ).tag(config=True)
    max_concurrent_uploads = Int(
        3,
        min=1,
        help="How many uploads run at the same time. The same number of model downloads can run in"
        " addition.",
    ).tag(config=True)
    huggingface_url = Unicode(
        "https://huggingface.co", help="Address of Hugging Face, or of a mirror of it."
    ).tag(config=True)
    huggingface_token = Unicode(
        "",
        help="Token for models of Hugging Face that require one. The variable HF_TOKEN is read,"
        " too.",
    ).tag(config=True)
    civitai_url = Unicode(
        "https://civitai.com", help="Address of Civitai, or of a mirror of it."
    ).tag(config=True)
    civitai_token = Unicode(
        "",
        help="API key for models of Civitai that require one. The variable CIVITAI_API_KEY is read,"
        " too.",
    ).tag(config=True)

    clusters = Dict(
        help="Dask clusters on which ComfyUIs may be started, by name. A value is the address of a"
        " scheduler; a dict with `scheduler`, `tls_ca_file`, `tls_client_cert` and"
        " `tls_client_key`; a Dask cluster object; or a function that returns one and is called"
        " when the cluster is first needed. See the page about clusters."
    ).tag(config=True)
    cluster_idle_timeout = Float(
        600.0,
        min=1.0,
        help="Seconds without a prompt after which a ComfyUI on a cluster ends, so that its worker"
        " is free. While Jupyter is connected to the scheduler, a pool keeps as many ComfyUIs as"
        " the first number of its `workers`, even if they are idle.",
    ).tag(config=True)
    cluster_allow_plain_tcp = Bool(
        False,
        help="Whether Dask schedulers, and ComfyUIs on their workers, may be used without TLS, also"
        " on this machine. Everyone who reaches such a scheduler, on this machine each of its"
        " users, can run programs on the cluster; and a program that takes the port of a scheduler"
        " that has ended can run programs as you. Use it only where you trust all of them.",
    ).tag(config=True)

    offline = Bool(
        False,
        help="Whether downloads from other machines are forbidden: models, input files that are"
        " given as a web address, and cloudflared. The installer of ComfyUI reads this setting from"
        " the variable COMFYDEPLOY_OFFLINE only. A request that needs a download gets the error"
        " `offline`.",
    ).tag(config=True)

    cloudflared_path = Unicode(
        "",
        help="The cloudflared program that makes tunnels. Empty: the one on PATH, or else one that"
        " was downloaded before.",
    ).tag(config=True)
    cloudflared_download = Bool(
        False,
        help="Whether cloudflared is downloaded from its release if it is not installed; otherwise"
        " the user has to agree to each download. The file is compared with the SHA-256 of the"
        " release.",
    ).tag(config=True)
    cloudflared_release_url = Unicode(
        "https://api.github.com/repos/cloudflare/cloudflared/releases/latest",
        help="Address of the description of the cloudflared release that is downloaded, in the"
        " format of GitHub's API. It can be a mirror.",
    ).tag(config=True)
    tunnel_timeout = Float(
        60.0,
        min=0.1,
        help="Longest time in seconds from the start of a tunnel until it is reachable.",
    ).tag(config=True)
    tunnel_protocol = Enum(
        ["auto", "quic", "http2"],
        "auto",
        help="Protocol between cloudflared and Cloudflare. Use http2 if the network blocks UDP port"
        " 7844: with auto, cloudflared tries QUIC first, which takes time.",
    ).tag(config=True)
    tunnel_gate_port = Int(
        0,
        min=0,
        max=65535,
        help="Port on 127.0.0.1 of the gate in front of ComfyUI. 0: any free port. A named tunnel"
        " that is configured at Cloudflare needs a fixed port, because its service must lead to"
        " this port.",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sockets: set[EventSocket] = set()
        self.requests: set[Handler] = set()  # those without a reply yet
        self.document: bytes | None = None  # `openapi.json`
        self._mount: Mount | None = None  # with the routes; set when Jupyter is there
        self._services: Services | None = None
        self.overview: Overview  # available after `open_services`
        self._to_log: JupyterLog | None = None
        self._changing = asyncio.Lock()  # held while the services are opened or closed
        self._opening: asyncio.Task[None] | None = None
        self.tasks = BackgroundTasks(log)  # of the extension and of open sockets
        self._read_environment()

    @default("data_dir")
    def _default_data_dir(self) -> str:
        return str(Path(jupyter_data_dir()) / "comfydeploy")

    @validate("api_key", "comfy_api_key", "huggingface_token", "civitai_token")
    def _check_key(self, proposal: Any) -> str:
        """Return a key without the white space around it, which a file may add."""
        key: str = proposal["value"].strip()
        if key and not is_key(key):
            name = proposal["trait"].name
            raise TraitError(f"{name} must be one line of ASCII text without spaces")
        return key

    @property
    def services(self) -> Services:
        """The services; available after `open_services`."""
        if self._services is None:
            raise RuntimeError("the services are not open")
        return self._services

    def initialize_settings(self) -> None:
        """Pass this extension to its handlers, and its log records to Jupyter's log."""
        self.settings["comfydeploy"] = self
        assert self.serverapp is not None
        for handler in [one for one in package_log.handlers if isinstance(one, JupyterLog)]:
            package_log.removeHandler(handler)  # from an earlier server in this process
        self._to_log = JupyterLog(self.serverapp.log)
        package_log.addHandler(self._to_log)
        package_log.propagate = False
        if package_log.level == logging.NOTSET:
            package_log.setLevel(_written_from(self.serverapp.log))
        assert self.serverapp.event_logger is not None
        for name in EVENTS:
            self.serverapp.event_logger.register_event_schema(EVENT_SCHEMAS / f"{name}.yaml")

    @default("static_paths")
    def _default_static_paths(self) -> list[str]:
        return [str(Path(__file__).parent / "widgets" / "static")]  # the scripts of panels

    def initialize_handlers(self) -> None:
        """Mount every route."""
        assert self.serverapp is not None
        self._mount = Mount(self.serverapp.web_app)

    async def open_services(self) -> None:
        """Build and open the services, once.

        Large packages are imported in a thread, because the user's kernels need the event loop.
        """
        if self._services is not None:
            return
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._open_services())
        # If they cannot be opened, for example because the store is locked, all callers get the
        # error.
        await asyncio.shield(self._opening)

    async def _open_services(self) -> None:
        async with self._changing:
            if self._services is None:
                require_posix("The server extension comfydeploy_jupyter")
                services = await asyncio.to_thread(self._build)
                await services.open()
                self._services = services
                from . import metrics
                from .handlers.overview import Overview

                self.overview = Overview(services, self.tasks)
                self._unwatch = metrics.watch(self._readings)
                self.tasks.keep(self._look_for_work, "Looking for runs that have not ended")

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        """Open the services in the background, so that Jupyter does not wait."""
        self.tasks.start(self._open_early(), "The start of ComfyDeploy")

    async def stop_extension(self) -> None:
        """Close all services; a ComfyUI that this server has started ends, too."""
        async with self._changing:
            services, self._services = self._services, None
            await self.tasks.close()
            if services is not None:
                self._unwatch()
                await services.close()
        if self._to_log is not None and self._to_log in package_log.handlers:
            package_log.removeHandler(self._to_log)
            package_log.propagate = True

    def note_activity(self) -> None:
        """Report activity to Jupyter, for programs that end idle servers."""
        assert self.serverapp is not None
        times = self.serverapp.web_app.settings["last_activity_times"]
        times[self.name] = datetime.now(timezone.utc)

    @property
    def base_url(self) -> str:
        """Jupyter's base URL, with a slash at both ends."""
        return "/" if self.serverapp is None else str(self.serverapp.base_url)

    @property
    def root_dir(self) -> Path | None:
        """Jupyter's root directory."""
        return None if self.serverapp is None else Path(self.serverapp.root_dir)

    @property
    def folder(self) -> Path:
        """The `data_dir`."""
        return Path(self.data_dir).expanduser()

    def emit(self, name: str, data: dict[str, Any]) -> None:
        """Emit an event to Jupyter's event system; a fault of a listener is only logged."""
        events = None if self.serverapp is None else self.serverapp.event_logger
        if events is None:
            return
        try:
            events.emit(schema_id=EVENTS[name], data=data)
        except Exception:
            log.exception("An event of %s could not be emitted", name)

    async def _look_for_work(self) -> None:
        """Count runs and transfers as activity: they can take hours without any request."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            if self.requests or self.services.at_work():
                self.note_activity()

    def _readings(self) -> Iterator[metrics.Reading]:
        from .metrics import Reading

        yield from self.services.readings()
        yield Reading("comfydeploy_websocket_clients", (), len(self.sockets))

    async def _open_early(self) -> None:
        try:
            await self.open_services()
        except ComfyDeployError as exc:
            self.log.error("ComfyDeploy could not be started: %s", exc)  # noqa: TRY400 - the message says all

    def _build(self) -> Services:
        if self._mount is not None:
            self._mount.load()
        from .services import Services

        return Services(self)

    def jupyter_origin(self) -> Origin:
        """Return the address of this Jupyter for a tunnel, and whether Jupyter requires a token."""
        from .tunnel.tunnels import Origin

        app = self.serverapp
        assert app is not None
        if app.sock:
            raise InvalidRequestError.of_field(
                "target", "Jupyter listens at a socket file, which no tunnel can reach"
            )
        host = "127.0.0.1" if app.ip in ("", "*", "localhost", "0.0.0.0", "::") else app.ip  # noqa: S104 - not bound
        scheme = "https" if app.certfile else "http"
        return Origin(
            f"{scheme}://{f'[{host}]' if ':' in host else host}:{app.port}",
            app.port,
            path=app.base_url,
            own_protection=bool(app.identity_provider.auth_enabled),
        )

    def admit_host(self, name: str, admitted: bool) -> None:
        """Make Jupyter accept requests for the public host name of a tunnel, or reject them.

        A Jupyter that listens only on this machine rejects all other host names, against DNS
        rebinding.
        """
        assert self.serverapp is not None
        known = self.serverapp.web_app.settings["local_hostnames"]
        if admitted:
            known.append(name)
        elif name in known:
            known.remove(name)

    def _read_environment(self) -> None:
        """Read settings from the environment; configuration files and arguments override them."""
        for name, trait in self.class_own_traits(config=True).items():
            text = os.environ.get(f"{ENV_PREFIX}{name.upper()}")
            if not text and name in OTHER_VARIABLES:
                text = _key_of(OTHER_VARIABLES[name])
            if text is not None:
                setattr(self, name, _from_text(trait, text))


def _key_of(variable: str) -> str | None:
    """Return the key in a variable of the environment that is for other programs, too."""
    key = os.environ.get(variable, "").strip()
    if key and not is_key(key):
        log.warning("%s is ignored: it is not one line of ASCII text without spaces", variable)
        return None
    return key or None


def _from_text(trait: TraitType[Any, Any], text: str) -> Any:
    if isinstance(trait, List):
        return shlex.split(text)
    if isinstance(trait, Bool):
        return is_true(text)
    return trait.from_string(text)
