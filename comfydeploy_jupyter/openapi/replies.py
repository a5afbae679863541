"""What the routes answer.

The handlers send what the rooms return; the tests hold every reply of theirs against these models,
so that none has a key which is not here. Models that are open pass on what ComfyUI, ComfyDeploy or
a driver says, whose further keys are theirs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..schemas import Status, TunnelTarget
from ..snapshots.snapshot import Snapshot


class Reply(BaseModel):
    """Base of all replies."""


class OpenReply(Reply):
    """Base of replies with further keys."""

    model_config = ConfigDict(extra="allow")


class Success(Reply):
    """What most routes that do something answer with."""

    success: Literal[True]


class ErrorReply(OpenReply):
    """Every error; further keys, such as ``hint`` or ``prompt_id``, go with some codes.

    Errors of ``volume/…`` also have the message as ``detail``.
    """

    success: Literal[False]
    error: str
    code: str
    message: str
    details: dict[str, Any]


# -- runs --------------------------------------------------------------------------------------


class RunError(OpenReply):
    """Why a run failed."""

    type: str | None
    message: str | None
    node_id: str | None
    node_type: str | None


class RunReply(Reply):
    """A run: its state and, once it has ended, its outputs by node."""

    success: bool
    prompt_id: str
    number: float | None
    status: Status
    node_errors: dict[str, Any]
    outputs: dict[str, dict[str, Any]]
    error: RunError | None
    seeds: dict[str, int]
    execution_time: float | None
    cached_nodes: list[str]
    node_times: dict[str, float]
    machine: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    next_seeds: dict[str, int] = Field(default_factory=dict)
    workflow_id: str = ""
    version: int = 1
    warnings: list[str] = Field(default_factory=list)
    inputs: dict[str, Any] = Field(default_factory=dict)
    live_status: str = ""
    progress: float = 0.0
    current_node: str | None = None
    time_left: float | None = None


class StreamEvent(Reply):
    """One message of a ``text/event-stream``; ``data`` is one JSON object."""

    id: str
    event: Literal["event_update"]
    data: Annotated[
        str,
        Field(
            json_schema_extra={
                "contentMediaType": "application/json",
                "contentSchema": {
                    "type": "object",
                    "properties": {"event": {"type": "string"}, "data": {"type": "object"}},
                },
            }
        ),
    ]


class InterruptReply(Success):
    """Which run is cancelled."""

    message: str
    prompt_id: str
    was: Literal["queued", "running"]


# -- models and files --------------------------------------------------------------------------


class ModelEntry(Reply):
    """A model file; size and time are null where only ComfyUI's API tells of it."""

    name: str
    folder: str
    path: str
    size: int | None
    modified: float | None


class FilenameLists(Reply):
    """The names of model files by folder."""

    filename_list: dict[str, list[str]]


class FileHash(Reply):
    """The hash of a file."""

    filename: str
    file_hash: str
    algorithm: Literal["sha256"]
    size: int
    cached: bool


class FileSystem(Reply):
    """A file system, in bytes."""

    total: int
    used: int
    free: int


class FileStat(Reply):
    """One path and the file system it is on."""

    path: str
    type: Literal["file", "directory"]
    size: int
    modified: float
    filesystem: FileSystem


class UploadedFile(Reply):
    """A file that was uploaded, under the name that it got."""

    filename: str
    name: str
    subfolder: str
    type: str
    size: int
    content_type: str
    file_hash: str
    reused: bool
    url: str | None


class UploadReply(UploadedFile, Success):
    """The first file that was uploaded and, of several, all of them."""

    files: list[UploadedFile] = Field(default_factory=list)


class SentFile(Success):
    """A file of this machine that was sent to ComfyDeploy."""

    message: str
    download_url: str | None


class Transfer(Reply):
    """An upload or a download; sizes in bytes."""

    id: str
    direction: Literal["up", "down"]
    prompt_id: str | None
    node_id: str | None
    filename: str
    size: int | None
    sent: int
    state: Literal["queued", "active", "retrying", "done", "failed", "cancelled"]
    attempts: int
    error: str | None


class TransferCounts(Reply):
    """How many transfers wait, are open, and are under way."""

    queue_size: int
    pending_uploads: int
    active: int


class UploadQueue(TransferCounts):
    """All that is on its way."""

    completed: int
    failed: int
    cancelled: int
    max_concurrent: int
    uploads: list[Transfer]


class CancelledUploads(Success):
    """How many transfers were stopped."""

    cancelled: int


class RetriedUploads(Success):
    """Which transfers begin anew."""

    retried: int
    uploads: list[Transfer]


class UploadedPart(Reply):
    """A part that the storage has confirmed."""

    etag: str = Field(alias="eTag")
    bytes_sent: int = Field(alias="bytesSent")


