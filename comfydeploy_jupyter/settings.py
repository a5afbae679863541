"""The configuration of all services."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .compat.comfydeploy import DEFAULT_SITE, DEFAULT_URL
from .machines.dask import ClusterSettings
from .machines.settings import MachineSettings
from .runs.deletion import KEEP_ALL, KeepRuns
from .transfers.downloads import ModelSites
from .tunnel.tunnels import TunnelSettings
from .util.system import FetchPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .runs.announcing import Emit
    from .tunnel.tunnels import Origin


@dataclass(frozen=True)
class Settings:
    """The configuration of the services.

    Attributes
    ----------
    data_dir : pathlib.Path
        Folder of the store and the logs.
    base_url : str
        Jupyter's base URL, with a slash at both ends.
    local : MachineSettings
        The default machine.
    autostart : bool
        Whether the local ComfyUI is found, or started, when Jupyter starts.
    lost_after, gone_after : float
        Seconds without ComfyUI after which executing runs, and waiting runs, fail.
    keep_runs : KeepRuns
        The limits beyond which old runs are deleted.
    editor_runs : bool
        Whether the runs of ComfyUI's editor are stored.
    fsync_uploads : bool
        Whether the reply to an upload is sent only when its files would survive a power failure.
    allowed_api_urls : tuple of str
        The addresses that may receive a ComfyDeploy API key.
    api_key : str or None
        The configured ComfyDeploy API key.
    comfy_api_key : str or None
        The configured key of a Comfy account, for partner nodes.
    comfy_account_proxy : str
        Address through which the sign-in of a Comfy account is requested; empty: directly.
    cloud_url : str
        Address of the ComfyDeploy API.
    site_url : str
        Address of ComfyDeploy's web site.
    cloud_timeout : float
        Seconds that ComfyDeploy has to answer.
    clusters : ClusterSettings
        The clusters on which machines may be started.
    max_concurrent_uploads : int
        Number of concurrent transfers in each direction.
    sites : ModelSites
        The sites that models are downloaded from.
    fetching : FetchPolicy
        Whether files may be downloaded from other machines.
    tunnel : TunnelSettings
        The settings of tunnels.
    emit : callable or None
        Emits an event to Jupyter's event system: the name of its schema, and the data.
    jupyter : callable or None
        Returns the address that a tunnel to Jupyter exposes.
    admit_host : callable or None
        Called with a public host name of Jupyter, and whether it is added or removed.
    """

    data_dir: Path
    base_url: str = "/"
    local: MachineSettings = field(default_factory=MachineSettings)
    autostart: bool = True
    lost_after: float = 30.0
    gone_after: float = 600.0
    keep_runs: KeepRuns = KEEP_ALL
    editor_runs: bool = True
    fsync_uploads: bool = False
    allowed_api_urls: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    comfy_api_key: str | None = field(default=None, repr=False)
    comfy_account_proxy: str = ""
    cloud_url: str = DEFAULT_URL
    site_url: str = DEFAULT_SITE
    cloud_timeout: float = 30.0
    clusters: ClusterSettings = field(default_factory=ClusterSettings)
    max_concurrent_uploads: int = 3
    sites: ModelSites = field(default_factory=ModelSites)
    fetching: FetchPolicy = field(default_factory=FetchPolicy)
    tunnel: TunnelSettings = field(default_factory=TunnelSettings)
    emit: Emit | None = None
    jupyter: Callable[[], Origin] | None = None
    admit_host: Callable[[str, bool], object] | None = None
