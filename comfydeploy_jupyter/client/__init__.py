"""The Python client of the routes, for notebooks, scripts and the panels."""

from __future__ import annotations

from .comfy import Comfy
from .comfy_account import AccountStatus, ComfyAccount
from .deletion import Deletion
from .discovery import connect
from .editor_workflow import EditorWorkflow
from .events import Event, RunProgress
from .fetched_models import FetchedModels, WorkflowModel
from .files import Model
from .graph import NodeName
from .inputs import Inputs
from .machines import Machine, Machines
from .models import Models, ModelUses
from .names import UnknownNameError
from .node import Node
from .output_files import Images, OutputFile
from .presets import Preset, Presets
from .results import Result
from .runs import Run, StoryEntry
from .snapshots import Snapshot
from .stored_runs import Runs
from .stream import EventStream
from .sweep import Point, Sweep, SweepProgress
from .tunnel import Tunnel, TunnelStatus
from .validation import Validation
from .workflow import Workflow
from .workflows import StoredWorkflow, Workflows, WorkflowVersion

__all__ = [
    "AccountStatus",
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
    "OutputFile",
    "Point",
    "Preset",
    "Presets",
    "Result",
    "Run",
    "RunProgress",
    "Runs",
    "Snapshot",
    "StoredWorkflow",
    "StoryEntry",
    "Sweep",
    "SweepProgress",
    "Tunnel",
    "TunnelStatus",
    "UnknownNameError",
    "Validation",
    "Workflow",
    "WorkflowModel",
    "WorkflowVersion",
    "Workflows",
    "connect",
]