class VolumeModelList(Success):
    """The models in ComfyUI's folders."""

    models: list[ModelEntry]


class VolumeModelAdded(Transfer, Success):
    """A model that is on its way."""

    message: str
    path: str = ""
    target: str = ""


class VolumeModelChanged(Success):
    """A model that was moved or deleted."""

    message: str
    path: str = ""


class CloudAnswer(OpenReply):
    """What ComfyDeploy answers, as it answers it."""


# -- graphs ------------------------------------------------------------------------------------


class Converted(Success):
    """A workflow in another format, under the name of that format."""

    from_: Literal["api", "ui"] = Field(alias="from")
    to: Literal["api", "ui", "notebook", "python"]
    workflow_api: dict[str, Any] | None = None
    workflow: dict[str, Any] | None = None
    notebook: dict[str, Any] | None = None
    python: str | None = None
    warnings: list[str]


class MissingNode(OpenReply):
    """A class of nodes that ComfyUI lacks."""

    class_type: str | None
    node_ids: list[Any]
    pack: str | None = None
    needs: str | None = None


class MissingModel(OpenReply):
    """A model file that ComfyUI lacks."""

    name: str
    folder: str | None
    node_id: Any
    input: str


class ModelUse(OpenReply):
    """Where a workflow names a model file."""

    node_id: Any
    input: str


class WorkflowModel(Reply):
    """A model file that a workflow names; `size` in bytes, null where it was not asked for."""

    name: str
    folder: str | None
    path: str | None
    url: str | None
    size: int | None
    sha256: str | None
    pickle: bool
    state: Literal["present", "missing", "fetching", "no_link", "unused", "refused"]
    problem: str | None
    nodes: list[ModelUse]
    transfer: str | None


class FetchedModels(Success):
    """The models of a workflow, and the downloads of those that were missing."""

    dry_run: bool
    offline: bool
    models: list[WorkflowModel]
    transfers: list[Transfer]
    missing_nodes: list[MissingNode]
    warnings: list[str]


class DefinitionsOrigin(Reply):
    """Where the node definitions are from that decided."""

    source: Literal["live", "cached", "bundled"]
    comfyui_version: str | None


class Judgement(Reply):
    """What ComfyUI would answer to a graph; ``error`` and ``node_errors`` are as it words them."""

    valid: bool
    error: dict[str, Any] | None
    node_errors: dict[str, Any]
    outputs: list[Any]
    missing_nodes: list[MissingNode]
    missing_models: list[MissingModel]
    warnings: list[str]
    definitions: DefinitionsOrigin


# -- status ------------------------------------------------------------------------------------


class ComfyUIStatus(Reply):
    """What is known of a ComfyUI without asking it."""

    reachable: bool
    url: str | None
    version: str | None
    version_note: str | None
    managed: bool
    path: str = ""
    state: str = ""
    pid: int | None = None
    restarts: int = 0
    last_exit: int | None = None
    log: str = ""
    passed_over: str | None = None
    error: str | None = None
    hint: str | None = None


class QueueCounts(Reply):
    """How many of our runs execute and wait."""

    running: int
    pending: int


class TunnelSummary(Reply):
    """A tunnel without what opens it."""

    running: bool
    url: str | None
    target: TunnelTarget
    port: int | None
    protected: bool
    state: str
    error: str | None


class StoreStatus(Reply):
    """Where the records are; ``warnings`` are sentences for the user."""

    path: str
    journal: Literal["wal", "delete", "truncate", "persist", "memory", "off"]
    warnings: list[str]


class ServiceStatus(Reply):
    """How the service is; ``degraded`` while ComfyUI is out of reach."""

    status: Literal["ok", "degraded"]
    version: str
    instance: str
    comfyui: ComfyUIStatus
    queue: QueueCounts
    uploads: TransferCounts
    tunnel: TunnelSummary
    store: StoreStatus


class SocketStatus(Reply):
    """Whether events flow."""

    connected: bool
    clients: int
    last_event_at: str | None
    remaining_queue: int = 0


class ComfyUIVersion(Success):
    """Which ComfyUI runs or is installed; ``latest`` is what ComfyDeploy says is newest.

    ``comfyui_hash`` is its commit of ComfyUI.
    """

    version: str | None
    commit: str | None
    source: Literal["running", "installed"]
    latest: Any = None
    comfyui_hash: str | None = None


class ComfyUILog(Reply):
    """The last lines of a ComfyUI that was started here."""

    path: str
    lines: list[str]


class NodeDefinition(OpenReply):
    """A class of nodes, as ComfyUI describes it."""


# -- workflows ---------------------------------------------------------------------------------


