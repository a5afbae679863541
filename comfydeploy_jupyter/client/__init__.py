"""The Python client of the routes, for notebooks, scripts and the panels."""

from __future__ import annotations

from ..graphs.outline import NodeName
from .account import AccountStatus, ComfyAccount
from .comfy import Comfy
from .discovery import connect
from .files import Model
from .machines import Machine, Machines
from .models import FetchedModels, Models, ModelUses, WorkflowModel
from .packs import NodePack, NodePacks
from .proofs import RunRecord, SweepVerification, Verification
from .results import Images, OutputFile, Result, RunOutput, RunOutputs
from .runs import Deletion, Run, Runs, StoryEntry
from .snapshots import Snapshot
from .stream import Event, EventStream, RunProgress
from .sweep import Batches, Point, Sweep, SweepProgress
from .tunnel import Tunnel, TunnelStatus
from .workflow import Inputs, Node, UnknownNameError, Validation, Workflow
from .workflows import (
    EditorWorkflow,
    Preset,
    Presets,
    StoredWorkflow,
    Workflows,
    WorkflowVersion,
)

__all__ = [
    "AccountStatus",
    "Batches",
    "Comfy",
    "ComfyAccount",
    "Deletion",
    "EditorWorkflow",
    "Event",
    "EventStream",
    "FetchedModels",
    "Images",
    "Inputs",
    "Machine",
    "Machines",
    "Model",
    "ModelUses",
    "Models",
    "Node",
    "NodeName",
    "NodePack",
    "NodePacks",
    "OutputFile",
    "Point",
    "Preset",
    "Presets",
    "Result",
    "Run",
    "RunOutput",
    "RunOutputs",
    "RunProgress",
    "RunRecord",
    "Runs",
    "Snapshot",
    "StoredWorkflow",
    "StoryEntry",
    "Sweep",
    "SweepProgress",
    "SweepVerification",
    "Tunnel",
    "TunnelStatus",
    "UnknownNameError",
    "Validation",
    "Verification",
    "Workflow",
    "WorkflowModel",
    "WorkflowVersion",
    "Workflows",
    "connect",
]
