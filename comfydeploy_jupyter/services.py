"""Builds all services from the configuration; opens and closes them in order."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yarl import URL

from .batches.records import BatchRepository
from .batches.service import Batches
from .comfyui.client import Credentials as ComfyUICredentials
from .comfyui.client import check_headers, split_address
from .compat.comfy_account import ComfyAccount
from .compat.comfy_assets import AssetRepository, Assets
from .compat.comfy_jobs import JobRepository, Jobs
from .compat.comfydeploy import Account, CloudAccess, CloudClient, Credentials, WebProxy
from .errors import ComfyDeployError
from .files.hashes import Hasher
from .files.models import DirectoryCache, ModelFiles, ModelListing, end_reservations
from .files.pictures import Pictures
from .files.thumbnails import Thumbnails
from .files.uploads import Uploads, UploadTarget, clean_spool, remove_orphans
from .machines.dask import DaskKind
from .machines.outputs import KeptOutputs
from .machines.pool import Pools
from .machines.records import MachineRecords
from .machines.registry import AUTO, MachineRegistry
from .machines.service import MachineService, find_origin
from .machines.settings import MachineSettings
from .metrics import Reading
from .proofs.batches import BatchVerifier, VerificationRepository
from .proofs.handing_over import Receipts
from .proofs.records import ProvenanceRepository
from .proofs.service import Provenance
from .proofs.verify import Verifier
from .runs.deletion import DeletionRepository, KeepRuns
from .runs.delivery import Delivery
from .runs.editor import EditorPrompts
from .runs.inputs import PoolInputs
from .runs.records import ACTIVE, RunRepository
from .runs.service import RunService
from .snapshots.service import Snapshots
from .store.database import Database
from .store.session import Session
from .transfers.downloads import ModelSites
from .transfers.queue import OPEN, Transfers
from .tunnel.tunnels import Tunnels
from .util import worker
from .util.sockets import by_number
from .util.system import FetchPolicy
from .util.tasks import BackgroundTasks, close_each
from .workflows.convert import to_api
from .workflows.editing import Editing
from .workflows.node_packs import NodePacks
from .workflows.remote_options import RemoteOptions
from .workflows.store import CloudWorkflows, LocalWorkflows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .comfyui.folders import Folders
    from .compat.comfydeploy import CloudAccount
    from .extension import ComfyDeploy
    from .machines.machine import Machine
    from .tunnel.tunnels import Origin, Target, TunnelOptions

log = logging.getLogger(__name__)

RECOVER_INTERVAL = 10.0  # seconds between checks for servers that have exited


class Services:
    """All services of one Jupyter server; those without a value are set by `open`."""

    runs: RunService
    machine_service: MachineService  # creates, describes, updates and deletes machines
    pools: Pools  # creates, describes, updates and deletes pools
    transfers: Transfers  # uploads, downloads and callbacks
    snapshots: Snapshots  # environments for Docker and ComfyDeploy
    batches: Batches  # many runs of one workflow
    provenance: Provenance  # with what runs were made
    verifier: Verifier  # whether runs can be made again
    batch_verifier: BatchVerifier  # the same of all points of batches
    receipts: Receipts  # what runs made, to hand over
    jobs: Jobs  # runs as jobs, and files as assets
    _session: Session

    def __init__(self, settings: ComfyDeploy) -> None:
        self.settings = settings
        self.folder = folder = settings.folder
        self.fetching = FetchPolicy(settings.offline)
        self._local_machine = _local_machine(settings)
        self.credentials = Credentials(folder / "credentials.json")
        self.comfy_account = ComfyAccount(
            Credentials(folder / "comfy_account.json"),
            Credentials(folder / "comfy_sign_in.json"),
            settings.comfy_api_key or None,
            proxy=settings.comfy_account_proxy,
            fetching=self.fetching,
        )
        self.cloud = CloudClient(
            settings.cloud_url,
            access=CloudAccess(tuple(settings.allowed_api_urls), settings.api_key or None),
            timeout=settings.cloud_timeout,
        )
        self.site = WebProxy(settings.comfydeploy_url, reply_timeout=settings.cloud_timeout)
        self.database = Database(folder / "comfydeploy.db")
        self.machines = MachineRegistry()
        self.dask = DaskKind(settings)
        self.kept_outputs = KeptOutputs(folder / "outputs", self.machines)
        self.pool_inputs = PoolInputs(self.machines, folder / "pool_inputs")
        self.machine_records = MachineRecords(self.database)
        self.hasher = Hasher(self.database)
        self._directories = DirectoryCache()
        self.model_files = ModelFiles(self.database, self.machines, self.hasher, self._directories)
        self.thumbnails = Thumbnails()
        self.pictures = Pictures(self.database, self.machines, self.kept_outputs)
        self.uploads = Uploads(fsync=settings.fsync_uploads)
        self._spool = folder / "outbox"
        self.local_workflows = LocalWorkflows(self.database, self._to_api)
        self.editing = Editing(self.database, self.local_workflows, self.machines)
        self.remote_options = RemoteOptions(self.fetching)
        self.node_packs = NodePacks()
        self.tunnels = Tunnels(
            folder / "tunnel",
            settings,
            find=self._tunnel_origin,
            on_url=self._tunnel_moved,
        )
        self.instance = uuid.uuid4().hex
        self._opened = False
        self._lock = asyncio.Lock()
        self._cleaned: set[Path] = set()
        self._tasks = BackgroundTasks(log)

    def workflows(self, account: CloudAccount | None = None) -> LocalWorkflows | CloudWorkflows:
        """Return the workflows of the local store or, for an account, those in ComfyDeploy."""
        return self.local_workflows if account is None else CloudWorkflows(account, self._to_api)

    async def open(self) -> None:
        """Open all services, or none of them; a second call waits for the first one."""
        async with self._lock:
            if not self._opened:
                try:
                    await self._open()
                except BaseException:
                    await self._close()
                    raise
                self._opened = True

    async def close(self) -> None:
        """Close all services in the reverse order, each of them whatever the others do."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        self._opened = False
        made = vars(self).get
        services = (
            *(self._tasks, self.node_packs, self.editing, self.tunnels, made("provenance")),
            *(made("batch_verifier"), made("verifier"), made("snapshots")),
            *(self.uploads, self.hasher, made("batches"), made("runs"), made("transfers")),
            *(made("pools"), self.machines, self.database, made("_session"), self.cloud),
            *(self.comfy_account, self.site, self.remote_options),
        )
        await close_each(*(service.close for service in services if service is not None))

    def readings(self) -> Iterator[Reading]:
        """Yield the gauges for `metrics`, all of them from memory."""
        runs = self.runs.active.by_status()
        for machine in self.machines:
            labels = (machine.id,)
            yield Reading("comfydeploy_comfyui_up", labels, machine.connected)
            paused = self.machines.pause_of(machine.id) is not None
            yield Reading("comfydeploy_machine_paused", labels, paused)
            connection, process = machine.connection, machine.process
            if connection is not None and machine.connected:
                remaining = connection.queue_remaining
                if remaining is not None:
                    yield Reading("comfydeploy_comfyui_queue_length", labels, remaining)
            if connection is not None and connection.last_event_at is not None:
                yield Reading(
                    "comfydeploy_comfyui_last_event_timestamp_seconds",
                    labels,
                    connection.last_event_at,
                )
            if process is not None:
                yield Reading("comfydeploy_comfyui_restarts", labels, process.restarts)
            for status in ACTIVE:
                count = runs[machine.id, status]
                yield Reading("comfydeploy_open_runs", (machine.id, status), count)
        for pool in (self.machines.all_machines, *self.machines.pools):
            for status in ACTIVE:
                if pool.id != AUTO or runs[pool.id, status]:
                    yield Reading("comfydeploy_open_runs", (pool.id, status), runs[pool.id, status])
        transfers = self.transfers.queue.open_states()
        for direction in ("up", "down"):
            for state in OPEN:
                count = transfers[direction, state]
                yield Reading("comfydeploy_open_transfers", (direction, state), count)
        yield Reading("comfydeploy_waiting_callbacks", (), self.transfers.callbacks.waiting)
        for target, (up, restarts) in self.tunnels.states().items():
            yield Reading("comfydeploy_tunnel_up", (target,), up)
            yield Reading("comfydeploy_tunnel_restarts", (target,), restarts)

    def at_work(self) -> bool:
        """Return whether stopping this server would interrupt any work.

        All prompts of a ComfyUI count, also those of other clients, if this ComfyUI ends with the
        server.
        """
        return (
            self.runs.at_work
            or self.batches.at_work
            or self.batch_verifier.at_work
            or bool(self.transfers.queue.open_states())
            or self.transfers.callbacks.is_delivering
            or self.snapshots.at_work
            or self.node_packs.at_work
            or any(machine.executes_here for machine in self.machines)
        )

    async def sign_in(self, request_id: str, api_url: str | None) -> str:
        """Request the key of a sign-in from ComfyDeploy, store it, and return its owner.

        CloudError has the status 404 until the sign-in is approved, 410 after it has expired.
        """
        answer = await self.cloud.sign_in(request_id, api_url)
        account = Account(answer["api_key"], answer["name"])
        await asyncio.to_thread(self.credentials.keep, account)
        self.cloud.access.signed_in_key = account.api_key
        return account.name

    async def models(self, machine_id: str | None) -> ModelListing:
        """Return the model files of a machine: from its folders if known, else from its API."""
        machine = self.machines.get(machine_id)
        folders = await self._folders(machine)
        client = await machine.ready() if folders is None else machine.reachable_client()
        return ModelListing(folders, client, self._directories)

    async def upload_target_of_pools(self) -> UploadTarget:
        """Return the target of uploads to a pool: a folder of this server."""
        return UploadTarget(await self.pool_inputs.folders())

    async def upload_target(self, machine: Machine) -> UploadTarget:
        """Return the target of an upload to a machine: its folders if known, else its API."""
        folders = await self._folders(machine)
        if folders is not None:
            self._clean(folders)
            return UploadTarget(folders)
        return UploadTarget.remote(self._spool, await machine.ready())

    async def _tunnel_origin(self, options: TunnelOptions, start: bool) -> Origin:
        return await find_origin(options, self.machines, self.settings.jupyter_origin, start=start)

    def _tunnel_moved(self, target: Target, old: str | None, new: str | None) -> None:
        if target == "jupyter":
            for url, admitted in ((old, False), (new, True)):
                if url is not None:
                    self.settings.admit_host(URL(url).host or "", admitted)

    async def _to_api(self, workflow: Any) -> Any:
        """Convert a workflow that is saved without its graph in API format, if possible."""
        definitions = await self.machines.get().definitions()
        return await worker.run(to_api, workflow, definitions)

    async def _folders(self, machine: Machine) -> Folders | None:
        """Return a machine's folders, or None if they are not on this machine."""
        if machine.path is None:
            await machine.ready()  # only after this the address of its ComfyUI is known
        await machine.learn_categories()
        folders = await machine.folders()
        return folders if folders.base is not None else None

    async def _remove_leftovers(self, machine: Machine) -> None:
        """Delete the hashes of missing files, and incomplete uploads of killed servers."""
        for folder in (self._spool, self.kept_outputs.incomplete):
            with suppress(OSError):
                await asyncio.to_thread(clean_spool, folder)
        with suppress(ComfyDeployError):
            folders = await self._folders(machine)
            if folders is not None:
                self._clean(folders)
        with suppress(ComfyDeployError):  # last, since it waits for every disk
            await self.hasher.prune()

    def _clean(self, folders: Folders) -> None:
        assert folders.base is not None
        if folders.base not in self._cleaned:
            self._cleaned.add(folders.base)
            self._tasks.start(
                self._remove_orphans(folders), "Removing files from uploads of killed servers"
            )

    async def _remove_orphans(self, folders: Folders) -> None:
        if count := await asyncio.to_thread(remove_orphans, folders):
            log.info("Removed %d uploads that were never completed", count)
        await asyncio.to_thread(end_reservations, folders, self._directories)

    async def _open(self) -> None:
        await self.database.open()
        await self.tunnels.open()
        settings, folder = self.settings, self.folder
        self._session = await asyncio.to_thread(Session, folder / "sessions")
        await self.comfy_account.open()
        account = await asyncio.to_thread(self.credentials.load)
        self.cloud.access.signed_in_key = account.api_key if account is not None else None
        repository = RunRepository(self.database)
        self.transfers = Transfers(
            self.database,
            self._session,
            self.machines,
            self.cloud.access.key_for,
            sites=ModelSites(
                settings.huggingface_url.rstrip("/"),
                settings.civitai_url.rstrip("/"),
                settings.huggingface_token or None,
                settings.civitai_token or None,
            ),
            fetching=self.fetching,
            max_concurrent=settings.max_concurrent_uploads,
        )
        tokens = {
            "hf_token": settings.huggingface_token,
            "civitai_token": settings.civitai_token,
        }
        self.snapshots = Snapshots(
            folder / "snapshots",
            self.machines,
            self.hasher,
            self.transfers,
            self.local_workflows,
            {name: token for name, token in tokens.items() if token},
        )
        delivery = Delivery(self.transfers, self.machines, repository)
        self.runs = RunService(
            repository,
            DeletionRepository(self.database),
            self.machines,
            self._session,
            delivery,
            self.kept_outputs,
            editor_prompts=EditorPrompts(self.database) if settings.editor_runs else None,
            keep=KeepRuns(**settings.keep_runs),
            stored_version=self.local_workflows.version,
            account=self.comfy_account,
            fetching=self.fetching,
            emit=settings.emit,
            inputs=self.pool_inputs,
            view_url=f"{settings.base_url}comfyui-deploy/view",
            settings=settings,
        )
        batches = BatchRepository(self.database)
        self.batches = Batches(
            batches,
            self.runs,
            self.machines,
            self._session,
            self.transfers.callbacks,
            self.pictures,
            stored_version=self.local_workflows.version,
        )
        self.provenance = Provenance(
            ProvenanceRepository(self.database),
            self.machines,
            self.hasher,
            self.snapshots,
            self.kept_outputs,
            self.pictures,
            self.runs.active,
            self._session,
            self.transfers,
        )
        self.verifier = Verifier(self.provenance, self.runs, repository, self.machines)
        self.batch_verifier = BatchVerifier(
            VerificationRepository(self.database),
            batches,
            self.verifier,
            self.runs,
            self._session,
        )
        self.receipts = Receipts(folder, self.provenance, self.runs, self.machines)
        assets = AssetRepository(self.database)
        self.jobs = Jobs(
            self.runs,
            repository,
            JobRepository(self.database),
            self.machines,
            Assets(assets, self.machines, self.hasher, self.kept_outputs),
        )
        self.machine_service = MachineService(
            self.machine_records,
            self.machines,
            self._local_machine,
            autostart=settings.autostart,
            data_dir=folder,
            client_id=self._session.id,
            listener=self.runs.listener,
        )
        await self.machine_service.open()
        self.pools = Pools(
            self.machine_records,
            self.machines,
            self.machine_service.make,
            self.runs.listener,
            defaults=self._local_machine,
            dask=self.dask,
        )
        self.pools.open()
        await self.transfers.open()
        await delivery.open()
        await self.runs.open()
        await self.batches.open()
        self.provenance.open()
        await self.batch_verifier.open()
        self._tasks.keep(
            partial(self._recover, delivery, set()),
            "Recovering the work of servers that have ended",
        )
        self.machine_service.start()
        self.pools.start()
        if settings.autostart:
            self._tasks.start(
                self._remove_leftovers(self.machines.get()),
                "Removing files that are no longer needed",
            )

    async def _recover(self, delivery: Delivery, sessions: set[str]) -> None:
        """Recover runs, transfers and messages of exited servers with this data folder."""
        while True:
            await asyncio.sleep(RECOVER_INTERVAL)
            sessions |= await asyncio.to_thread(self._session.claim)
            if sessions:
                await delivery.recover_orphans(await self.transfers.recover(sessions))
                await self.runs.recover_orphans(sessions)
                await self.batches.recover(sessions)
                await self.batch_verifier.recover(sessions)
                await self.pools.find_members()
                sessions.clear()


def _local_machine(settings: ComfyDeploy) -> MachineSettings:
    """Return the settings of the machine `local`, from which other machines take their defaults."""
    address, authorization = split_address(settings.comfyui_url)
    return MachineSettings(
        comfyui_url=address,
        credentials=ComfyUICredentials(
            check_headers(settings.comfyui_headers),
            authorization,
            settings.comfyui_client_cert,
            settings.comfyui_client_key,
            settings.comfyui_ca,
        ),
        comfyui_path=settings.comfyui_path,
        comfyui_python=settings.comfyui_python,
        launch_args=tuple(settings.launch_args),
        request_timeout=settings.comfyui_timeout,
        start_timeout=settings.comfyui_start_timeout,
        stuck_after=settings.stuck_after,
        jupyter_root=settings.root_dir,
        extra_roots=tuple(Path(folder).expanduser() for folder in settings.extra_roots),
        trusted_users=by_number(settings.comfyui_trusted_users),
    )