class WorkflowSummary(OpenReply):
    """A workflow; ComfyDeploy tells more of its own, and no numbers of versions in its lists."""

    id: str
    workflow_id: str
    name: str | None
    machine_id: str | None
    created_at: str | None
    updated_at: str | None
    latest_version: int | None
    versions: Any = None


class VersionSummary(OpenReply):
    """A version without its graphs."""

    id: str
    workflow_id: str
    version: int
    comment: str
    created_at: str | None


class VersionDetails(VersionSummary):
    """A version with its graphs."""

    workflow: dict[str, Any] | None
    workflow_api: dict[str, Any] | None


class ListedWorkflow(WorkflowSummary):
    """A workflow with the number of its versions."""

    versions: int | None


class WorkflowDetails(WorkflowSummary):
    """A workflow with the graphs of its latest version."""

    version: int | None
    comment: str | None
    workflow: dict[str, Any] | None
    workflow_api: dict[str, Any] | None
    versions: list[VersionDetails]


class SavedWorkflow(ListedWorkflow, Success):
    """A workflow that was saved."""

    version: int | None
    created: bool
    new_version: bool


class SavedVersion(VersionDetails, Success):
    """The version that has the content; ``created`` says whether it is new."""

    created: bool


# -- machines ----------------------------------------------------------------------------------


class MachineSummary(Reply):
    """A machine in short."""

    id: str
    name: str
    kind: Literal["managed", "comfyui", "cloud"]
    status: str | None
    gpu: Any
    url: str | None = None
    version: str | None = None
    work: int = 0
    error: str | None = None


class Hardware(Reply):
    """What a machine is made of; sizes in bytes. Null and empty where it is not told."""

    cpu: dict[str, Any] | None
    memory: dict[str, int | None] | None
    gpus: list[dict[str, Any]]
    disks: list[dict[str, Any]]


class MachineReply(Reply):
    """A machine; of one in ComfyDeploy, ``config`` has what the service says."""

    id: str
    name: str
    kind: Literal["managed", "comfyui", "cloud"]
    status: str | None
    hardware: Hardware
    software: dict[str, Any]
    config: dict[str, Any]
    restart_required: bool
    work: int = 0


class MachineUpdated(Success):
    """A machine after a change; ``id`` is its id, for the node's web plug-in."""

    id: str
    machine: MachineReply
    restart_required: bool


class MachineCreated(Success):
    """A new machine; ``id`` is its id too, for the node's web plug-in."""

    id: str
    machine_id: str
    machine: MachineReply


class MachineDeleted(Success):
    """Which machine is forgotten."""

    machine_id: str


class SnapshotReply(Success):
    """An environment, and what recreates it; without ``path`` where ComfyDeploy made the steps.

    ``steps`` are those of ``docker_command_steps``, where ComfyDeploy made them.
    """

    steps: list[Any] | None = None
    docker_command_steps: dict[str, Any]
    snapshot: Snapshot
    warnings: list[str]
    path: str = ""
    dockerfile: str = ""
    image: str = ""
    log: str = ""


# -- tunnels and signing in --------------------------------------------------------------------


class Tunnel(Reply):
    """How a tunnel is; ``access_url`` has the secret of the gate, for who may ``write``."""

    running: bool
    url: str | None
    access_url: str | None
    port: int | None
    target: TunnelTarget
    machine: str | None
    protected: bool
    protection: Literal["gate", "jupyter", "none"]
    state: str
    error: str | None
    hint: str | None
    details: dict[str, Any]
    named: bool = False
    started_at: str | None = None
    restarts: int = 0
    log: str = ""


class TunnelReply(Tunnel, Success):
    """The tunnel that was asked for; without a target the one that there is, and all of them."""

    tunnels: dict[TunnelTarget, Tunnel] = Field(default_factory=dict)
    message: str = ""


class SignedIn(Success):
    """The user has approved; the key is kept here."""

    authenticated: Literal[True]
    name: str


class ComfyAccount(Reply):
    """Whether there is a key of a Comfy account, and where it is from."""

    has_key: bool
    source: Literal["kept", "configured"] | None


class ComfyAccountKept(ComfyAccount):
    """The key was kept, or forgotten."""

    success: Literal[True]


class MemoryChange(Reply):
    """Bytes that are free before and after, and how many more that are."""

    before: int
    after: int
    freed: int


class MemoryFreed(Success):
    """How much memory ComfyUI gave up; `pending`: it will, after the prompt that it executes."""

    machine: str
    pending: bool
    gpu: MemoryChange
    ram: MemoryChange


class SignInPending(Success):
    """The user has not approved yet; ``auth_url`` is the page for that."""

    authenticated: Literal[False]
    status: Literal["pending"]
    auth_url: str
